"""The methods side by side: what makes docs/table1.md."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dida_cli.cli import console, costs, finish
from dida_cli.cli.options import pick_device
from dida_cli.config import read_json
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.recipe import Recipe

app = typer.Typer(help="Train and judge methods side by side.", no_args_is_help=True)

PAIRS = (("smile", "glasses"), ("beard", "glasses"), ("beard", "smile"))
RUNS = Path("runs/table1")
PRESS = "press"  # which has one separate encoder, and so takes a training for each direction


class Entrant(NamedTuple):
    """A training of the table: a method, and the directions it is judged in."""

    name: str
    method: str
    recipe: "Recipe"
    directions: dict[str, str]  # as the table calls it, to what the run's own scores call it


@app.callback()
def _benchmark() -> None:
    """A group, though there is but one table yet."""


@app.command()
def table1(
    only: Annotated[
        list[str] | None, typer.Option(help="Of these methods alone; repeatable.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Drawn faces; default: those that train draws.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of each training; default: its recipe's.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs.")] = RUNS,
    report: Annotated[Path, typer.Option(help="Folder for table1.md and table1.png.")] = RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell how long it takes here; start nothing.")
    ] = False,
) -> None:
    """Table 1 of the paper on drawn faces: every method on the same three pairs of parts.

    Each training is `dida train` by a recipe in the folder of the runs. What is done is not done
    again, so that the same command goes on where it was stopped.
    """
    from dida_cli import hub, images
    from dida_cli.evaluate import table1 as table

    entrants = list(_entrants(only or [], data, steps))
    console.note(f"{len(entrants)} trainings, about {_time_of(entrants)} here, judging apart")
    if dry_run:
        return
    rows, codes = [], []
    for entrant in entrants:
        run = out / entrant.name
        _train(entrant, run)
        found = read_json(run / finish.SCORES)
        rows += [
            table.row(entrant.method, direction, found, found["directions"][own])
            for direction, own in entrant.directions.items()
        ]
        codes.append(table.probed(entrant.method, found))
    report.mkdir(parents=True, exist_ok=True)
    models = [(e.method, hub.resolve(str(out / e.name)), e.directions) for e in entrants]
    images.write(table.sheet(models), report / "table1.png")
    (stage,), seed = entrants[0].recipe.stages, entrants[0].recipe.seed
    trained = f"{stage.steps:,} steps of {stage.batch} of each set at {stage.side} px, seed {seed}"
    text = table.page(rows, [read for read in codes if read], trained)
    (report / "table1.md").write_text(text, encoding="utf-8")
    console.out(str(report / "table1.md"))


def _entrants(only: Sequence[str], data: Path | None, steps: int | None) -> Iterator[Entrant]:
    """All trainings, pair by pair. Raises DidaError where a method is none of the table's."""
    from dida_cli import methods, recipe
    from dida_cli.evaluate.pairs import NAMED
    from dida_cli.evaluate.table1 import METHODS

    if unknown := sorted(set(only) - set(METHODS)):
        raise DidaError(f"no method {unknown[0]!r} in the table; there are {', '.join(METHODS)}")
    for a, b in PAIRS:
        for method in only or METHODS:
            values = recipe.values_of(str(recipe.RECIPES / "table1" / f"{method}{recipe.SUFFIX}"))
            if data:
                values["data"] = str(data.resolve())
            if steps:
                values["stages"][0]["steps"] = steps
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


def _dida(*arguments: str) -> int:
    """A command as a process of its own, which Ctrl-C stops as it always does; its exit code."""
    command = [sys.executable, "-P", "-m", "dida_cli", *arguments]
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it has had the same signal, and saves
                continue
