"""The commands that make and look at training data: avatars, digits, split, check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console
from dida_cli.cli.options import (
    EYEGLASSES,
    SMILING,
    JsonOpt,
    PartAOpt,
    PartBOpt,
    SplitByOpt,
    WithOpt,
    WithoutOpt,
    refuse_expressions,
)
from dida_cli.config import SIDES, Fit
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.data.check import Seen, Survey
    from dida_cli.data.folders import Names

app = typer.Typer(help="Make, split and check training pictures.", no_args_is_help=False)

SHOWN = 8  # examples of each set on a sheet
SideOpt = Annotated[
    int, typer.Option(min=SIDES[0], max=SIDES[1], help="Side of a picture in pixels.")
]


@app.command()
def avatars(
    out: Annotated[Path, typer.Option(help="Folder to draw into.")] = Path("avatars"),
    count: Annotated[int, typer.Option(min=1, max=999_999, help="How many faces.")] = 24_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Which faces; the same seed, the same bytes.")
    ] = 0,
    side: SideOpt = 128,
) -> None:
    """Draw faces whose smile, glasses and beard are known, in the layout of CelebA.

    Goes on where it was stopped. All cores are used; 24,000 faces take some minutes.
    """
    from dida_cli.data.avatars import write_set

    with console.progress("drawing", "faces") as report:
        write_set(out, count=count, seed=seed, side=side, on_progress=report)
    console.out(str(out))


@app.command()
def digits(
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("digits"),
    mnist: Annotated[
        Path | None, typer.Option(help="A .npz of x and y; default: the repository's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which digits are drawn.")] = 0,
) -> None:
    """Digits in two domains, handwritten and drawn as numbers of houses, with a table of labels."""
    drawn_digits(out, mnist, seed)
    console.out(str(out))


def drawn_digits(out: Path, mnist: Path | None = None, seed: int = 0) -> None:
    """Write both domains of digits, where their table is not there yet."""
    from dida_cli.data import digits as core

    if not (out / core.TABLE).is_file():
        with console.progress("drawing", "digits") as report:
            core.write_set(out, mnist or core.ARCHIVE, seed=seed, on_progress=report)


@app.command()
def split(
    data: Annotated[
        Path,
        typer.Option(help="Folder with list_attr_celeba.txt and its pictures, or CelebA's own."),
    ] = Path("avatars"),
    a: Annotated[str, typer.Option(help="What A has: an attribute, or an expression.")] = SMILING,
    b: Annotated[
        str, typer.Option(help="What B has: an attribute, or an expression.")
    ] = EYEGLASSES,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    out: Annotated[
        Path, typer.Option(help="New folder to hold trainA, trainB, testA, testB.")
    ] = Path("split"),
    link: Annotated[bool, typer.Option(help="Link to the pictures instead of copying.")] = False,
) -> None:
    """Sort pictures into exclusive domains: A has --a and lacks --b, B the other way round.

    An expression names attributes with not, and, or, (): --a "Mustache or Goatee or not No_Beard".
    Pictures of the list's validation part are left out, as nothing learned may have seen them.
    """
    from dida_cli import recipe
    from dida_cli.data import folders, sources

    parts = recipe.chosen("domains", a, b, having or [], lacking or [])
    found = sources.split(sources.located(data), {"a": recipe.sides(parts)["a"]})
    wanted = {
        "trainA": found.train.having("a"),
        "trainB": found.train.lacking("a"),
        "testA": found.test.having("a"),
        "testB": found.test.lacking("a"),
    }
    if out.exists() and any(out.iterdir()):
        raise DidaError(f"{out}: is not empty; choose another folder with --out")
    with console.progress("copying", "pictures") as report:
        folders.write_folders(out, wanted, link=link, on_progress=report)
    for name, files in wanted.items():
        console.out(f"{out / name}\t{len(files)}")


@app.command()
def check(
    data: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="What dida train takes as --data.")
    ] = Path("avatars"),
    a: PartAOpt = None,
    b: PartBOpt = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    split_by: SplitByOpt = None,
    side: SideOpt = 128,
    fit: Annotated[Fit, typer.Option(help="How a picture becomes square.")] = "crop",
    batch: Annotated[int, typer.Option(min=1, help="Pictures of each set in a step.")] = 8,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Also write examples as the model sees them, a row for each set."),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Tell what a training would see, before hours are spent on it.

    A folder holds trainA and trainB, or a list or table of labels; then pictures with a part are
    those its expression is true of, and those without it the others. Leaves with 1, and one line on
    why, when the training would be refused. More than 256 MB of decoded pictures are kept below
    DIDA_HOME, where the training finds them.
    """
    from dida_cli import hub
    from dida_cli.data import check as core
    from dida_cli.data import sources

    data = sources.located(data)
    parts = _parts(data, a, b, having or [], lacking or [])
    cache = hub.home() / "pictures"
    found = sources.split(data, parts, split_by or "")
    with console.progress("looking", "pictures") as report:
        survey = core.survey(found, side, fit, batch, report, cache=cache)
    if sheet:
        _write_examples(survey, sheet)
    if as_json:
        console.out_json(_told(survey))
    else:
        _tell(survey, side, cache)
    if survey.verdict.refused:
        raise DidaError(survey.verdict.refused[0])


def _parts(
    data: Path, a: str | None, b: str | None, having: list[str], lacking: list[str]
) -> "Names":
    """What is with and without each part. Raises a usage error for what `data` has no labels of."""
    from dida_cli import recipe
    from dida_cli.data import sources

    if not sources.is_labelled(data):
        refuse_expressions(data, a, b, having, lacking)
        return sources.DOMAINS
    other = b or ("" if a else EYEGLASSES)
    return recipe.sides(recipe.chosen("parts", a or SMILING, other, having, lacking))


def _told(survey: "Survey") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ok": not survey.verdict.refused,
        "refused": survey.verdict.refused,
        "warnings": survey.verdict.noted,
        "sets": {
            kind: {name: asdict(seen) for name, seen in sets.items()}
            for kind, sets in survey.sets.items()
        },
        "imbalance": round(survey.imbalance, 3),
        "bytes_in_memory": survey.bytes_in_memory,
        "bytes_on_disk": survey.bytes_on_disk,
    }


def _tell(survey: "Survey", side: int, cache: Path) -> None:
    for kind, sets in survey.sets.items():
        for name, seen in sets.items():
            console.out(f"{kind}, {name}\t{_words(seen, side)}")
    console.out(f"imbalance\t{survey.imbalance:.1f} to 1")
    told = {"memory": survey.bytes_in_memory, "disk": survey.bytes_on_disk}
    for where, size in told.items():
        there = f", in {cache}" if where == "disk" else ""
        if size:
            console.out(f"{where}\t{size / 1e6:.1f} MB of decoded pictures{there}")
    for line in survey.verdict.noted:
        console.note(f"warning: {line}")
    for line in survey.verdict.refused[1:]:  # the first one is the error of the command
        console.note(line)


def _words(seen: "Seen", side: int) -> str:
    if not seen.pictures:
        return "0 pictures"
    least, median, largest = zip(seen.width, seen.height, strict=True)
    size = f"{median[0]} x {median[1]} pixels"
    if least != largest:
        size += f" ({least[0]} x {least[1]} to {largest[0]} x {largest[1]})"
    modes = ", ".join(f"{count} {mode}" for mode, count in seen.modes.items())
    counts = {
        f"smaller than {side} px": seen.enlarged,
        "unreadable": seen.unreadable,
        "of one colour": seen.one_colour,
        "copies": seen.copies,
    }
    told = [f"{count} {words}" for words, count in counts.items() if count]
    return "\t".join([f"{seen.pictures} pictures", size, modes, *told])


def _write_examples(survey: "Survey", path: Path) -> None:
    """Pictures of the training from all over its files, a row for each set."""
    from dida_cli import images, render

    rows = []
    for one in survey.train.values():
        step = max(1, len(one.places) // SHOWN)
        pictures = one.pictures[one.places[::step][:SHOWN]]
        rows.append(images.to_pictures(images.to_unit(pictures)))
    if not any(rows):
        raise DidaError(f"no picture can be read, so there is nothing to draw into {path}")
    images.write(render.sheet(rows, left=list(survey.train)), path)
