"""One process of a training under torchrun, for the tests: RUN, the step to stop at, a pause.

Leaves its process id in RUN-RANK.pid. Fails when a thread of the group outlives it: such a thread
aborts a process that ends at the wrong moment.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from trained import Nobody, Noise, recipe_for

from dida_cli import distributed, methods
from dida_cli import run as runs
from dida_cli import train as core
from dida_cli.config import Domains, ModelConfig
from dida_cli.recipe import Recipe
from dida_cli.training import Training, resumed

SMALL = {"width": 16, "common": 8, "separate": 3, "critic_start": 2}


def recipe(steps: int = 8, accumulate: int = 1) -> Recipe:
    """That of a training which may be shared."""
    settings = methods.complete("didd", SMALL)
    model = ModelConfig(method="didd", domains=Domains(a="a", b="b"), side=32, settings=settings)
    return recipe_for(model, steps=steps, batch=16, save_every=100, accumulate=accumulate)


def fit(
    run: Path,
    stop: int,
    wanted: Recipe,
    pause: float = 0,
    group: distributed.Group = distributed.ALONE,
) -> Training:
    """Train in `run` up to the step `stop`, going on from whatever is saved there."""
    if (run / "last").exists():
        training = resumed(wanted, run / "last", group=group)
    else:
        training = Training(wanted, group=group)
        if group.writes:
            runs.start(run, wanted, runs.Begun("dida train", "x", {}))

    def is_over() -> bool:
        time.sleep(pause)
        return training.step >= stop

    core.fit(training, Noise(wanted), run, Nobody(stops=is_over))
    return training


if __name__ == "__main__":
    run, stop, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    signal.signal(signal.SIGTERM, lambda *_: None)  # torchrun's, when another one is lost
    with distributed.joined(torch.device("cpu")) as group:
        Path(f"{run}-{group.rank}.pid").write_text(str(os.getpid()))
        fit(run, stop, recipe(steps=max(stop, 8)), pause, group)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    if left := [name for name in threads if "gloo" in name]:
        sys.exit(f"threads outlive their group: {left}")
