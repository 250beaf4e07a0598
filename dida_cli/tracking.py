"""Where else a training's log goes: TensorBoard's event files, trackio or wandb.

All three are told the same things, and none is needed otherwise: the means of a log line (`log`),
the sheet of a save (`show`), and that nothing more comes (`close`).
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dida_cli.config import Tracking
from dida_cli.errors import DidaError
from dida_cli.images import Picture

LIBRARIES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}


def library(kind: Tracking) -> Any:
    """The library that tracks. Raises DidaError when it is not installed."""
    try:
        return import_module(LIBRARIES[kind])
    except ImportError:
        install = "'dida[track]'" if kind == "tensorboard" else kind
        raise DidaError(f"--track {kind}: it is not installed; pip install {install}") from None


class TensorBoard:
    """Event files in the run's own folder: `tensorboard --logdir runs`."""

    def __init__(self, run: Path, step: int) -> None:
        # what was logged after the state that is gone on from will be logged again
        self.writer = library("tensorboard").SummaryWriter(run / "tensorboard", purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def show(self, step: int, picture: Picture) -> None:
        pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image("sheet", pixels, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class Dashboard:
    """trackio or wandb, which share their words; a resumed run goes on under its name."""

    def __init__(self, kind: Tracking, run: Path, settings: Mapping[str, Any]) -> None:
        self.library = library(kind)
        name = run.resolve().name
        known = {"id": name} if kind == "wandb" else {}
        self.run = self.library.init(
            project="dida", name=name, config=dict(settings), resume="allow", **known
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def show(self, step: int, picture: Picture) -> None:
        self.run.log({"sheet": self.library.Image(picture)}, step=step)

    def close(self) -> None:
        self.run.finish()


Tracker = TensorBoard | Dashboard


def tracker(kind: Tracking, run: Path, settings: Mapping[str, Any], step: int) -> Tracker:
    """A tracker of the training in `run`, which goes on from `step`. Raises as `library` does."""
    return TensorBoard(run, step) if kind == "tensorboard" else Dashboard(kind, run, settings)
