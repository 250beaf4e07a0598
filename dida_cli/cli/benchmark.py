"""The methods side by side: what makes docs/table1.md and docs/digits.md."""

import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dida_cli.cli import console, costs, finish
from dida_cli.cli.options import pick_device
from dida_cli.config import PARTS, read_json
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.config import Part
    from dida_cli.evaluate.digits import Digits
    from dida_cli.images import Picture
    from dida_cli.recipe import Recipe

app = typer.Typer(help="Train and judge methods side by side.", no_args_is_help=True)

RUNS = Path("runs")
EDITS = "edits.png"  # of the pairs that the sheet of table 1 shows
PAIRS = (("smile", "glasses"), ("beard", "glasses"), ("beard", "smile"))
PRESS = "press"  # which has one separate encoder, and so takes a training for each direction


OnlyOpt = Annotated[list[str] | None, typer.Option(help="Of these methods alone; repeatable.")]
StepsOpt = Annotated[
    int | None, typer.Option(min=1, help="Of each training; default: its recipe's.")
]
DryRunOpt = Annotated[
    bool, typer.Option("--dry-run", help="Tell how long it takes here; start nothing.")
]


class Entrant(NamedTuple):
    """A training of a table: a method, and the directions it is judged in."""

    name: str
    method: str
    recipe: "Recipe"
    directions: dict[str, str]  # as the table calls it, to what the run's own scores call it


@app.command()
def table1(
    only: OnlyOpt = None,
    data: Annotated[
        Path | None, typer.Option(help="Drawn faces; default: those that train draws.")
    ] = None,
    steps: StepsOpt = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs.")] = RUNS / "table1",
    report: Annotated[Path, typer.Option(help="Folder for table1.md and table1.png.")] = RUNS
    / "table1",
    dry_run: DryRunOpt = False,
) -> None:
    """Table 1 of the paper on drawn faces: every method on the same three pairs of parts.

    Each training is `dida train` by a recipe in the folder of the runs. What is done is not done
    again, so that the same command goes on where it was stopped.
    """
    from dida_cli.evaluate import table1 as table

    entrants = list(_entrants(only, data, steps))
    console.note(f"{len(entrants)} trainings, about {_time_of(entrants)} here, judging apart")
    if dry_run:
        return
    rows, codes, edited = [], [], []
    for entrant in entrants:
        run = out / entrant.name
        _train(entrant, run)
        found = read_json(run / finish.SCORES)
        rows += [
            table.row(entrant.method, direction, found, found["directions"][own])
            for direction, own in entrant.directions.items()
        ]
        codes.append(table.probed(entrant.method, found))
        edited.append((entrant.method, entrant.directions, _edits(entrant, run)))
    page = table.page(rows, [read for read in codes if read], _trained(entrants))
    _write(report, "table1", page, table.sheet(edited))


@app.command()
def digits(
    only: OnlyOpt = None,
    data: Annotated[
        Path,
        typer.Option(help="Digits, as dida data digits writes them; drawn when not there."),
    ] = Path("digits"),
    a: Annotated[str, typer.Option(help="One domain, in the column domain.")] = "mnist",
    b: Annotated[str, typer.Option(help="The other.")] = "street",
    steps: StepsOpt = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs.")] = RUNS / "digits",
    report: Annotated[Path, typer.Option(help="Folder for digits.md and digits.png.")] = RUNS
    / "digits",
    dry_run: DryRunOpt = False,
) -> None:
    """Digits of one domain read by what was learned from labels of the other, both ways.

    Goes on where it was stopped, as table1 does.
    """
    from dida_cli import checkpoint, hub, recipe
    from dida_cli.cli.data import drawn_digits
    from dida_cli.evaluate import digits as table

    known = sorted(path.stem for path in (recipe.RECIPES / "digits").glob(f"*{recipe.SUFFIX}"))
    entrants = [_of_digits(method, data, (a, b), steps) for method in _methods(only, known)]
    console.note(f"{len(entrants)} trainings, about {_time_of(entrants)} here, judging apart")
    if dry_run:
        return
    drawn_digits(data)
    for entrant in entrants:
        _train(entrant, out / entrant.name)
    wanted = entrants[0].recipe
    by_part: dict[Part, Digits] = {}
    for part, name in zip(PARTS, (a, b), strict=True):
        by_part[part] = table.read(data, name, wanted.stages[-1].side)
    models = [checkpoint.load(hub.resolve(str(out / entrant.name))) for entrant in entrants]
    rows = []
    with console.progress("judging", "steps") as show:
        own = {p: table.classifier(of.train, wanted.seed, show) for p, of in by_part.items()}
        for entrant, model in zip(entrants, models, strict=True):
            found = table.judge(model, by_part, own, wanted.seed, show)
            rows += [(f"{entrant.method}: {direction}", of) for direction, of in found.items()]
    page = table.page(rows, _trained(entrants))
    _write(report, "digits", page, table.sheet(models[0], by_part))


def _of_digits(method: str, data: Path, named: tuple[str, str], steps: int | None) -> Entrant:
    """A training of two domains of digits."""
    from dida_cli import recipe
    from dida_cli.data.digits import DOMAIN

    values = values_of("digits", method, data, steps)
    for place, name, other in zip("ab", named, named[::-1], strict=True):
        sides = {"with": f"{DOMAIN}={name}", "without": f"{DOMAIN}={other}"}
        values["parts"][place] = {"name": name, **sides}
    name = f"{'-'.join(named)}-{method}"
    return Entrant(name, method, recipe.parse(values, name), {})


def _methods(only: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """Those asked for, else all that a table knows. DidaError where one is none of them."""
    if unknown := sorted(set(only or ()) - set(known)):
        raise DidaError(f"no method {unknown[0]!r} in the table; there are {', '.join(known)}")
    return list(only or known)


def values_of(table: str, method: str, data: Path | None, steps: int | None) -> dict[str, Any]:
    """What the recipe of a method in a table says, with these data and steps."""
    from dida_cli import recipe

    values = recipe.values_of(str(recipe.RECIPES / table / f"{method}{recipe.SUFFIX}"))
    if data:
        values["data"] = str(data.resolve())
    if steps:
        values["stages"][0]["steps"] = steps
    return values


def _trained(entrants: Sequence[Entrant]) -> str:
    """How all of them are, in words."""
    (stage,), seed = entrants[0].recipe.stages, entrants[0].recipe.seed
    return f"{stage.steps:,} steps of {stage.batch} of each set at {stage.side} px, seed {seed}"


def _write(report: Path, name: str, page: str, sheet: "Picture") -> None:
    """A page and its picture; the page's path goes to stdout."""
    from dida_cli import images

    report.mkdir(parents=True, exist_ok=True)
    images.write(sheet, report / f"{name}.png")
    (report / f"{name}.md").write_text(page, encoding="utf-8")
    console.out(str(report / f"{name}.md"))


def _entrants(
    only: Sequence[str] | None, data: Path | None, steps: int | None
) -> Iterator[Entrant]:
    """All trainings, pair by pair. Raises DidaError where a method is none of the table's."""
    from dida_cli import methods, recipe
    from dida_cli.evaluate.pairs import NAMED
    from dida_cli.evaluate.table1 import METHODS

    for a, b in PAIRS:
        for method in _methods(only, METHODS):
            values = values_of("table1", method, data, steps)
            takes = methods.find(values["method"]).TAKES
            if method != PRESS:
                values["parts"] = recipe.chosen(takes, NAMED[a], NAMED[b])
                ways = {f"{b} to {a}": f"{b} to {a}", f"{a} to {b}": f"{a} to {b}"}
                name = f"{a}-{b}-{method}"
                yield Entrant(name, method, recipe.parse(values, name), ways)
                continue
            for part, other in ((a, b), (b, a)):
                having = f"{NAMED[part]} and not {NAMED[other]}"
                lacking = f"{NAMED[other]} and not {NAMED[part]}"
                values["parts"] = {"a": {"name": part, "with": having, "without": lacking}}
                name = f"{a}-{b}-{method}-{part}"
                ways = {f"{other} to {part}": "put on"}
                yield Entrant(name, method, recipe.parse(values, name), ways)


def _time_of(entrants: Sequence[Entrant]) -> str:
    """How long all trainings take, by a few steps of each method."""
    device, of_method = pick_device("auto"), {}
    for entrant in entrants:
        if entrant.method not in of_method:
            of_method[entrant.method] = costs.seconds(entrant.recipe, device)
    return costs.duration(sum(of_method[entrant.method] for entrant in entrants))


def _train(entrant: Entrant, run: Path) -> None:
    """A training to its end, or what is left of it. Raises DidaError when it stops before."""
    if (run / finish.SCORES).exists():
        return
    file = run.with_suffix(".toml")
    if (run / "begun.json").exists():
        asked = ["--resume", str(run)]
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(entrant.recipe.to_toml(), encoding="utf-8")
        asked = [str(file), "-o", str(run)]
    console.note(f"dida train {' '.join(asked)}")
    if (code := _dida("train", *asked)) in (130, 143):
        raise typer.Exit(code)
    if code or not (run / finish.SCORES).exists():
        raise DidaError(f"{run}: its training ended without scores; see the lines above")


def _edits(entrant: Entrant, run: Path) -> "Picture":
    """What the sheet shows of a training, kept in its run."""
    from dida_cli import hub, images
    from dida_cli.evaluate import table1 as table

    file = run / EDITS
    if not file.exists():
        images.write(table.edits(hub.resolve(str(run)), entrant.directions), file)
    return images.read(file)


def _dida(*arguments: str) -> int:
    """A command as a process of its own, which Ctrl-C stops as it always does; its exit code."""
    command = [sys.executable, "-P", "-m", "dida_cli", *arguments]
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it has had the same signal, and saves
                continue
