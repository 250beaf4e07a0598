"""The command that trains a model."""

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models, trainer
from dida_cli.cli.options import Device, DeviceOpt, WithOpt, WithoutOpt, pick_device
from dida_cli.config import (
    Architecture,
    CriticTarget,
    Method,
    ModelConfig,
    Precision,
    Tracking,
    TrainConfig,
)
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from torch import Tensor

    from dida_cli.distributed import Group

    HeldOut = tuple[Tensor, Tensor]
    Files = Callable[[int], tuple[Sequence[str], Sequence[str]]]

AVATARS = Path("avatars")  # drawn when asked for and absent
AVATAR_COUNT, AVATAR_SEED = 24_000, 0
WORDS = {"Smiling": "smile", "Eyeglasses": "glasses", "Beard": "beard"}
CHOICE = ("data.a", "data.b", "data.with", "data.without")  # only where an attribute list is
CONFIG = "config.toml"  # of a run: all its settings, for people and for --config


def train(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option(help="A preset's name, or a .toml file of settings.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting by its name in a config file, e.g. training.clip=3; "
            "repeatable; the last word on it.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with trainA and trainB, or with list_attr_celeba.txt.",
            show_default=str(AVATARS),
        ),
    ] = None,
    a: Annotated[
        str | None,
        typer.Option(help="What A has, in an attribute list.", show_default="Smiling"),
    ] = None,
    b: Annotated[
        str | None,
        typer.Option(help="What B has, in an attribute list.", show_default="Eyeglasses"),
    ] = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    name_a: Annotated[str | None, typer.Option(help="What to call A's part, e.g. smile.")] = None,
    name_b: Annotated[str | None, typer.Option(help="What to call B's part, e.g. glasses.")] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="didd; layers: with masks, so that edits leave the rest of the picture alone; "
            "mask: the same as published, for one side.",
            show_default=ModelConfig.method,
        ),
    ] = None,
    architecture: Annotated[
        Architecture | None,
        typer.Option(help="Ours, or the papers'.", show_default=ModelConfig.architecture),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(
            help="Side of the picture the model sees, in pixels.",
            show_default=str(ModelConfig.side),
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the deepest stage.")] = None,
    common: Annotated[int | None, typer.Option(help="Channels of the common code.")] = None,
    separate_b: Annotated[
        int | None, typer.Option(help="Channels of B's own code; 0: B has nothing of its own.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of the whole training.", show_default=str(TrainConfig.steps)),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Pictures of each domain in a step.", show_default=str(TrainConfig.batch)
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="At the start.", show_default="compact 0.001, paper 0.0002"),
    ] = None,
    critic_target: Annotated[
        CriticTarget | None,
        typer.Option(
            help="What the encoder wants the critic to say: 0.5, or 1.",
            show_default=TrainConfig.critic_target,
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Mirror half of the pictures.", show_default="flip"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of the first weights and of the order.",
            show_default=str(TrainConfig.seed),
        ),
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between saves and sheets.", show_default=str(TrainConfig.save_every)
        ),
    ] = None,
    score_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between scores on held-out pictures, whose best is kept; 0: none.",
            show_default=str(TrainConfig.score_every),
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many scores without a better one; 0: never.",
            show_default=str(TrainConfig.patience),
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            help="Parts that a batch goes through the networks in, for less memory.",
            show_default=str(TrainConfig.accumulate),
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Of the activations; less than float32 on CUDA alone.",
            show_default=TrainConfig.precision,
        ),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Fuse the networks by torch.compile.", show_default="no"
        ),
    ] = None,
    track: Annotated[
        Tracking | None, typer.Option(help="Also send the log and the sheets there.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Begin with the weights of this model: name or folder.")
    ] = None,
    device: DeviceOpt = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New folder of the run.", show_default="runs/NAMES"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run, by its own settings.")
    ] = None,
    override: Annotated[
        bool,
        typer.Option(
            "--override", help="With --resume: accept other settings, or pictures that changed."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Tell sizes, memory, speed and time; make no run. Decoded pictures may be cached.",
        ),
    ] = False,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Tell what --config knows by name, and leave.")
    ] = False,
) -> None:
    """Learn a transfer from two unpaired folders of pictures.

    With no options: smile and glasses on drawn faces, which are drawn first if absent. Ctrl-C
    saves and stops; --resume RUN goes on. The run's folder is a model for dida transfer -m, so is
    RUN/best, the one of the best score, and config.toml is all of its settings, for --config.
    """
    from dida_cli import checkpoint, distributed, runs, settings, tracking
    from dida_cli import train as core
    from dida_cli.data import sources
    from dida_cli.images import write_bytes

    command = shlex.join(["dida", *context.obj])
    if list_presets:
        for name, words in settings.presets().items():
            console.out(f"{name:<14} {words}")
        return
    if track:
        tracking.library(track)
    group = context.with_resource(distributed.joined(pick_device(device)))
    console.silent = not group.writes
    if resume is None and override:
        raise typer.BadParameter("--override goes with --resume.")
    if resume is not None:
        _refuse_other_options(context, override)
    options = {
        "data.root": None if data is None else str(data),
        "data.a": a,
        "data.b": b,
        "data.with": having,
        "data.without": lacking,
        "model.domains.a": name_a,
        "model.domains.b": name_b,
        "model.method": method,
        "model.architecture": architecture,
        "model.side": side,
        "model.width": width,
        "model.common": common,
        "model.separate_b": separate_b,
        "training.steps": steps,
        "training.batch": batch,
        "training.learning_rate": learning_rate,
        "training.critic_target": critic_target,
        "training.flip": flip,
        "training.seed": seed,
        "training.save_every": save_every,
        "training.score_every": score_every,
        "training.patience": patience,
        "training.accumulate": accumulate,
        "training.precision": precision,
        "training.compile": compiled,
        "init": init,
    }
    given = {name: value for name, value in options.items() if value is not None}
    for assignment in assignments or []:
        given |= settings.assigned(assignment)
    values = (settings.read(config) if config else {}) | given
    if resume is not None:
        _resume(resume, values, given, command, device, group, track, override=override)
        return
    with group.first():
        pictures = _pictures(values, given, may_draw=not dry_run)
    usual: dict[str, Any] = {
        f"model.domains.{x}": _word(pictures.get(x, x.upper())) for x in ("a", "b")
    }
    begin_from = values.get("init")
    begun = checkpoint.load(models.folder_of(begin_from)) if begin_from else None
    if begun and begun.config.method == "layers":  # it has masks, which need not rise again
        usual["training.rise"] = False
    if values.get("training.refine", "none") != "none":
        if not begun:
            raise DidaError("training.refine goes on with a model; name it by --init")
        usual |= settings.network_of(begun.config)
    values = usual | values
    model = settings.model_of(values)
    training_config = settings.training_of(values, model)
    run = out or group.agreed(_free_name(Path("runs") / f"{model.domains.a}-{model.domains.b}"))
    runs.refuse_taken(run)
    split = sources.for_training(pictures)
    pictures |= {"fingerprint": sources.fingerprint(split.train)}
    training = core.Training(model, training_config, str(pick_device(device)), group)
    batches, held_out, files = trainer.load(split, model, training_config, group)
    if begun:
        fresh = training.begin_from(begun)
        console.note(f"begun from {begin_from}; fresh: {', '.join(fresh) or 'nothing'}")
    if dry_run:
        trainer.tell_costs(training, batches)
        return
    if group.writes:
        runs.start(run, model, training_config, pictures)
        text = settings.to_toml(model, training_config, pictures, begin_from)
        write_bytes(text.encode(), run / CONFIG)
    trainer.go(training, run, batches, held_out, files, pictures, command, track)


def _pictures(values: dict[str, Any], given: dict[str, Any], *, may_draw: bool) -> dict[str, Any]:
    """What to train on, as the run records it; the default avatars are drawn if absent.

    A domain that a config chooses by attributes is left out where there is no list of them: so
    a preset trains on two folders. Raises a usage error when it is `given` on the command line.
    """
    from dida_cli.data import avatars, celeba, sources

    root = Path(values.get("data.root", AVATARS))
    if root == AVATARS and not (root / celeba.ATTRIBUTE_LIST).exists():
        if not may_draw:
            raise DidaError(f"{AVATARS}: not drawn yet; type dida data avatars, or give --data")
        console.note(f"drawing {AVATAR_COUNT} avatars into {AVATARS} first, some minutes")
        with console.progress("drawing", "faces") as report:
            avatars.write_set(root, count=AVATAR_COUNT, seed=AVATAR_SEED, on_progress=report)
    having, lacking = (values.get(f"data.{word}", []) for word in ("with", "without"))
    record = sources.record(root, values.get("data.a"), values.get("data.b"), having, lacking)
    if "a" not in record and any(name in given for name in CHOICE):
        raise typer.BadParameter(
            f"--a, --b, --with and --without choose from {celeba.ATTRIBUTE_LIST}, "
            f"which {root} has not; name its parts with --name-a and --name-b."
        )
    return record


def _word(attribute: str) -> str:
    """What people call a CelebA attribute: Smiling is a smile."""
    return WORDS.get(attribute, attribute.lower().replace("_", "-"))


def _free_name(path: Path) -> Path:
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _refuse_other_options(context: typer.Context, override: bool) -> None:
    """Of the options beside --resume, those that are settings need --override, others never fit."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        given = source is not None and source.name == "COMMANDLINE"
        if not given or parameter.name in ("resume", "device", "override", "track"):
            continue
        if parameter.name in ("init", "out", "dry_run"):
            raise typer.BadParameter(f"--resume goes on with a run; drop {parameter.opts[0]}.")
        if not override:
            raise typer.BadParameter(
                f"--resume goes on by the run's own settings; drop {parameter.opts[0]}, "
                "or add --override to change them."
            )


def _resume(
    run: Path,
    values: dict[str, Any],
    given: dict[str, Any],
    command: str,
    device: Device,
    group: "Group",
    track: Tracking | None,
    *,
    override: bool,
) -> None:
    """Go on with a run; with `override` by other settings, and on pictures that changed."""
    from dida_cli import runs
    from dida_cli import train as core
    from dida_cli.data import sources

    model, settings, pictures = runs.settings_of(run)
    last = next((run / n for n in ("last", "last-1") if (run / n / core.STATE).exists()), None)
    if last is None:
        raise DidaError(f"{run}: was stopped before its first save; start it anew")
    before = pictures.get("fingerprint")
    changes: list[str] = []
    if override:
        model, settings, pictures, changes = _changed(model, settings, pictures, values, given)
    split = sources.for_training(pictures)
    now = sources.fingerprint(split.train)
    others = sources.differences(before, now) if before else []
    if others and not override:
        raise DidaError(
            f"{run}: its pictures have changed ({'; '.join(others)}); put them back, "
            "or add --override to go on with these"
        )
    training = core.Training(model, settings, str(pick_device(device)), group)
    training.restore(last)
    batches, held_out, files = trainer.load(split, model, settings, group)
    for line in changes + others:
        console.note(f"override: {line}")
    if override and group.writes:
        pictures |= {"fingerprint": now}
        _record(run, model, settings, pictures)
    if others:  # scores of other pictures cannot be compared
        training.best = None
        shutil.rmtree(run / trainer.JUDGE, ignore_errors=True)
    trainer.go(training, run, batches, held_out, files, pictures, command, track)


def _changed(
    old_model: ModelConfig,
    old_training: TrainConfig,
    old_pictures: dict[str, Any],
    values: dict[str, Any],
    given: dict[str, Any],
) -> tuple[ModelConfig, TrainConfig, dict[str, Any], list[str]]:
    """A run's settings under these values, and a line for each that is not the same.

    Raises DidaError when they make another network.
    """
    from dida_cli import runs, settings

    if "init" in values:
        raise typer.BadParameter("--resume goes on with a run; drop init.")
    old = settings.values_of(old_model, old_training, old_pictures)
    new = old | values
    model = settings.model_of(new)
    runs.refuse_other_network(old_model, model)
    training = settings.training_of(new, model)
    if training.refine != old_training.refine:
        raise DidaError(
            "a run is refined by a run of its own: dida train --config refine --init RUN, "
            "or --config beneath or place"
        )
    pictures = old_pictures
    if any(name.startswith("data.") for name in values):
        pictures = _pictures(new, given, may_draw=False)
    found = settings.values_of(model, training, pictures)
    return model, training, pictures, settings.differences(old, found)


def _record(run: Path, model: ModelConfig, training: TrainConfig, pictures: dict[str, Any]) -> None:
    """Write changed settings over a run's own; its config still says what it was begun from."""
    from dida_cli import runs, settings
    from dida_cli.images import write_bytes

    config = run / CONFIG
    init = settings.read(str(config)).get("init") if config.exists() else None
    runs.record(run, model, training, pictures)
    write_bytes(settings.to_toml(model, training, pictures, init).encode(), config)
