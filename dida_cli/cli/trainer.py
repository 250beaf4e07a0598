"""A training at work: what is shown and told of it, and how it is stopped."""

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from dida_cli.cli import console, finish
from dida_cli.cli.begin import Source
from dida_cli.config import Part, Tracking
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.cli.console import Report
    from dida_cli.evaluate.validation import Validation
    from dida_cli.players import Network, Sides
    from dida_cli.run import Line
    from dida_cli.tracking import Tracker
    from dida_cli.training import Training


class Watching:
    """What people see of a training while it goes on; a `train.Watcher`."""

    def __init__(self, source: Source, run: Path, track: Tracking | None) -> None:
        self.source, self.run, self.track = source, run, track
        self.total = sum(stage.steps for stage in source.wanted.stages)
        self.stop = _Stop()
        self.report: Report = lambda done, total, words="": None
        self.tracker: Tracker | None = None
        self.held_out: Mapping[Part, Sides] = {}
        self.to_show: Mapping[Part, Sides] = {}
        self.validation: Validation | None = None

    def look_at(self, training: "Training") -> None:
        """Turn to a stage that begins, or goes on."""
        from dida_cli import tracking

        if not training.group.writes:
            return
        if self.track and not self.tracker:
            settings = training.recipe.to_json()
            self.tracker = tracking.tracker(self.track, self.run, settings, training.made)
        self.held_out = self.source.held_out(training.settings.side)
        self.to_show = self.source.to_show(training.settings.side)
        if training.is_last and training.recipe.training.score_every:
            self.validation = self._validation(training)
        self.report(training.made, self.total)

    def card(self, training: "Training") -> str:
        return finish.card(training, self.source, self.run)

    def score(self, network: "Network") -> Mapping[str, float] | None:
        from dida_cli import checkpoint

        return self.validation(checkpoint.baked(network).to("cpu")) if self.validation else None

    def stepped(self, step: int, line: "Line | None") -> None:
        figures = {n: v for n, v in (line or {}).items() if isinstance(v, float)}
        words = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self.report(step, self.total, words)
        if self.tracker and figures:
            self.tracker.log(step, figures)
        every = self.source.wanted.training.save_every
        if step % every == 0 and words and not sys.stderr.isatty():
            console.note(f"step {step}/{self.total} {words}")

    def saved(self, training: "Training") -> None:
        from dida_cli import images, render
        from dida_cli import run as runs

        if log := runs.read_log(self.run):
            render.curves(log, self.run / "curves.png")
        if picture := finish.sheet(training.network, self.to_show):
            images.write(picture, self.run / "sheets" / f"step-{training.made:06d}.png")
            if self.tracker:
                self.tracker.show(training.made, picture)

    def stops(self) -> bool:
        return self.stop.signal is not None

    def _validation(self, training: "Training") -> "Validation | None":
        """What scores a training now and then; None, with a note, where that cannot be."""
        from dida_cli import hub
        from dida_cli.evaluate import attributes, validation

        config, source = training.network.config, self.source
        try:
            if task := validation.drawn_task(source.root, source.wanted.expressions):
                judge = attributes.load(hub.BUNDLED / hub.JUDGE)
                return validation.Validation(judge, validation.drawn(task, config.side))
            pairs = validation.held_out(self.held_out)
            return validation.Validation(finish.judge_of(self.run, source), pairs)
        except DidaError as error:
            console.note(f"warning: no scores, and no best: {error}")
            return None


def go(training: "Training", source: Source, run: Path, track: Tracking | None) -> None:
    """Train all stages to the end or until stopped; then write the model."""
    from dida_cli import run as runs
    from dida_cli import train as core

    watching = Watching(source, run, track)
    begun_at, named = training.made, shlex.quote(str(run))
    if training.is_over and training.is_last:
        again = f"dida train --resume {named} --override --steps N"
        console.note(f"already at step {begun_at} of {watching.total}; {again} goes on")
    with _stop_on_signals(watching.stop), console.progress("training", "steps") as watching.report:
        while True:
            batches = source.batches(training.settings)
            watching.look_at(training)
            is_over = core.fit(training, batches, run, watching)
            if training.is_last or not is_over:
                break
            training = training.next_stage()
    if watching.tracker:
        watching.tracker.close()
    _tell_end(training, run)
    if not is_over:
        console.note(
            f"stopped at step {training.made} and saved; go on: dida train --resume {named}"
        )
        raise typer.Exit(128 + int(watching.stop.signal or signal.SIGINT))
    if training.group.writes and (training.made > begun_at or not (run / runs.MODEL).exists()):
        finish.write(training, source, run)
    guide = f"--guide-a {training.network.config.domains.a.upper()}"
    console.note(f"trained; try: dida transfer -m {named} --content FACE {guide}")
    console.out(str(run))


def _tell_end(training: "Training", run: Path) -> None:
    """What there is to know of a training that has ended, or was stopped."""
    from dida_cli import run as runs

    for line in runs.read_log(run):
        if warning := line.get("warning"):
            console.note(f"step {line['step']}: {runs.CRITIC.get(warning, warning)}")
    if not training.best:
        return
    if training.is_over and training.step < training.settings.steps:
        console.note(
            f"ended early at step {training.made}: {training.best.since} scores without a better "
            "one; more: --resume with --override --set training.patience=0"
        )
    best = f"{training.best.score:.3f} at step {training.best.step}"
    console.note(
        f"best score {best}; it is kept: dida transfer -m {shlex.quote(str(run / runs.BEST))}"
    )


class _Stop:
    signal: int | None = None


@contextmanager
def _stop_on_signals(stop: _Stop) -> Iterator[None]:
    """SIGINT and SIGTERM ask to stop after the step; a second one interrupts at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = number
        console.note("finishing the step, saving, stopping; once more stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
