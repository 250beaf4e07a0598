"""The command that trains a model."""

import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.options import Device, DeviceOpt, WithOpt, WithoutOpt, pick_device
from dida_cli.config import Architecture, CriticTarget, Method, ModelConfig, TrainConfig
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from torch import Tensor

    from dida_cli.data.folders import Batches, Split
    from dida_cli.train import Training

    HeldOut = tuple[Tensor, Tensor]

AVATARS = Path("avatars")  # drawn when asked for and absent
AVATAR_COUNT, AVATAR_SEED = 24_000, 0
WORDS = {"Smiling": "smile", "Eyeglasses": "glasses", "Beard": "beard"}
CHOICE = ("data.a", "data.b", "data.with", "data.without")  # only where an attribute list is
CONFIG = "config.toml"  # of a run: all its settings, for people and for --config
SHOWN = 5  # contents and guides on a sheet, each way
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell sizes, memory, speed and time; start no run.")
    ] = False,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Tell what --config knows by name, and leave.")
    ] = False,
) -> None:
    """Learn a transfer from two unpaired folders of pictures.

    With no options: smile and glasses on drawn faces, which are drawn first if absent. Ctrl-C
    saves and stops; --resume RUN goes on. The run's folder is a model for dida transfer -m, and
    its config.toml is all of its settings, for --config.
    """
    from dida_cli import settings
    from dida_cli import train as core
    from dida_cli.images import write_bytes

    command = shlex.join(["dida", *context.obj])
    if list_presets:
        for name, words in settings.presets().items():
            console.out(f"{name:<14} {words}")
        return
    if resume is not None:
        _refuse_other_options(context)
        _resume(resume, command, device)
        return
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
        "init": init,
    }
    given = {name: value for name, value in options.items() if value is not None}
    for assignment in assignments or []:
        given |= settings.assigned(assignment)
    values = (settings.read(config) if config else {}) | given
    pictures = _pictures(values, given, may_draw=not dry_run)
    names = {f"model.domains.{x}": _word(pictures.get(x, x.upper())) for x in ("a", "b")}
    values = names | values
    model = settings.model_of(values)
    training_config = settings.training_of(values, model)
    run = out or _free_name(Path("runs") / f"{model.domains.a}-{model.domains.b}")
    core.refuse_taken(run)
    begin_from = values.get("init")
    training, batches, held_out = _prepare(model, training_config, pictures, begin_from, device)
    if dry_run:
        _tell_costs(training, batches)
        return
    core.start(run, model, training_config, pictures)
    text = settings.to_toml(model, training_config, pictures, begin_from)
    write_bytes(text.encode(), run / CONFIG)
    _go(training, run, batches, held_out, pictures, command)


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


def _refuse_other_options(context: typer.Context) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        given = source is not None and source.name == "COMMANDLINE"
        if given and parameter.name not in ("resume", "device"):
            raise typer.BadParameter(
                f"--resume goes on by the run's own settings; drop {parameter.opts[0]}."
            )


def _prepare(
    model: ModelConfig,
    settings: TrainConfig,
    pictures: dict[str, Any],
    init: str | None,
    device: Device,
) -> tuple["Training", "Batches", "HeldOut"]:
    """A training before its first step, begun from the model `init`, and what it looks at."""
    from dida_cli import checkpoint
    from dida_cli import train as core
    from dida_cli.data import sources

    where = pick_device(device)
    begun = checkpoint.load(models.folder_of(init)) if init else None
    batches, held_out = _load(sources.for_training(pictures), model, settings)
    training = core.Training(model, settings, str(where))
    if begun:
        fresh = training.begin_from(begun)
        console.note(f"begun from {init}; fresh: {', '.join(fresh) or 'nothing'}")
    return training, batches, held_out


def _resume(run: Path, command: str, device: Device) -> None:
    from dida_cli import train as core
    from dida_cli.data import sources

    model, settings, pictures = core.settings_of(run)
    last = next((run / n for n in ("last", "last-1") if (run / n / core.STATE).exists()), None)
    if last is None:
        raise DidaError(f"{run}: was stopped before its first save; start it anew")
    batches, held_out = _load(sources.for_training(pictures), model, settings)
    training = core.Training(model, settings, str(pick_device(device)))
    training.restore(last)
    _go(training, run, batches, held_out, pictures, command)


def _load(split: "Split", model: ModelConfig, settings: TrainConfig) -> tuple["Batches", "HeldOut"]:
    """Batches to learn from, and (A, B) of held-out pictures to look at, (N, 3, side, side)."""
    from dida_cli import hub, images
    from dida_cli.data import check, folders

    folders.check_enough(split.train, settings.batch)
    cache = hub.home() / "pictures"
    with console.progress("reading", "pictures") as report:
        a, b = (
            folders.read(files, model, report, cache=cache)
            for files in (split.train.a, split.train.b)
        )
    check.training(split.train, a, b).enforce()
    shown = (split.held_out.a[:SHOWN], split.held_out.b[:SHOWN])
    shown_a, shown_b = (images.to_unit(folders.load(files, model)) for files in shown)
    batches = folders.Batches(
        a.rows, b.rows, batch=settings.batch, seed=settings.seed, flip=settings.flip
    )
    return batches, (shown_a, shown_b)


def _go(
    training: "Training",
    run: Path,
    batches: "Batches",
    held_out: "HeldOut",
    pictures: dict[str, Any],
    command: str,
) -> None:
    from dida_cli import images, render
    from dida_cli import train as core

    total = training.settings.steps

    def on_save(training: "Training") -> None:
        picture = sheet(training.averaged, *held_out)
        images.write(picture, run / "sheets" / f"step-{training.step:06d}.png")
        if log := core.read_log(run):
            render.curves(log, run / "curves.png")

    with _stop_on_signals() as stop, console.progress("training", "steps") as report:

        def on_step(step: int, means: dict[str, float] | None) -> None:
            words = " ".join(f"{name} {value:.3f}" for name, value in (means or {}).items())
            report(step, total, words)
            if step % training.settings.save_every == 0 and means and not sys.stderr.isatty():
                console.note(f"step {step}/{total} {words}")

        report(training.step, total)
        finished = core.fit(
            training,
            batches,
            run,
            card=lambda t: core.card(t, pictures, command),
            on_step=on_step,
            on_save=on_save,
            should_stop=lambda: stop.signal is not None,
        )
    if not finished:
        console.note(f"stopped at step {training.step} and saved; go on: dida train --resume {run}")
        raise typer.Exit(128 + int(stop.signal or signal.SIGINT))
    console.note(f"trained; try: dida transfer -m {run} --content FACE --guide-a GUIDE")
    console.out(str(run))


def _tell_costs(training: "Training", batches: "Batches") -> None:
    """Make a few steps and print what the whole training will take. Nothing is written."""
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
