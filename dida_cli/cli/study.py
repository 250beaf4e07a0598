"""The commands of the user study: make, score."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.evaluate import PAIRS_SEED, print_tables
from dida_cli.cli.options import JsonOpt, ModelsOpt
from dida_cli.config import DEFAULT_MODEL
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.evaluate.study import Entrant, Key

app = typer.Typer(
    help="Ask people what edits are worth: a blind study as one web page.", no_args_is_help=False
)


@app.command()
def make(
    models: ModelsOpt = None,
    pairs: Annotated[
        int, typer.Option(min=1, max=500, help="Pairs of content and guide, each way.")
    ] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Which pairs, in which order.")
    ] = PAIRS_SEED,  # as `evaluate`: faces that no training drew
    content: Annotated[
        Path | None, typer.Option(help="Folder of contents; default: the other domain's guides.")
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
    if content or guide_a or guide_b:
        ways = study.folder_ways(pairs, seed, content=content, guide_a=guide_a, guide_b=guide_b)
    else:
        ways = study.drawn_ways(entrants, pairs, seed)
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
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from dida_cli.evaluate.tables import Table

    for model, ways in result["scores"].items():
        rows = [[q, *(_told(cells[q]) for cells in ways.values())] for q in result["questions"]]
        print_tables([Table(model, ["question", *ways], rows)])
    given = result["asked"] - result["missing"]
    raters = f"{result['raters']} rater{'' if result['raters'] == 1 else 's'}"
    console.out(f"{raters}, {given} of {result['asked']} questions answered")
    for name, meaning in (result["questions"] | result["definitions"]).items():
        console.out(f"{name}: {meaning}")


def _told(score: dict[str, Any]) -> str:
    """`4.30 ± 0.21 (40)`: mean, interval, number of ratings."""
    if score["mean"] is None:
        return "-"
    spread = "" if score["interval"] is None else f" ± {score['interval']:.2f}"
    return f"{score['mean']:.2f}{spread} ({score['ratings']})"
