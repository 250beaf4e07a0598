"""A training at its first step, or where it was left; and what it comes from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dida_cli.cli import console, finish
from dida_cli.config import Part
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import torch

    from dida_cli.data.batches import Batches, Put
    from dida_cli.data.cache import Pictures
    from dida_cli.data.folders import File
    from dida_cli.data.sources import Fingerprint
    from dida_cli.distributed import Group
    from dida_cli.players import Sides
    from dida_cli.recipe import Recipe, Stage
    from dida_cli.training import Training

AVATAR_COUNT, AVATAR_SEED = 24_000, 0  # of the faces that are drawn when they are not there
HELD_OUT = 64  # pictures of each side of a part that are scored


class Source:
    """What a training comes from: its recipe and command, and its pictures as each stage sees them.

    `command` is as it was typed, for the card.
    """

    def __init__(self, wanted: "Recipe", command: str, root: Path, group: "Group") -> None:
        from dida_cli.data import sources

        self.wanted, self.command, self.root, self.group = wanted, command, root, group
        self.split = sources.split(root, wanted.expressions, wanted.split_by, wanted.balance)
        self._read: tuple[int, Pictures] | None = None  # at which side, what
        self._held: dict[int, dict[Part, Sides]] = {}  # the held-out pictures, by side

    @property
    def fingerprint(self) -> "Fingerprint":
        """What tells its pictures from others."""
        from dida_cli.data import sources

        return sources.fingerprint(self.split.train)

    def batches(self, stage: "Stage") -> "Batches":
        """What a stage learns from. Raises DidaError for pictures that no training is made of."""
        from dida_cli import hub
        from dida_cli.data import batches, check, folders, vary

        train, wanted = self.split.train, self.wanted
        folders.enough(train, stage.batch).enforce()
        margin = vary.MARGIN if wanted.training.vary and wanted.fit == "face" else 0.0
        side = round(stage.side * (1 + 2 * margin))
        if self._read is None or self._read[0] != stage.side:
            cache = hub.home() / "pictures"
            with console.progress("reading", "pictures") as report, self.group.first():
                read = folders.read(
                    train.files, side, wanted.fit, report, margin=margin, cache=cache
                )
            if self._read is None:
                check.training(train, read).enforce()
            self._read = stage.side, read
        return batches.Batches(
            train,
            self._read[1],
            batch=stage.batch,
            seed=wanted.seed,
            flip=wanted.training.flip,
            vary=stage.side if wanted.training.vary else 0,
            put=self._put(self._read[1], side, margin),
        )

    def _put(self, read: "Pictures", side: int, margin: float) -> "dict[Part, Put]":
        """How parts are put into pictures that lack them, where the recipe says how."""
        from dida_cli.data import avatars, batches, frames, swapped

        whole = 1 + 2 * margin
        in_drawings = self.wanted.fit == "drawing"
        square = avatars.SQUARE if in_drawings else (margin / whole, margin / whole, 1 / whole)
        put: dict[Part, Put] = {}
        for place, part in self.wanted.parts.items():
            if part.get("drawn"):
                put[place] = frames.bank(side, square, self.wanted.seed)
            elif region := part.get("region"):
                has = batches.rows_of(self.split.train, read)[place][0]
                how = self.wanted.training
                put[place] = swapped.Swapped(
                    read.rows[has], region, margin, flip=how.flip, vary=how.vary
                )
        return put

    def held_out(self, side: int) -> dict[Part, "Sides"]:
        """Pictures of each part that are not learned from, (N, 3, side, side) in [-1, 1]."""
        if side not in self._held:
            self._held[side] = self._held_out(side, lambda file: True)
        return self._held[side]

    def to_show(self, side: int) -> dict[Part, "Sides"]:
        """Those of them that may be shown."""
        from dida_cli.data import table

        if not self.wanted.shown:
            return self.held_out(side)
        labels = table.read(self.root)
        may = labels.where(self.wanted.shown)
        names = {Path(name).name for name, yes in zip(labels.files, may, strict=True) if yes}
        return self._held_out(side, lambda file: file.name in names)

    def _held_out(self, side: int, wanted: "Callable[[File], bool]") -> dict[Part, "Sides"]:
        import torch

        from dida_cli import images
        from dida_cli.data import folders
        from dida_cli.players import Sides

        def some(files: "list[File]") -> torch.Tensor:
            chosen = [file for file in files if wanted(file)][:HELD_OUT]
            if not chosen:
                return torch.empty(0, 3, side, side)
            return images.to_unit(folders.load(chosen, side, self.wanted.fit))

        sets = self.split.validation
        return {p: Sides(some(sets.having(p)), some(sets.lacking(p))) for p in sets.rows}

    def take(self, run: Path) -> None:
        """Let no other process work in a run's folder, as long as this is kept."""
        from dida_cli import locks

        if self.group.writes:
            self.lock = locks.taken(run)

    def record(self, run: Path) -> None:
        """Write into a run's folder what is trained, and on what."""
        from dida_cli import run as runs

        if self.group.writes:
            begun = runs.Begun(self.command, str(self.root.resolve()), self.fingerprint)
            runs.record(run, self.wanted, begun)


def is_undrawn(wanted: "Recipe") -> bool:
    """Whether a recipe's pictures are faces that are yet to be drawn."""
    from dida_cli import recipe
    from dida_cli.data import sources

    return wanted.data == recipe.AVATARS and not sources.is_labelled(Path(wanted.data))


def pictures(wanted: "Recipe") -> Path:
    """Where a recipe's pictures are; drawn faces are drawn if they are not there."""
    from dida_cli.data import avatars, sources

    root = sources.located(Path(wanted.data))
    if is_undrawn(wanted):
        console.note(f"drawing {AVATAR_COUNT} avatars into {root} first, some minutes")
        with console.progress("drawing", "faces") as report:
            avatars.write_set(root, count=AVATAR_COUNT, seed=AVATAR_SEED, on_progress=report)
    return root


def anew(
    run: Path, wanted: "Recipe", command: str, device: "torch.device", group: "Group"
) -> tuple[Source, "Training"]:
    """A training at its first step; its run's folder is there, and its pictures are read."""
    from dida_cli import run as runs
    from dida_cli.training import Training

    with group.first():
        root = pictures(wanted)
    source = Source(wanted, command, root, group)
    training = Training(wanted, 0, str(device), group)
    source.batches(training.settings)
    source.take(run)
    if group.writes:
        runs.refuse_taken(run)
    source.record(run)
    return source, training


def again(
    run: Path,
    wanted: "Recipe",
    command: str,
    device: "torch.device",
    group: "Group",
    override: bool,
) -> tuple[Source, "Training"]:
    """A run as it was saved; with `override` by another recipe, and on pictures that changed."""
    from dida_cli import recipe
    from dida_cli import run as runs
    from dida_cli.data import sources
    from dida_cli.training import resumed

    before, begun = runs.recorded(run)
    last = runs.last_of(run)
    changes = recipe.differences(before, wanted)
    root = Path(begun.root if before.data == wanted.data else wanted.data).resolve()
    source = Source(wanted, begun.command, root, group)
    source.take(run)
    others = sources.differences(begun.fingerprint, source.fingerprint)
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
    source.batches(training.settings)
    for line in changes + others:
        console.note(f"override: {line}")
    if changes or others:
        source.command += f"; {command}"
        source.record(run)
    if others:  # scores of other pictures cannot be compared
        training.best = None
        shutil.rmtree(run / finish.JUDGE, ignore_errors=True)
    return source, training
