"""The commands about models themselves: download, push, models, doctor."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli import __version__
from dida_cli.cli import console
from dida_cli.cli.options import JsonOpt
from dida_cli.config import CONFIG, DEFAULT_MODEL, read_config
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.hub import Entry, Progress

LEAST_FREE = 200_000_000  # bytes on the disk: a model and some pictures

app = typer.Typer(help="List, check and remove models.", no_args_is_help=False)

NameArg = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name of dida models list, or a folder.")
]


@contextmanager
def download_bar() -> "Iterator[Progress]":
    """What shows a download as a bar, once there is one."""
    with ExitStack() as stack:
        bars: list[console.Report] = []

        def show(done: int, total: int, words: str) -> None:
            if not bars:
                bars.append(stack.enter_context(console.progress("downloading", "kB")))
            bars[0](done // 1000, total // 1000, words)

        yield show


def folder_of(name: str, *, update: bool = False) -> Path:
    """The folder of a model as `hub.resolve` finds it, with a bar while it is downloaded."""
    from dida_cli import hub

    with download_bar() as show:
        return hub.resolve(name, update=update, on_progress=show)


def download(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="A published name, org/repo, or org/repo@revision."),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit, as org/repo@REVISION.")
    ] = None,
) -> None:
    """Fetch models from the Hugging Face Hub, check every file, and print their folders.

    dida transfer -m does so by itself, once: from then on it keeps to the commit it has seen.
    Download again to move on to the newest.
    """
    for name in models:
        if revision and ("@" in name or "/" not in name):
            raise typer.BadParameter(f"--revision goes with org/repo, not with {name}.")
        try:
            console.out(str(folder_of(f"{name}@{revision}" if revision else name, update=True)))
        except KeyboardInterrupt:
            again = f"dida download {shlex.join(models)}"
            console.note(f"interrupted; whole files are kept, {again} fetches the rest")
            raise


def push(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder or run, with its card.")
    ],
    repository: Annotated[
        str, typer.Argument(metavar="ORG/REPO", help="Where to; made if it does not exist.")
    ],
    bundle: Annotated[
        bool,
        typer.Option("--bundle", help="Of a run, also critic, optimizers and state, to train on."),
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Publish a model with its card on the Hugging Face Hub, as one commit.

    HF_TOKEN, or hf auth login, must allow writing. What does not load as a model is refused.
    """
    from dida_cli import hub

    folder = folder_of(model)
    extra = _training_state(Path(model)) if bundle else {}
    pin = hub.push(folder, repository, extra, private)
    if as_json:
        console.out_json(pin.to_json())
    else:
        console.out(f"{pin.repository}@{pin.commit}")


def _training_state(folder: Path) -> dict[str, Path | bytes]:
    """What it takes to go on with a run, by file name. Raises DidaError when it is not whole."""
    from dida_cli import run, training

    recipe, begun = run.recorded(folder)
    last = run.last_of(folder)
    training.resumed(recipe, last)
    begun = replace(begun, command=f"dida train {run.RECIPE}", root=Path(begun.root).name)
    state = {name: last / name for name in (run.STATE, run.PROGRESS)}
    return {**state, **run.files(recipe.placeless, begun)}


@app.command("list")
def list_models(as_json: JsonOpt = False) -> None:
    """What -m takes by name: bundled, published, and repositories that were used before."""
    from dida_cli import hub

    entries = hub.known()
    if as_json:
        told = [_told(entry) | {"about": _about(entry)} for entry in entries]
        console.out_json({"models": told})
        return
    for entry in entries:
        where = "here" if entry.folder else f"dida download {shlex.quote(entry.name)}"
        console.out(f"{entry.name}\t{entry.kind}\t{where}\t{_about(entry)}")


def _about(entry: "Entry") -> str:
    """What a model does, in a line, and on what pictures."""
    from dida_cli import recipe

    if entry.kind == "bundled" and entry.name in recipe.names():
        wanted = recipe.values_of(entry.name)
        return f"{wanted['about']}; {wanted['method']}, {wanted['stages'][-1]['side']} px"
    if not entry.folder:
        return ""
    config = read_config(entry.folder / CONFIG)
    names = " and ".join(config.domains.of(part) for part in config.parts)
    return f"{names}; {config.method}, {config.side} px"


@app.command()
def info(model: NameArg, as_json: JsonOpt = False) -> None:
    """What a model is: its method with all settings, its parts, size, origin, sha256."""
    from dida_cli import hub

    entry = hub.find(model)
    told = _told(entry)
    if entry.folder:
        told |= read_config(entry.folder / CONFIG).to_json()
        told["parameters"] = hub.parameters(entry.folder)
        told["sha256"] = hub.fingerprint(entry.folder)
    if as_json:
        console.out_json(told)
        return
    for key, value in told.items():
        console.out(f"{key}\t{_words(value)}")


@app.command()
def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Which; all that are here if none is given."),
    ] = None,
) -> None:
    """Check that models load, and that every downloaded file has the sha256 it must have."""
    from dida_cli import hub

    entries = [hub.find(name) for name in models or ()]
    wrong: list[str] = []
    for entry in entries or [entry for entry in hub.known() if entry.folder]:
        try:
            hub.verify(entry)
            console.out(f"{entry.name}\tok")
        except DidaError as error:
            wrong.append(str(error))
    if wrong:
        raise DidaError("; ".join(wrong))


@app.command()
def path(model: NameArg) -> None:
    """The folder of a model."""
    from dida_cli import hub

    console.out(str(hub.folder_of(hub.find(model))))


@app.command()
def remove(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="As dida models list says.")],
) -> None:
    """Delete downloaded models from the cache, and what was recorded of them."""
    from dida_cli import hub

    for entry in [hub.find(name) for name in models]:
        hub.remove(entry)
        console.out(entry.name)


def _told(entry: "Entry") -> dict[str, Any]:
    told: dict[str, Any] = {"name": entry.name, "kind": entry.kind}
    if entry.pin:
        told |= {"repository": entry.pin.repository, "commit": entry.pin.commit}
    return told | {"folder": str(entry.folder) if entry.folder else None}


def _words(value: Any) -> str:
    """A value for people: settings as name=value."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items() if one != "")
    return str(value)


def doctor(as_json: JsonOpt = False) -> None:
    """Check this installation: versions, device, cache, bundled models, and one edit.

    Leaves with 1 when something is broken.
    """
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "device": _device,
        "cache": _cache,
        "models": _bundled,
        "self-test": _self_test,
    }
    told: dict[str, str] = {}
    broken: list[str] = []
    for name, check in checks.items():
        try:
            told[name] = check()
        except Exception as error:  # whatever is wrong with an installation, the rest is told too
            told[name] = str(error) if isinstance(error, DidaError) else repr(error)
            broken.append(name)
        if not as_json:
            console.out(f"{'broken' if name in broken else 'ok'}\t{name}\t{told[name]}")
    if as_json:
        console.out_json({"ok": not broken, "broken": broken} | told)
    if broken:
        raise DidaError(f"{', '.join(broken)}: broken; see the lines above")


def _versions() -> str:
    from importlib.metadata import version
    from platform import python_version

    packages = ("torch", "safetensors", "huggingface_hub", "numpy", "pillow")
    found = [f"{package} {version(package)}" for package in packages]
    return ", ".join([f"dida {__version__}", f"python {python_version()}", *found])


def _device() -> str:
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} in use"


def _cache() -> str:
    from shutil import disk_usage
    from tempfile import TemporaryFile

    from dida_cli import hub

    folders = (hub.home(), hub.cache())
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            words = f"{folder}: cannot be written ({error.strerror})"
            raise DidaError(f"{words}; set DIDA_HOME to a folder that can be") from None
    free = disk_usage(hub.cache()).free
    if free < LEAST_FREE:
        raise DidaError(f"{free / 1e9:.1f} GB free; make room, or set DIDA_HOME to another disk")
    return ", ".join([*map(str, folders), f"{free / 1e9:.1f} GB free"])


def _bundled() -> str:
    from dida_cli import checkpoint, hub
    from dida_cli.evaluate import attributes

    for name in hub.names():
        checkpoint.load(hub.BUNDLED / name)
    attributes.load(hub.BUNDLED / hub.JUDGE)
    return ", ".join([*hub.names(), hub.JUDGE])


def _self_test() -> str:
    import time

    import numpy as np

    from dida_cli import editor

    model = editor.load(DEFAULT_MODEL)
    began = time.perf_counter()
    model.remove(np.zeros((256, 256, 3), np.uint8))
    return f"{DEFAULT_MODEL} edits a picture in {time.perf_counter() - began:.2f} s"
