"""The command that trains a model by its recipe."""

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, costs, finish, trainer
from dida_cli.cli.options import (
    EYEGLASSES,
    SMILING,
    DeviceOpt,
    WithOpt,
    WithoutOpt,
    pick_device,
    refuse_expressions,
)
from dida_cli.config import DEFAULT_MODEL, Tracking
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

    from dida_cli.cli.trainer import Source
    from dida_cli.distributed import Group
    from dida_cli.recipe import Recipe
    from dida_cli.training import Training

NONE = "none"  # as the name of part b: pictures of B have no part of their own


def train(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]",
            help="A name that --list tells, or a .toml file, as RUN/recipe.toml.",
            show_default=DEFAULT_MODEL,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your pictures: a folder with trainA and trainB, or list_attr_celeba.txt."
        ),
    ] = None,
    a: Annotated[
        str | None,
        typer.Option(help="What has part a, in an attribute list.", show_default=SMILING),
    ] = None,
    b: Annotated[
        str | None,
        typer.Option(
            help="What has part b; none where only --a is given.", show_default=EYEGLASSES
        ),
    ] = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    name_a: Annotated[str | None, typer.Option(help="What to call part a, e.g. smile.")] = None,
    name_b: Annotated[
        str | None,
        typer.Option(help="The same of part b; none: pictures of B have no part of their own."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="retouch, layers, didd or mask.",
            show_default="retouch; for two folders, each with its part, layers",
        ),
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Side of the picture the model sees, in pixels.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every stage.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Pictures in a step, of each side of each part.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first weights and of the order.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Anything that a recipe says, e.g. training.save_every=100 or settings.width=32; "
            "repeatable; the last word on it.",
        ),
    ] = None,
    device: DeviceOpt = "auto",
    track: Annotated[
        Tracking | None, typer.Option(help="Also send the log and the sheets there.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New folder.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run, by its own recipe.")
    ] = None,
    override: Annotated[
        bool,
        typer.Option(
            "--override", help="With --resume: accept other settings, or pictures that changed."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell time, memory and disk; make nothing.")
    ] = False,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Tell the recipes there are, and leave.")
    ] = False,
) -> None:
    """Make a model by its recipe: a bundled one from nothing, or one of your own pictures.

    The model, its card with all scores and examples lie in RUN/model in the end. Ctrl-C saves and
    stops, --resume RUN goes on. Each part is learned of pictures with it and without it.
    """
    from dida_cli import recipe

    if list_recipes:
        for known in recipe.names():
            console.out(f"{known:<30} {recipe.values_of(known)['about']}")
        return
    from dida_cli import distributed, tracking
    from dida_cli import run as runs

    if track:
        tracking.library(track)
    chosen = pick_device(device)
    group = context.with_resource(distributed.joined(chosen))
    console.silent = not group.writes
    if resume is None:
        if override:
            raise typer.BadParameter("--override goes with --resume.")
        values = _values(name, data, method, 1 if name_b == NONE or (a and not b) else 2)
    else:
        _refuse_other_options(context, override)
        values = recipe.values_of(str(runs.recipe_in(resume)))
    if data:
        values["data"] = str(data) if str(data) == recipe.AVATARS else str(data.resolve())
    if data or a or b or having or lacking or name_a or name_b:
        _choose(values, a, b, having or [], lacking or [], name_a, name_b)
    options = {"seed": seed, "stages.side": side, "stages.steps": steps, "stages.batch": batch}
    for key, value in options.items():
        if value is not None:
            recipe.assigned(values, f"{key}={value}")
    for assignment in assignments or []:
        recipe.assigned(values, assignment)
    wanted = recipe.parse(values, name or str(resume or "the recipe"))
    command = shlex.join(["dida", *context.obj])
    if resume is not None:
        training, source = _resumed(resume, wanted, command, chosen, group, override=override)
        trainer.go(training, source, resume, track)
        return
    plain = (data, a, b, having, lacking, name_a, name_b, method)
    named = name or (None if any(plain) else DEFAULT_MODEL)
    run = out or group.agreed(_free_name(_run_of(named, wanted)))
    runs.refuse_taken(run)
    if dry_run:
        costs.tell(wanted, chosen)
    elif wanted.method == recipe.JUDGE:
        finish.judge(wanted, trainer.pictures(wanted), run, command)
    else:
        training, source = _begun(run, wanted, command, chosen, group)
        trainer.go(training, source, run, track)


def _values(name: str | None, data: Path | None, method: str | None, parts: int) -> dict[str, Any]:
    """What the recipe says that is asked for by name, or that serves pictures of so many parts."""
    from dida_cli import methods, recipe

    if name:
        if method:
            raise typer.BadParameter("a recipe has its method; drop RECIPE or --method.")
        return recipe.values_of(name)
    plain = data is not None and not _has_labels(str(data))
    values = recipe.usual(method or ("layers" if plain and parts == 2 else "retouch"), parts)
    if data:
        values["about"] = ""
    if plain:
        for place, part in values["parts"].items():
            part["name"] = place
    elif values["method"] != recipe.JUDGE:
        takes, two = methods.find(values["method"]).TAKES, parts == 2 and "b" in values["parts"]
        values["parts"] = recipe.chosen(takes, SMILING, EYEGLASSES if two else "")
    return values


def _choose(
    values: dict[str, Any],
    a: str | None,
    b: str | None,
    having: list[str],
    lacking: list[str],
    name_a: str | None,
    name_b: str | None,
) -> None:
    """Let a recipe's parts be of its pictures, and as they are asked for."""
    from dida_cli import methods, recipe
    from dida_cli.data import celeba

    root, parts = Path(values["data"]), values.get("parts", {})
    if values["method"] == recipe.JUDGE:
        if a or b or having or lacking or name_a or name_b:
            raise typer.BadParameter("this recipe has no parts; --data is all it takes.")
        return
    takes = methods.find(values["method"]).TAKES
    alone = name_b == NONE
    if not _has_labels(values["data"]):
        instead = "; name its parts with --name-a and --name-b"
        refuse_expressions(root, a, b, having, lacking, instead=instead)
        parts = _folders(root, parts, takes, alone=alone)
    elif a or b or (alone and "b" in parts):
        parts = recipe.chosen(takes, a or SMILING, b or "", having, lacking)
    else:
        for part in parts.values():
            for key in ("with", "without"):
                part[key] = celeba.all_of([part[key], *having], lacking)
    for place, word in (("a", name_a), ("b", None if alone else name_b)):
        if word and place not in parts:
            raise typer.BadParameter(
                f"--name-{place} {word}: there is but one part; name it by --b."
            )
        if word:
            parts[place]["name"] = word
    values["parts"] = parts


def _has_labels(data: str) -> bool:
    """Whether parts are chosen by labels: drawn faces have them, also those yet to be drawn."""
    from dida_cli import recipe
    from dida_cli.data import sources

    return data == recipe.AVATARS or sources.is_labelled(Path(data))


def _folders(root: Path, parts: dict[str, Any], takes: str, *, alone: bool) -> dict[str, Any]:
    """The parts of pictures without labels: the folders that a recipe names, or A and B."""
    from dida_cli.data import folders, sources

    words = ("with", "without")
    if not all(folders.is_there(root / p[word]) for p in parts.values() for word in words):
        for place, names in sources.DOMAINS.items():
            if place in parts:
                parts[place] |= dict(zip(words, names, strict=True))
    if alone:
        parts.pop("b", None)
    if takes == "parts" and "b" in parts and parts["a"]["with"] == parts["b"]["without"]:
        raise DidaError(
            f"{root}: this method learns each part of pictures that have it and pictures that "
            "lack just it, and here A's lack what B's have; drop RECIPE and --method, or give "
            "--name-b none where B's have no part"
        )
    return parts


def _run_of(name: str | None, wanted: "Recipe") -> Path:
    from dida_cli import recipe

    if not name or name.endswith(recipe.SUFFIX):
        name = "-".join(part["name"] for part in wanted.parts.values()) or recipe.JUDGE
    return Path("runs") / name.replace("/", "-")


def _free_name(path: Path) -> Path:
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _begun(
    run: Path, wanted: "Recipe", command: str, device: "torch.device", group: "Group"
) -> tuple["Training", "Source"]:
    """A training at its first step; its run's folder is there, and its pictures are read."""
    from dida_cli import run as runs
    from dida_cli.data import sources
    from dida_cli.training import Training

    with group.first():
        root = trainer.pictures(wanted)
    split = sources.split(root, wanted.expressions)
    training = Training(wanted, 0, str(device), group)
    source = trainer.Source(wanted, command, root, split, group)
    source.batches(training.settings)
    if group.writes:
        fingerprint = sources.fingerprint(split.train)
        runs.start(run, wanted, runs.Begun(command, str(root.resolve()), fingerprint))
    return training, source


def _refuse_other_options(context: typer.Context, override: bool) -> None:
    """Of the options beside --resume, those of the recipe need --override, others never fit."""
    for parameter in context.command.params:
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


def _resumed(
    run: Path,
    wanted: "Recipe",
    command: str,
    device: "torch.device",
    group: "Group",
    *,
    override: bool,
) -> tuple["Training", "Source"]:
    """A run as it was saved; with `override` by another recipe, and on pictures that changed."""
    from dida_cli import recipe
    from dida_cli import run as runs
    from dida_cli.data import sources
    from dida_cli.training import resumed

    before, begun = runs.recorded(run)
    last = runs.last_of(run)
    changes = recipe.differences(before, wanted)
    root = Path(begun.root if before.data == wanted.data else wanted.data).resolve()
    split = sources.split(root, wanted.expressions)
    now = sources.fingerprint(split.train)
    others = sources.differences(begun.fingerprint, now)
    if others and not override:
        raise DidaError(
            f"{run}: its pictures have changed ({'; '.join(others)}); put them back, "
            "or add --override to go on with these"
        )
    try:
        training = resumed(wanted, last, str(device), group)
    except DidaError as error:
        if not changes:
            raise
        told = "; ".join(changes)
        raise DidaError(f"{error}; the run goes on with its own networks, not by {told}") from None
    command = f"{begun.command}; {command}" if changes or others else begun.command
    source = trainer.Source(wanted, command, root, split, group)
    source.batches(training.settings)
    for line in changes + others:
        console.note(f"override: {line}")
    if (changes or others) and group.writes:
        runs.record(run, wanted, runs.Begun(command, str(root), now))
    if others:  # scores of other pictures cannot be compared
        training.best = None
        shutil.rmtree(run / finish.JUDGE, ignore_errors=True)
    return training, source
