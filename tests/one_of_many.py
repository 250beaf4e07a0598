"""One process of a training under torchrun, for the tests: RUN, the step to stop at, a pause.

Leaves its process id in RUN-RANK.pid. Fails when a thread of the group outlives it: such a thread
aborts a process that ends at the wrong moment.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dida_cli import distributed, runs
from dida_cli import train as core
from dida_cli.config import WEIGHTS, ModelConfig, TrainConfig

MODEL = ModelConfig(side=32, width=16, common=8, separate_a=3, separate_b=3)
SETTINGS = TrainConfig(
    steps=8, batch=16, critic_start=2, log_every=2, save_every=100, ema=0.9, weights=WEIGHTS["didd"]
)


def batches(step: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(step)
    a, b = (torch.rand(SETTINGS.batch, 3, 32, 32, generator=random) for _ in range(2))
    return a, -b


def fit(
    run: Path,
    stop: int,
    settings: TrainConfig = SETTINGS,
    pause: float = 0,
    group: distributed.Group = distributed.ALONE,
) -> core.Training:
    """Train in `run` up to the step `stop`, going on from whatever is saved there."""
    training = core.Training(MODEL, settings, group=group)
    if (run / "last").exists():
        training.restore(run / "last")
    elif group.writes:
        runs.start(run, MODEL, settings, {})

    def is_over() -> bool:
        time.sleep(pause)
        return training.step >= stop

    core.fit(training, batches, run, card=lambda t: "card", should_stop=is_over)
    return training


if __name__ == "__main__":
    run, stop, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    signal.signal(signal.SIGTERM, lambda *_: None)  # torchrun's, when another one is lost
    with distributed.joined(torch.device("cpu")) as group:
        Path(f"{run}-{group.rank}.pid").write_text(str(os.getpid()))
        fit(run, stop, replace(SETTINGS, steps=max(stop, SETTINGS.steps)), pause, group)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    if left := [name for name in threads if "gloo" in name]:
        sys.exit(f"threads outlive their group: {left}")
