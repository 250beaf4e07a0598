"""The commands: parse, call, print. The only code that prints or exits.

Exit codes: 0 done, 1 a problem told in one line, 2 wrong usage, 130 interrupted, 143 terminated.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from dida_cli import __version__
from dida_cli.cli import (
    benchmark,
    console,
    convert,
    data,
    edit,
    evaluate,
    export,
    models,
    page,
    study,
    train,
)
from dida_cli.errors import DidaError

app = typer.Typer(
    name="dida",
    help="Move onto a picture just what a guide has and it has not: these glasses, that smile.",
    epilog="Start: dida transfer --content face.png --guide-b glasses.png -o result.png",
    pretty_exceptions_enable=False,
)
app.command("transfer")(edit.transfer)
app.command("remove-attribute")(edit.remove_attribute)
app.command("interpolate")(edit.interpolate)
app.command("segment")(edit.segment)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("download")(models.download)
app.command("push")(models.push)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.command("page")(page.page)
app.command("doctor")(models.doctor)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.add_typer(benchmark.app, name="benchmark")


def _version(wanted: bool) -> None:
    if wanted:
        console.out(f"dida {__version__}")
        raise typer.Exit


@app.callback()
def dida(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no network, as HF_HUB_OFFLINE=1 does.")
    ] = False,
) -> None:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console.show_warnings_as_notes()
    try:
        if "" in arguments:
            raise DidaError("an argument is empty; is a variable of your shell not set?")
        code = app(
            arguments or ["--help"],
            prog_name="dida",
            obj=arguments,  # a model card quotes what was typed
            standalone_mode=False,
        )
    except DidaError as error:
        console.note(str(error))
        code = 1
    except typer.TyperException as error:  # wrong usage: Typer's own words, on one line
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "dida"
        words = " ".join(error.format_message().replace("Value error, ", "").split())
        console.note(f"{words} See {command} --help")
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:  # of a path that no system call takes, as one of 300 letters
        console.note(f"{error.filename or 'dida'}: {error.strerror or error}")
        code = 1
    console.end()
    raise SystemExit(code or 0)
