"""The commands of the user study: make, score."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.evaluate import PAIRS_SEED
from dida_cli.cli.options import JsonOpt
from dida_cli.config import DEFAULT_MODEL
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.evaluate.study import Entrant, Key, Way

app = typer.Typer(
    help="Ask people what edits are worth: a blind study as one web page.", no_args_is_help=False
)


@app.command()
def make(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled model's name, a model folder, or a run's folder; repeat to compare.",
            show_default=DEFAULT_MODEL,
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=1, max=500, help="Pairs of content and guide, each way.")
    ] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Which pairs, in which order.")
    ] = PAIRS_SEED,  # as `evaluate`: faces that no training drew
    content: Annotated[
        Path | None,
        typer.Option(
            help="Folder of contents; default: each guide folder's are the other's contents."
        ),
    ] = None,
    guide_a: Annotated[
        Path | None, typer.Option(help="Folder of guides of domain A; default: drawn avatars.")
    ] = None,
    guide_b: Annotated[
        Path | None, typer.Option(help="Folder of guides of domain B; default: drawn avatars.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Page to write; its key goes beside it.")
    ] = Path("study.html"),
    as_json: JsonOpt = False,
) -> None:
    """Write a web page that asks of every edit: part removed, part added, identity preserved?

    Raters answer offline and send back the file that the page exports.
    Keep the .key.json from them: it tells which result is of which model.
    """
    from dida_cli import images
    from dida_cli.evaluate import study

    if out.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"-o must end in .html, not {out.name!r}.")
    entrants = [_entrant(name) for name in models or [DEFAULT_MODEL]]
    ways = _ways(entrants, pairs, seed, (content, guide_a, guide_b))
    with console.progress("editing", "pictures") as report:
        page, key = study.make(entrants, ways, seed=seed, on_progress=report)
    key_file = _key_file(out, key)
    images.write_bytes(key.to_json().encode(), key_file)
    images.write_bytes(page.encode(), out)
    if as_json:
        told = {"output": str(out), "key": str(key_file), "study": key.study}
        console.out_json(told | {"items": len(key.items), "questions": key.questions})
    else:
        console.note(f"{key.questions} questions; keep {key_file} from the raters")
        console.out(str(out))


def _entrant(name: str) -> "Entrant":
    from dida_cli import checkpoint, hub
    from dida_cli.evaluate.study import Entrant

    folder = models.folder_of(name)
    return Entrant(name, hub.fingerprint(folder), checkpoint.load(folder))


def _ways(
    entrants: "Sequence[Entrant]", pairs: int, seed: int, folders: Sequence[Path | None]
) -> "list[Way]":
    """The pairs to ask about: of the folders given, or else drawn."""
    from dida_cli.evaluate import study

    content, guide_a, guide_b = folders
    if any(folders):
        return study.folder_ways(pairs, seed, content=content, guide_a=guide_a, guide_b=guide_b)
    for name, _, model in entrants:
        if (domains := model.config.domains) != study.DRAWN:
            raise DidaError(
                f"avatars are drawn for {study.DRAWN.a} and {study.DRAWN.b}, {name} knows "
                f"{' and '.join(map(domains.of, domains.parts))}; give --guide-a FOLDER and "
                "--guide-b FOLDER"
            )
    return study.drawn_ways(pairs, seed)


def _key_file(page: Path, key: "Key") -> Path:
    """Where the key goes. Raises DidaError rather than replace the key of another study."""
    from dida_cli.evaluate import study

    path = page.with_suffix(".key.json")
    if path.exists() and study.read_key(path).study != key.study:
        raise DidaError(f"{path}: is the key of another study; write to another file with -o")
    return path


@app.command()
def score(
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS...", help="Files that raters exported.")
    ],
    key: Annotated[Path, typer.Option(help="The .key.json beside the page that was rated.")],
    as_json: JsonOpt = False,
) -> None:
    """Give the mean opinion score with its interval, by model, direction and question."""
    from dida_cli import __version__
    from dida_cli.evaluate import study

    known = study.read_key(key)
    read = [study.read_answers(path, known) for path in answers]
    result = {"dida": __version__} | study.score(known, read)
    for one in read:
        if missing := known.questions - one.count:
            console.note(f"{one.path}: {missing} of {known.questions} questions are unanswered")
    if as_json:
        console.out_json(result)
    else:
        _print_table(result)


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    screen = Console()
    for model, directions in result["scores"].items():
        table = Table("question", *map(escape, directions), title=Text(model), title_justify="left")
        for question in result["questions"]:
            table.add_row(question, *(_told(cells[question]) for cells in directions.values()))
        screen.print(table)
    given = result["asked"] - result["missing"]
    raters = f"{result['raters']} rater{'' if result['raters'] == 1 else 's'}"
    screen.print(f"{raters}, {given} of {result['asked']} questions answered", soft_wrap=True)
    for name, meaning in (result["questions"] | result["definitions"]).items():
        screen.print(f"{name}: {meaning}", soft_wrap=True)


def _told(score: dict[str, Any]) -> str:
    """`4.30 ± 0.21 (40)`: mean, interval, number of ratings."""
    if score["mean"] is None:
        return "-"
    spread = "" if score["interval"] is None else f" ± {score['interval']:.2f}"
    return f"{score['mean']:.2f}{spread} ({score['ratings']})"
