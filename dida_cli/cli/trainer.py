"""A training at work: what it reads, what is shown and told of it, and how it is stopped."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from dida_cli.cli import console
from dida_cli.config import ModelConfig, Tracking, TrainConfig
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from torch import Tensor

    from dida_cli.checkpoint import Network
    from dida_cli.data.folders import Batches, Split
    from dida_cli.distributed import Group
    from dida_cli.evaluate.validation import Validation
    from dida_cli.runs import Line
    from dida_cli.tracking import Tracker
    from dida_cli.train import Training

    HeldOut = tuple[Tensor, Tensor]
    Files = Callable[[int], tuple[Sequence[str], Sequence[str]]]

JUDGE = "judge"  # of a run: the classifier of its domains, where no bundled one knows them
LEARNED = 2000  # pictures of each domain that it learns from
HELD_OUT = 64  # pictures of each domain that are scored
SHOWN = 5  # of them, contents and guides on a sheet, each way
TRIED = 4  # steps of a dry run; the first, which warms up, is not timed
COPIES = 5  # of a weight in a training: itself, gradient, two moments of Adam, running mean


def load(
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


def go(
    training: "Training",
    run: Path,
    batches: "Batches",
    held_out: "HeldOut",
    files: "Files",
    pictures: dict[str, Any],
    command: str,
    track: Tracking | None,
) -> None:
    """Train to the end or until stopped, showing and telling how it goes."""
    from dida_cli import checkpoint, images, render, runs
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
        if log := runs.read_log(run):
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
    from dida_cli import runs

    for line in runs.read_log(run):
        if warning := line.get("warning"):
            console.note(f"step {line['step']}: {runs.CRITIC.get(warning, warning)}")
    if not training.best:
        return
    if training.is_over and training.step < training.settings.steps:
        console.note(
            f"ended early at step {training.step}: {training.best.since} scores without a better "
            "one; more: --resume with --override --patience 0"
        )
    best = f"{training.best.score:.3f} at step {training.best.step}"
    console.note(f"best score {best}; it is kept: dida transfer -m {run / runs.BEST}")


def tell_costs(training: "Training", batches: "Batches") -> None:
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
                    own, onto = codes.take(i), contents[i : i + 1]
                    moved = transfer(own, **{part: guide_codes.take(j)})
                    row += to_pictures(model.compose(moved, onto, own).image)
                rows.append(row)
    return render.sheet(rows)
