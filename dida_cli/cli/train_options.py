"""What dida train may be told: each option once."""

from pathlib import Path
from typing import Annotated

import typer

from dida_cli.cli import console
from dida_cli.config import DEFAULT_MODEL, Tracking


def _list(wanted: bool) -> None:
    from dida_cli import recipe

    if wanted:
        for name in recipe.names():
            console.out(f"{name:<30} {recipe.values_of(name)['about']}")
        raise typer.Exit


RecipeArg = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A name that --list tells, or a .toml file, as RUN/recipe.toml.",
        show_default=DEFAULT_MODEL,
    ),
]
DataOpt = Annotated[
    Path | None,
    typer.Option(
        help="Your pictures: a folder with trainA and trainB, with list_attr_celeba.txt, or with a "
        "table of labels (.csv); or a zip archive with such a table."
    ),
]
NameAOpt = Annotated[str | None, typer.Option(help="What to call part a, e.g. smile.")]
NameBOpt = Annotated[
    str | None,
    typer.Option(help="The same of part b; none: pictures of B have no part of their own."),
]
MethodOpt = Annotated[
    str | None,
    typer.Option(
        help="retouch, layers, didd or mask.",
        show_default="retouch; for two folders, each with its part, layers",
    ),
]
SideOpt = Annotated[int | None, typer.Option(help="Side of the picture the model sees, in pixels.")]
StepsOpt = Annotated[int | None, typer.Option(help="Steps of every stage.")]
BatchOpt = Annotated[
    int | None, typer.Option(help="Pictures in a step, of each side of each part.")
]
SeedOpt = Annotated[int | None, typer.Option(help="Of the first weights and of the order.")]
SetOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Anything that a recipe says, e.g. training.save_every=100 or settings.width=32; "
        "repeatable; the last word on it.",
    ),
]
TrackOpt = Annotated[Tracking | None, typer.Option(help="Also send the log and the sheets there.")]
RunOpt = Annotated[
    Path | None, typer.Option("--out", "-o", help="New folder.", show_default="runs/NAME")
]
ResumeOpt = Annotated[Path | None, typer.Option(help="Go on with this run, by its own recipe.")]
OverrideOpt = Annotated[
    bool,
    typer.Option(
        "--override", help="With --resume: accept other settings, or pictures that changed."
    ),
]
DryRunOpt = Annotated[
    bool, typer.Option("--dry-run", help="Tell time, memory and disk; make nothing.")
]
ListOpt = Annotated[
    bool,
    typer.Option(
        "--list", callback=_list, is_eager=True, help="Tell the recipes there are, and leave."
    ),
]
