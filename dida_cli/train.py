"""The training loop: batch, losses, backward, step, mean, log, save."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dida_cli import checkpoint, run
from dida_cli.distributed import ProcessLostError
from dida_cli.errors import DidaError
from dida_cli.players import Batch, Network, Sides
from dida_cli.run import Line
from dida_cli.training import NotFiniteError, Training

NAMED = 4  # pictures of a bad batch that are named one by one


class Batches(Protocol):
    """Where pictures come from: a pure function of the steps made before."""

    def __call__(self, step: int) -> Batch: ...

    def files(self, step: int) -> Sequence[str]:
        """The names of a batch's pictures: for each part those that have it, then the others."""


class Watcher(Protocol):
    """Who hears of a training as it goes, and may stop it."""

    def card(self, training: Training) -> str:
        """The README of a saved model."""

    def score(self, network: Network) -> Mapping[str, float] | None:
        """Figures of a network, among them `score`, the more the better; None: there are none."""

    def stepped(self, step: int, line: Line | None) -> None:
        """A step is made; its line of the log, where it is logged."""

    def saved(self, training: Training) -> None:
        """The state is saved."""

    def stops(self) -> bool:
        """Whether to stop before the next step."""


def fit(training: Training, batches: Batches, folder: Path, watcher: Watcher) -> bool:
    """Train to the last step of the stage, till patience ends, or until it is stopped; then save.

    Returns whether the stage is over. Raises DidaError, what was last saved being kept, when a loss
    is not finite or the disk is full.
    """
    settings, group = training.recipe.training, training.group
    log = run.log_until(folder, training.made, writes=group.writes)
    try:
        while not training.is_over and not group.any(watcher.stops(), training.device):
            _one_step(training, batches)
            step = training.made
            line: Line = {}
            if step % settings.log_every == 0 or training.is_over:
                line |= training.means()
            if training.is_scored and (figures := _scored(training, watcher)):
                line |= figures
                if training.compare(figures["score"]) and group.writes:
                    files = checkpoint.model_files(training.network, watcher.card(training))
                    checkpoint.write_folder(folder / run.BEST, files)
            if line:
                log.append({"step": step, "rate": training.fall(), **line})
                run.watch_critic(log)
                if group.writes:
                    run.append(folder / run.LOG, log[-1])
            watcher.stepped(step, log[-1] if line else None)
            # a score is saved at once, lest `best` be of a state that nothing remembers
            if (step % settings.save_every == 0 or "score" in line) and not training.is_over:
                _save(training, folder, watcher)
    except ProcessLostError as error:
        _save_once(training, folder, watcher)
        again = f"dida train --resume {shlex.quote(str(folder))}"
        raise ProcessLostError(f"{error}; step {training.made} is saved: {again}") from None
    _save(training, folder, watcher)
    return training.is_over


def _scored(training: Training, watcher: Watcher) -> Mapping[str, float] | None:
    """What the first process says of the network, for all of them."""
    group = training.group
    return group.agreed(watcher.score(training.network) if group.writes else None)


def _save(training: Training, folder: Path, watcher: Watcher) -> None:
    if training.group.writes:
        training.save(folder, watcher.card(training))
        watcher.saved(training)


def _save_once(training: Training, folder: Path, watcher: Watcher) -> None:
    """Save by one of the processes that are left: the one that is lost may be the first."""
    claim = folder / f".saving-{training.made}"
    try:
        claim.mkdir()
    except FileExistsError:
        return
    training.save(folder, watcher.card(training))
    claim.rmdir()


def _one_step(training: Training, batches: Batches) -> None:
    """Advance, and keep count of terms and time; what is not finite is told with its pictures."""
    began, busy = time.perf_counter(), time.process_time()
    batch = batches(training.made)
    try:
        terms = training.advance(batch)
    except NotFiniteError as error:
        names = _at_fault(training, batch, batches.files(training.made))
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        told = f" ({', '.join(names[:NAMED] + more)})" if names else ""
        raise DidaError(
            f"{error}{told}; the last saved state is kept: go on from it by --resume with "
            "--override and a lower rate (--set settings.rate=...), or start anew"
        ) from None
    for name, term in terms.items():
        training.sums[name] = training.sums.get(name, 0.0) + term.item()
    training.summed += 1
    training.seconds += time.perf_counter() - began
    training.cpu_seconds += time.process_time() - busy


def _at_fault(training: Training, batch: Batch, names: Sequence[str]) -> list[str]:
    """The pictures that alone, on both sides of every part, give what is not finite; else all."""
    parts = {key: sides for key, sides in batch.items() if isinstance(sides, Sides)}

    def is_bad(picture: Tensor) -> bool:
        alone = dict.fromkeys(parts, Sides(picture, picture))
        return not all(term.isfinite() for term in training.terms(alone).values())

    pictures = torch.cat([rows for sides in parts.values() for rows in sides])
    bad = [is_bad(picture) for picture in torch.split(pictures, 1)]
    found = [name for name, wrong in zip(names, bad, strict=True) if wrong]
    return list(dict.fromkeys(found or names))
