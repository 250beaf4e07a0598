"""The command that trains a model by its recipe."""

import itertools
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from dida_cli.cli import begin, console, costs, finish, trainer
from dida_cli.cli import train_options as opts
from dida_cli.cli.options import (
    EYEGLASSES,
    SMILING,
    DeviceOpt,
    PartAOpt,
    PartBOpt,
    SplitByOpt,
    WithOpt,
    WithoutOpt,
    pick_device,
    refuse_expressions,
)
from dida_cli.config import DEFAULT_MODEL, Tracking
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.config import Part as Place
    from dida_cli.recipe import Part, Recipe

NONE = "none"  # as the name of part b: pictures of B have no part of their own


def train(
    context: typer.Context,
    name: opts.RecipeArg = None,
    data: opts.DataOpt = None,
    a: PartAOpt = None,
    b: PartBOpt = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    split_by: SplitByOpt = None,
    name_a: opts.NameAOpt = None,
    name_b: opts.NameBOpt = None,
    method: opts.MethodOpt = None,
    side: opts.SideOpt = None,
    steps: opts.StepsOpt = None,
    batch: opts.BatchOpt = None,
    seed: opts.SeedOpt = None,
    assignments: opts.SetOpt = None,
    device: DeviceOpt = "auto",
    track: opts.TrackOpt = None,
    out: opts.RunOpt = None,
    resume: opts.ResumeOpt = None,
    override: opts.OverrideOpt = False,
    dry_run: opts.DryRunOpt = False,
    list_recipes: opts.ListOpt = False,
) -> None:
    """Make a model by its recipe: a bundled one from nothing, or one of your own pictures.

    The model, its card with all scores and examples lie in RUN/model in the end. Ctrl-C saves and
    stops, --resume RUN goes on. Each part is learned of pictures with it and without it.
    """
    from dida_cli import distributed, recipe
    from dida_cli import run as runs

    _check(context, resume, override, track)
    computing = pick_device(device)
    group = context.with_resource(distributed.joined(computing))
    console.silent = not group.writes
    choice = Choice(data, a, b, having or [], lacking or [], name_a, name_b)
    named = name or (None if method or any(choice) else DEFAULT_MODEL)
    file = str(runs.recipe_in(resume)) if resume else named
    values = _values(file, method, choice)
    options: dict[str, int | str | None]
    options = {"seed": seed, "stages.side": side, "stages.steps": steps, "stages.batch": batch}
    options["split_by"] = split_by and json.dumps(split_by)
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    for assignment in [*given, *(assignments or [])]:
        recipe.assigned(values, assignment)
    wanted = recipe.parse(values, file or "the recipe")
    command = shlex.join(["dida", *context.obj])
    if resume:
        source, training = begin.again(resume, wanted, command, computing, group, override)
        return trainer.go(training, source, resume, track)
    run = out or group.agreed(_free_folder(named, wanted))
    runs.refuse_taken(run)
    if dry_run:
        costs.tell(wanted, computing)
    elif wanted.method == recipe.JUDGE:
        finish.judge(wanted, begin.pictures(wanted), run, command)
    else:
        source, training = begin.anew(run, wanted, command, computing, group)
        trainer.go(training, source, run, track)


class Choice(NamedTuple):
    """What is asked for of pictures and of parts, beside a recipe."""

    data: Path | None
    a: str | None
    b: str | None
    having: list[str]
    lacking: list[str]
    name_a: str | None
    name_b: str | None

    @property
    def is_one(self) -> bool:
        """Whether part a alone is asked for."""
        return self.name_b == NONE or bool(self.a and not self.b)


def _check(
    context: typer.Context, resume: Path | None, override: bool, track: Tracking | None
) -> None:
    """Refuse what cannot be, before anything is done.

    Of the options beside --resume those of the recipe need --override, others never fit.
    """
    from dida_cli import tracking

    if track:
        tracking.library(track)
    if override and not resume:
        raise typer.BadParameter("--override goes with --resume.")
    for parameter in context.command.params if resume else ():
        given = context.get_parameter_source(str(parameter.name))
        if given is None or given.name != "COMMANDLINE":
            continue
        if parameter.name in ("resume", "device", "override", "track"):
            continue
        option = "RECIPE" if parameter.name == "name" else parameter.opts[0]
        if parameter.name in ("name", "method", "out", "dry_run"):
            raise typer.BadParameter(f"--resume goes on with a run; drop {option}.")
        if not override:
            raise typer.BadParameter(
                f"--resume goes on by the run's own recipe; drop {option}, "
                "or add --override to change it."
            )


def _values(name: str | None, method: str | None, choice: Choice) -> dict[str, Any]:
    """What a recipe says, with the pictures and the parts that are asked for."""
    values = _unchosen(name, method, choice)
    if any(choice):
        _choose(values, choice)
    return values


def _unchosen(name: str | None, method: str | None, choice: Choice) -> dict[str, Any]:
    """What the recipe says that is asked for by name, or that serves the pictures."""
    from dida_cli import methods, recipe

    if name:
        if method:
            raise typer.BadParameter("a recipe has its method; drop RECIPE or --method.")
        return recipe.values_of(name)
    plain = choice.data is not None and not _has_labels(choice.data)
    usual = "layers" if plain and not choice.is_one else "retouch"
    values = recipe.usual(method or usual, 1 if choice.is_one else 2)
    if choice.data:
        values["about"] = ""
    if plain:
        for place, part in values["parts"].items():
            part["name"] = place
    elif values["method"] != recipe.JUDGE:
        takes, two = methods.find(values["method"]).TAKES, "b" in values["parts"]
        other = EYEGLASSES if two and not choice.is_one else ""
        values["parts"] = recipe.chosen(takes, SMILING, other)
    return values


def _choose(values: dict[str, Any], choice: Choice) -> None:
    """Let a recipe's parts be of its pictures, and as they are asked for."""
    from dida_cli import methods, recipe
    from dida_cli.data import sources
    from dida_cli.data.labels import all_of

    data, a, b, having, lacking, name_a, name_b = choice
    if data:
        named = str(data) in (recipe.AVATARS, sources.PORTRAITS)
        values["data"] = str(data if named else data.resolve())
        if values.get("fit") == "drawing" and not (named or sources.is_drawn(data)):
            values["fit"] = "crop"
            recipe.unplaced(values)
    method = values.get("method", "")
    if method == recipe.JUDGE:
        if any(choice[1:]):
            raise typer.BadParameter("this recipe has no parts; --data is all it takes.")
        return
    root, parts = Path(values.get("data", recipe.AVATARS)), values.get("parts", {})
    takes, alone = methods.find(method).TAKES, name_b == NONE
    if not _has_labels(root):
        instead = "; name its parts with --name-a and --name-b"
        refuse_expressions(root, a, b, having, lacking, instead=instead)
        parts = _folders(root, parts, takes, alone=alone)
    elif a or b or (alone and "b" in parts):
        parts = recipe.chosen(takes, a or SMILING, b or "", having, lacking)
    else:
        for part in parts.values():
            for key in ("with", "without"):
                part[key] = all_of([part[key], *having], lacking)
    for place, word in (("a", name_a), ("b", None if alone else name_b)):
        if word and place not in parts:
            raise typer.BadParameter(
                f"--name-{place} {word}: there is but one part; name it by --b."
            )
        if word:
            parts[place]["name"] = word
    values["parts"] = parts


def _has_labels(data: Path) -> bool:
    """Whether parts are chosen by labels: drawn faces have them, also those yet to be drawn."""
    from dida_cli import recipe
    from dida_cli.data import sources

    return str(data) == recipe.AVATARS or sources.is_labelled(sources.located(data))


def _folders(
    root: Path, parts: "dict[Place, Part]", takes: str, *, alone: bool
) -> "dict[Place, Part]":
    """The parts of pictures without labels: the folders that a recipe names, or A and B."""
    from dida_cli.data import folders, sources

    names = [name for part in parts.values() for name in (part["with"], part["without"])]
    if not all(folders.is_there(root / name) for name in names):
        for place, part in parts.items():
            part["with"], part["without"] = sources.DOMAINS[place]
    if alone:
        parts.pop("b", None)
    if takes == "parts" and "b" in parts and parts["a"]["with"] == parts["b"]["without"]:
        raise DidaError(
            f"{root}: this method learns each part of pictures that have it and pictures that "
            "lack just it, and here A's lack what B's have; drop RECIPE and --method, or give "
            "--name-b none where B's have no part"
        )
    return parts


def _free_folder(name: str | None, wanted: "Recipe") -> Path:
    """Where a run goes that is given no folder: after its recipe or its parts, numbered."""
    from dida_cli import recipe

    if not name or name.endswith(recipe.SUFFIX):
        name = "-".join(part["name"] for part in wanted.parts.values()) or recipe.JUDGE
    path = Path("runs") / name.replace("/", "-")
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())
