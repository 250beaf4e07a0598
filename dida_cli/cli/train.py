"""The command that trains a model."""

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
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

    from dida_cli.checkpoint import Network
    from dida_cli.data.folders import Batches, Split
    from dida_cli.distributed import Group
    from dida_cli.evaluate.validation import Validation
    from dida_cli.tracking import Tracker
    from dida_cli.train import Line, Training

    HeldOut = tuple[Tensor, Tensor]
    Files = Callable[[int], tuple[Sequence[str], Sequence[str]]]

AVATARS = Path("avatars")  # drawn when asked for and absent
AVATAR_COUNT, AVATAR_SEED = 24_000, 0
WORDS = {"Smiling": "smile", "Eyeglasses": "glasses", "Beard": "beard"}
CHOICE = ("data.a", "data.b", "data.with", "data.without")  # only where an attribute list is
CONFIG = "config.toml"  # of a run: all its settings, for people and for --config
JUDGE = "judge"  # of a run: the classifier of its domains, where no bundled one knows them
LEARNED = 2000  # pictures of each domain that it learns from
HELD_OUT = 64  # pictures of each domain that are scored
SHOWN = 5  # of them, contents and guides on a sheet, each way
TRIED = 4  # steps of a dry run; the first, which warms up, is not timed
COPIES = 5  # of a weight in a training: itself, gradient, two moments of Adam, running mean


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
    from dida_cli import checkpoint, distributed, settings, tracking
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
    names = {f"model.domains.{x}": _word(pictures.get(x, x.upper())) for x in ("a", "b")}
    values = names | values
    model = settings.model_of(values)
    training_config = settings.training_of(values, model)
    run = out or group.agreed(_free_name(Path("runs") / f"{model.domains.a}-{model.domains.b}"))
    core.refuse_taken(run)
    begin_from = values.get("init")
    begun = checkpoint.load(models.folder_of(begin_from)) if begin_from else None
    split = sources.for_training(pictures)
    pictures |= {"fingerprint": sources.fingerprint(split.train)}
    training = core.Training(model, training_config, str(pick_device(device)), group)
    batches, held_out, files = _load(split, model, training_config, group)
    if begun:
        fresh = training.begin_from(begun)
        console.note(f"begun from {begin_from}; fresh: {', '.join(fresh) or 'nothing'}")
    if dry_run:
        _tell_costs(training, batches)
        return
    if group.writes:
        core.start(run, model, training_config, pictures)
        text = settings.to_toml(model, training_config, pictures, begin_from)
        write_bytes(text.encode(), run / CONFIG)
    _go(training, run, batches, held_out, files, pictures, command, track)


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
    from dida_cli import train as core
    from dida_cli.data import sources

    model, settings, pictures = core.settings_of(run)
    last = next((run / n for n in ("last", "last-1") if (run / n / core.STATE).exists()), None)
    if last is None:
        raise DidaError(f"{run}: was stopped before its first save; start it anew")
    before = pictures.get("fingerprint")
    changes: list[str] = []
    if override:
        model, settings, pictures, changes = _changed(run, values, given)
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
    batches, held_out, files = _load(split, model, settings, group)
    for line in changes + others:
        console.note(f"override: {line}")
    if override and group.writes:
        pictures |= {"fingerprint": now}
        _record(run, model, settings, pictures)
    if others:  # scores of other pictures cannot be compared
        training.best = None
        shutil.rmtree(run / JUDGE, ignore_errors=True)
    _go(training, run, batches, held_out, files, pictures, command, track)


def _changed(
    run: Path, values: dict[str, Any], given: dict[str, Any]
) -> tuple[ModelConfig, TrainConfig, dict[str, Any], list[str]]:
    """A run's settings under these values, and a line for each that is not the same.

    Raises DidaError when they make another network.
    """
    from dida_cli import settings
    from dida_cli import train as core

    if "init" in values:
        raise typer.BadParameter("--resume goes on with a run; drop init.")
    old_model, old_training, old_pictures = core.settings_of(run)
    old = settings.values_of(old_model, old_training, old_pictures)
    new = old | values
    model = settings.model_of(new)
    core.refuse_other_network(old_model, model)
    training = settings.training_of(new, model)
    pictures = old_pictures
    if any(name.startswith("data.") for name in values):
        pictures = _pictures(new, given, may_draw=False)
    found = settings.values_of(model, training, pictures)
    return model, training, pictures, settings.differences(old, found)


def _record(run: Path, model: ModelConfig, training: TrainConfig, pictures: dict[str, Any]) -> None:
    """Write changed settings over a run's own; its config still says what it was begun from."""
    from dida_cli import settings
    from dida_cli import train as core
    from dida_cli.images import write_bytes

    config = run / CONFIG
    init = settings.read(str(config)).get("init") if config.exists() else None
    core.record(run, model, training, pictures)
    write_bytes(settings.to_toml(model, training, pictures, init).encode(), config)


def _load(
    split: "Split", model: ModelConfig, settings: TrainConfig, group: "Group"
) -> tuple["Batches", "HeldOut", "Files"]:
    """Batches, held-out pictures (A, B), each (N, 3, side, side), and the files of a step."""
    from dida_cli import hub, images
    from dida_cli.data import check, folders

    folders.check_enough(split.train, settings.batch)
    cache = hub.home() / "pictures"
    with console.progress("reading", "pictures") as report, group.first():
        a, b = (
            folders.read(files, model, report, cache=cache)
            for files in (split.train.a, split.train.b)
        )
    check.training(split.train, a, b).enforce()
    held_out = (split.held_out.a[:HELD_OUT], split.held_out.b[:HELD_OUT])
    held_a, held_b = (images.to_unit(folders.load(files, model)) for files in held_out)
    batches = folders.Batches(
        a.rows, b.rows, batch=settings.batch, seed=settings.seed, flip=settings.flip
    )

    def files(step: int) -> tuple[list[str], list[str]]:
        in_a = [str(split.train.a[n]) for n in a.facts["file"][batches.rows(0, step)]]
        in_b = [str(split.train.b[n]) for n in b.facts["file"][batches.rows(1, step)]]
        return in_a, in_b

    return batches, (held_a, held_b), files


def _validation(
    training: "Training",
    run: Path,
    batches: "Batches",
    held_out: "HeldOut",
    pictures: dict[str, Any],
) -> "Validation | None":
    """What scores a training now and then; None, with a note, where that cannot be."""
    from dida_cli import hub
    from dida_cli.evaluate import attributes, validation

    settings, config = training.settings, training.model.config
    if not training.group.writes or not 0 < settings.score_every <= settings.steps:
        return None
    if task := validation.drawn_task(config, pictures):
        judge = attributes.load(hub.BUNDLED / hub.JUDGE)
        return validation.Validation(judge, validation.drawn(task, config.side))
    try:
        pairs = validation.held_out(*held_out)
        return validation.Validation(_judge(run, batches), pairs)
    except DidaError as error:
        console.note(f"warning: no scores, and no best: {error}")
        return None


def _judge(run: Path, batches: "Batches") -> Any:
    """The classifier of a run's domains, trained on its pictures when first asked for."""
    from dida_cli.evaluate import attributes

    if (run / JUDGE).exists():
        return attributes.load(run / JUDGE, attributes.DOMAIN)
    a, b = (rows[:: -(-len(rows) // LEARNED)] for rows in batches.domains)
    with console.progress("training the judge", "steps") as report:
        judge = attributes.tell_apart(a, b, on_progress=report)
    card = f"Tells the domains of {run.name} apart, to score its training.\n"
    attributes.save(judge, run / JUDGE, card, attributes.DOMAIN)
    return judge


def _go(
    training: "Training",
    run: Path,
    batches: "Batches",
    held_out: "HeldOut",
    files: "Files",
    pictures: dict[str, Any],
    command: str,
    track: Tracking | None,
) -> None:
    from dida_cli import checkpoint, images, render
    from dida_cli import train as core

    total = training.settings.steps
    tracker = _tracker(track, run, training)
    validation = _validation(training, run, batches, held_out, pictures)

    def score(model: "Network") -> dict[str, float]:
        assert validation
        return validation(checkpoint.baked(model).to("cpu"))

    def on_save(training: "Training") -> None:
        picture = sheet(training.averaged, *(domain[:SHOWN] for domain in held_out))
        images.write(picture, run / "sheets" / f"step-{training.step:06d}.png")
        if log := core.read_log(run):
            render.curves(log, run / "curves.png")
        if tracker:
            tracker.show(training.step, picture)

    with _stop_on_signals() as stop, console.progress("training", "steps") as report:

        def on_step(step: int, line: "Line | None") -> None:
            figures = {n: v for n, v in (line or {}).items() if isinstance(v, float)}
            words = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
            report(step, total, words)
            if tracker and figures:
                tracker.log(step, figures)
            if step % training.settings.save_every == 0 and words and not sys.stderr.isatty():
                console.note(f"step {step}/{total} {words}")

        report(training.step, total)
        finished = core.fit(
            training,
            batches,
            run,
            card=lambda t: core.card(t, pictures, command),
            files=files,
            score=score if validation else None,
            on_step=on_step,
            on_save=on_save,
            should_stop=lambda: stop.signal is not None,
        )
    if tracker:
        tracker.close()
    _tell_end(training, run)
    if not finished:
        console.note(f"stopped at step {training.step} and saved; go on: dida train --resume {run}")
        raise typer.Exit(128 + int(stop.signal or signal.SIGINT))
    console.note(f"trained; try: dida transfer -m {run} --content FACE --guide-a GUIDE")
    console.out(str(run))


def _tracker(track: Tracking | None, run: Path, training: "Training") -> "Tracker | None":
    from dida_cli import tracking

    if track is None or not training.group.writes:
        return None
    settings = training.settings.to_json() | training.model.config.to_json()
    return tracking.tracker(track, run, settings, training.step)


def _tell_end(training: "Training", run: Path) -> None:
    """What there is to know of a training that has ended, or was stopped."""
    from dida_cli import train as core

    for line in core.read_log(run):
        if warning := line.get("warning"):
            console.note(f"step {line['step']}: {core.CRITIC.get(warning, warning)}")
    if not training.best:
        return
    if training.is_over and training.step < training.settings.steps:
        console.note(
            f"ended early at step {training.step}: {training.best.since} scores without a better "
            "one; more: --resume with --override --patience 0"
        )
    best = f"{training.best.score:.3f} at step {training.best.step}"
    console.note(f"best score {best}; it is kept: dida transfer -m {run / core.BEST}")


def _tell_costs(training: "Training", batches: "Batches") -> None:
    """Make a few steps and print what the whole training will take. No run is made."""
    seconds = _seconds_a_step(training, batches)
    settings, config = training.settings, training.model.config
    a, b = (len(domain) for domain in batches.domains)
    parts = _parts(training)
    total = sum(parts.values())
    state = 4 * (COPIES * total - parts["critic"])  # which has no running mean
    pictures = sum(domain.nbytes for domain in batches.domains)
    peak = _peak_memory(training)
    console.out(f"pictures  A {a}, B {b} ({config.domains.a}, {config.domains.b})")
    console.out(f"network   {config.method}, {config.architecture}, {config.side} px")
    for name, count in [*parts.items(), ("together", total)]:
        console.out(f"  {name:<20} {count:>11,} parameters {_megabytes(4 * count):>9}")
    console.out(f"memory    about {_megabytes(peak + state)} at most, on {training.device.type}")
    console.out(f"  {'weights and Adam':<20} {_megabytes(state)}, twice in a save")
    console.out(f"  {'pictures':<20} {_megabytes(pictures)}")
    console.out(f"  {'measured':<20} {_megabytes(peak)} in {TRIED} steps, all this among it")
    console.out(
        f"speed     {1 / seconds:.3g} steps/s at {settings.batch} + {settings.batch} pictures"
    )
    console.out(
        f"time      {_duration(settings.steps * seconds)} for {settings.steps} steps, saves apart"
    )


def _seconds_a_step(training: "Training", batches: "Batches") -> float:
    """How long a step takes, making one that warms up and some more."""
    training.advance(*batches(0))
    began = time.perf_counter()
    for step in range(1, TRIED):
        training.advance(*batches(step))
    return (time.perf_counter() - began) / (TRIED - 1)


def _parts(training: "Training") -> dict[str, int]:
    """How many parameters each part of both players has."""
    parts = {f"encoder {name}": part for name, part in training.model.encoders.named_children()}
    parts |= {n: part for n, part in training.model.named_children() if n != "encoders"}
    parts["critic"] = training.critic
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def _peak_memory(training: "Training") -> int:
    """The most bytes this process has held so far, on the device that trains."""
    import resource

    import torch

    if training.device.type == "cuda":
        return torch.cuda.max_memory_allocated(training.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    """Days, hours and minutes, the two largest that count."""
    minutes = max(1, round(seconds / 60))
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


class _Stop:
    signal: int | None = None


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """SIGINT and SIGTERM ask to stop after the step; a second one interrupts at once."""
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = number
        console.note("finishing the step, saving, stopping; once more stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sheet(model: Any, a: "Tensor", b: "Tensor") -> Any:
    """Transfers between held-out pictures: contents down the left, guides along the top.

    Above: B's pictures with A's parts, below: A's pictures with B's parts.
    a, b: (N, 3, side, side) in [-1, 1].
    """
    import torch

    from dida_cli import render
    from dida_cli.codes import transfer
    from dida_cli.images import to_pictures

    device = next(model.parameters()).device
    a, b = a.to(device), b.to(device)
    rows: list[list[Any]] = []
    with torch.inference_mode():
        in_a, in_b = model.encode(a), model.encode(b)
        for contents, codes, guides, guide_codes, part in (
            (b, in_b, a, in_a, "guide_a"),
            (a, in_a, b, in_b, "guide_b"),
        ):
            rows.append([None, *to_pictures(guides)])
            for i, content in enumerate(to_pictures(contents)):
                row = [content]
                for j in range(len(guides)):
                    moved = transfer(codes.take(i), **{part: guide_codes.take(j)})
                    row += to_pictures(model.compose(moved, contents[i : i + 1]).image)
                rows.append(row)
    return render.sheet(rows)
