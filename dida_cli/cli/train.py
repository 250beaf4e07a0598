"""The command that trains a model."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.options import Device, DeviceOpt, WithOpt, WithoutOpt, pick_device
from dida_cli.config import Architecture, CriticTarget, Fit, Method
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from torch import Tensor

    from dida_cli.config import ModelConfig, TrainConfig, Weights
    from dida_cli.data.folders import Split
    from dida_cli.train import Training

AVATARS = Path("avatars")  # drawn when asked for and absent
AVATAR_COUNT, AVATAR_SEED = 24_000, 0
WORDS = {"Smiling": "smile", "Eyeglasses": "glasses", "Beard": "beard"}
SHOWN = 5  # contents and guides on a sheet, each way


def train(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(help="Folder with trainA and trainB, or with list_attr_celeba.txt."),
    ] = AVATARS,
    a: Annotated[
        str | None, typer.Option(help="What A has, in an attribute list. [default: Smiling]")
    ] = None,
    b: Annotated[
        str | None, typer.Option(help="What B has, in an attribute list. [default: Eyeglasses]")
    ] = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    name_a: Annotated[str | None, typer.Option(help="What to call A's part, e.g. smile.")] = None,
    name_b: Annotated[str | None, typer.Option(help="What to call B's part, e.g. glasses.")] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="didd; layers: with masks, so that edits leave the rest of the picture alone; "
            "mask: the same as published, for one side."
        ),
    ] = "didd",
    architecture: Annotated[
        Architecture, typer.Option(help="Ours, or the ICCV paper's.")
    ] = "compact",
    side: Annotated[int, typer.Option(help="Side of the picture the model sees, in pixels.")] = 128,
    fit: Annotated[Fit, typer.Option(help="How a picture becomes square.")] = "crop",
    grid: Annotated[int | None, typer.Option(help="Side of the codes' grid in cells.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the deepest stage.")] = None,
    common: Annotated[int | None, typer.Option(help="Channels of the common code.")] = None,
    separate_a: Annotated[int | None, typer.Option(help="Channels of A's own code.")] = None,
    separate_b: Annotated[
        int | None, typer.Option(help="Channels of B's own code; 0: B has nothing of its own.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the whole training.")] = 9000,
    batch: Annotated[int, typer.Option(help="Pictures of each domain in a step.")] = 16,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the start; compact 0.001, paper 0.0002.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: weight of a loss, e.g. mask=0.05; repeatable."),
    ] = None,
    critic_target: Annotated[
        CriticTarget, typer.Option(help="What the encoder wants the critic to say: 0.5, or 1.")
    ] = "half",
    flip: Annotated[bool, typer.Option(help="Mirror half of the pictures.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights and of the order.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saves and sheets.")] = 500,
    init: Annotated[
        str | None, typer.Option(help="Begin with the weights of this model: name or folder.")
    ] = None,
    device: DeviceOpt = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New folder of the run. [default: runs/NAMES]"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run, by its own settings.")
    ] = None,
) -> None:
    """Learn a transfer from two unpaired folders of pictures.

    With no options: smile and glasses on drawn faces, which are drawn first if absent. Ctrl-C
    saves and stops; --resume RUN goes on. The run's folder is a model for dida transfer -m.
    """
    from dida_cli.config import LEARNING_RATES, Domains, ModelConfig, TrainConfig

    command = shlex.join(["dida", *context.obj])
    if resume is not None:
        _refuse_other_options(context)
        _resume(resume, command, device)
        return
    pictures = _pictures(data, a, b, having, lacking)
    names = Domains(
        a=name_a or _word(pictures.get("a", "A")), b=name_b or _word(pictures.get("b", "B"))
    )
    model = ModelConfig.of(
        method,
        architecture,
        domains=names,
        side=side,
        fit=fit,
        grid=grid,
        width=width,
        common=common,
        separate_a=separate_a,
        separate_b=separate_b,
    )
    settings = TrainConfig(
        steps=steps,
        batch=batch,
        learning_rate=LEARNING_RATES[architecture] if learning_rate is None else learning_rate,
        weights=_weights(method, weight or []),
        critic_target=critic_target,
        flip=flip,
        seed=seed,
        save_every=save_every,
    )
    run = out or _free_name(Path("runs") / f"{names.a}-{names.b}")
    _start(run, model, settings, pictures, command, device, init)


def _weights(method: Method, given: list[str]) -> "Weights":
    """The method's usual weights, but for those given as NAME=VALUE. Raises a usage error."""
    from dida_cli.config import WEIGHTS

    usual = WEIGHTS[method].to_json()
    for one in given:
        name, _, value = one.partition("=")
        if name not in usual:
            raise typer.BadParameter(f"--weight {one}: no such loss; {', '.join(usual)}.")
        try:
            usual[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--weight {one}: give a number, {name}=0.5.") from None
    return type(WEIGHTS[method]).from_json(usual, "--weight")


def _pictures(
    data: Path, a: str | None, b: str | None, having: list[str] | None, lacking: list[str] | None
) -> dict[str, Any]:
    """What to train on, as the run records it; the default avatars are drawn if absent."""
    from dida_cli.data import avatars, celeba, sources

    if data == AVATARS and not (data / celeba.ATTRIBUTE_LIST).exists():
        console.note(f"drawing {AVATAR_COUNT} avatars into {AVATARS} first, some minutes")
        with console.progress("drawing", "faces") as report:
            avatars.write_set(data, count=AVATAR_COUNT, seed=AVATAR_SEED, on_progress=report)
    record = sources.record(data, a, b, having or [], lacking or [])
    if "a" not in record and (a or b or having or lacking):
        raise typer.BadParameter(
            f"--a, --b, --with and --without choose from {celeba.ATTRIBUTE_LIST}, "
            f"which {data} has not; name its parts with --name-a and --name-b."
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


def _start(
    run: Path,
    model: "ModelConfig",
    settings: "TrainConfig",
    pictures: dict[str, Any],
    command: str,
    device: Device,
    init: str | None,
) -> None:
    from dida_cli import checkpoint
    from dida_cli import train as core
    from dida_cli.data import sources

    where = pick_device(device)
    core.refuse_taken(run)
    begun = checkpoint.load(models.folder_of(init)) if init else None
    split = sources.for_training(pictures)
    batches, held_out = _load(split, model, settings)
    core.start(run, model, settings, pictures)
    training = core.Training(model, settings, str(where))
    if begun:
        fresh = training.begin_from(begun)
        console.note(f"begun from {init}; fresh: {', '.join(fresh) or 'nothing'}")
    _go(training, run, batches, held_out, pictures, command)


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


def _load(split: "Split", model: "ModelConfig", settings: "TrainConfig") -> tuple[Any, Any]:
    """Batches to learn from, and (A, B) of held-out pictures to look at, (N, 3, side, side)."""
    from dida_cli import images
    from dida_cli.data import folders

    folders.check_enough(split.train, settings.batch)
    with console.progress("reading", "pictures") as report:
        a, b = (folders.load(files, model, report) for files in (split.train.a, split.train.b))
    shown = (split.held_out.a[:SHOWN], split.held_out.b[:SHOWN])
    held_out = tuple(images.to_unit(folders.load(files, model)) for files in shown)
    batches = folders.Batches(a, b, batch=settings.batch, seed=settings.seed, flip=settings.flip)
    return batches, held_out


def _go(
    training: "Training",
    run: Path,
    batches: Any,
    held_out: tuple["Tensor", "Tensor"],
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
