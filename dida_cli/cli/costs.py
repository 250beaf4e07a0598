"""What a training will take here, told before it is begun."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dida_cli.cli import begin, console

if TYPE_CHECKING:
    import torch

    from dida_cli.recipe import Recipe, Stage
    from dida_cli.training import Training

TRIED = 4  # steps; the first, which warms up, is not timed
DRAWN = 10  # faces


def seconds(wanted: "Recipe", device: "torch.device") -> float:
    """How long the steps of a training take here, by a few of them on noise."""
    from dida_cli.training import Training

    stages = enumerate(wanted.stages)
    return sum(s.steps * _step_of(Training(wanted, place, str(device))) for place, s in stages)


def tell(wanted: "Recipe", device: "torch.device") -> None:
    """Make a few steps of each stage on noise, and print what the whole training will take."""
    from dida_cli import recipe
    from dida_cli.data import folders
    from dida_cli.training import Training

    count = _tell_pictures(wanted)
    seconds, state, in_run = 0.0, 0, 0
    for place, stage in enumerate(wanted.stages):
        if wanted.method == recipe.JUDGE:
            a_step, weights = _step_of_judge(stage), ""
        else:
            training = Training(wanted, place, str(device))
            a_step = _step_of(training)
            sizes = {n: _bytes_of(module) for n, module in training.players.modules.items()}
            weights = "".join(f", {n} {size // 4:,} weights" for n, size in sizes.items() if size)
            # all weights, two moments of Adam of each, and the network's mean; the model beside it
            state = 3 * sum(sizes.values()) + 2 * sizes["network"]
            in_run = 2 * state + 2 * sizes["network"]  # last, last-1; best, model
        seconds += stage.steps * a_step
        console.out(
            f"stage {place + 1}   {stage.steps:,} steps at {stage.side} px, {stage.batch} pictures "
            f"of each set{weights}; {1 / a_step:.3g} steps/s, {duration(stage.steps * a_step)}"
        )
    sides = {stage.side for stage in wanted.stages}
    decoded = [folders.decoded_bytes(count, side, wanted.fit) for side in sides]
    kept, cached = max(size for size, _ in decoded), sum(size for _, size in decoded)
    memory = _megabytes(_peak_memory(device) + state + kept)
    console.out(f"time      {duration(seconds)}; drawing, reading, saves and scores apart")
    console.out(f"memory    about {memory} at most, on {device.type}")
    console.out(f"disk      {_megabytes(in_run)} in the run, {_megabytes(cached)} decoded pictures")


def _tell_pictures(wanted: "Recipe") -> int:
    """Tell what is learned from, or has yet to be drawn; how many pictures that is."""
    from dida_cli import recipe
    from dida_cli.data import avatars, folders, sources

    root = sources.located(Path(wanted.data))
    if begin.is_undrawn(wanted):
        began = time.perf_counter()
        for index in range(DRAWN):
            avatars.draw(avatars.factors_at(begin.AVATAR_SEED, index))
        a_face = (time.perf_counter() - began) / DRAWN / (os.cpu_count() or 1)
        taken = duration(begin.AVATAR_COUNT * a_face)
        console.out(f"pictures  {begin.AVATAR_COUNT:,} faces, which are drawn first: {taken}")
        return begin.AVATAR_COUNT
    if wanted.method == recipe.JUDGE:
        console.out(f"pictures  all of {root}")
        return len(list((root / "images").glob("*")))
    train = sources.split(root, wanted.expressions, wanted.split_by, wanted.balance).train
    for stage in wanted.stages:
        folders.enough(train, stage.batch).enforce()
    named = folders.named(train.rows)
    told = ", ".join(f"{len(rows):,} {name}" for name, rows in named.items())
    names = ", ".join(part["name"] for part in wanted.parts.values())
    console.out(f"pictures  {told} ({names})")
    return len(train.files)


def _step_of(training: "Training") -> float:
    """How long a step takes on pictures that show nothing, after one that warms up."""
    import torch

    from dida_cli.players import Sides

    stage = training.settings
    shape = (stage.batch, 3, stage.side, stage.side)
    parts = training.recipe.parts
    batch: dict[str, Sides] = {
        p: Sides(torch.rand(shape) * 2 - 1, torch.rand(shape) * 2 - 1) for p in parts
    }
    training.advance(batch)
    began = time.perf_counter()
    for _ in range(1, TRIED):
        training.advance(batch)
    return (time.perf_counter() - began) / (TRIED - 1)


def _step_of_judge(stage: "Stage") -> float:
    import torch

    from dida_cli.data import folders
    from dida_cli.evaluate import attributes

    pictures = torch.zeros(stage.batch, 3, stage.side, stage.side, dtype=torch.uint8)
    truth = {name: torch.zeros(stage.batch, dtype=torch.long) for name in attributes.FACTORS}
    judge, began = attributes.FactorClassifier(), time.perf_counter()
    attributes.fit(judge, pictures, truth, 0, folders.unheard, steps=TRIED, batch=stage.batch)
    return (time.perf_counter() - began) / TRIED


def _bytes_of(module: "torch.nn.Module") -> int:
    return sum(value.nbytes for value in module.state_dict().values())


def _peak_memory(device: "torch.device") -> int:
    """The most bytes this process has held so far, on the device that trains."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Days, hours and minutes, the two largest that count."""
    minutes = max(1, round(seconds / 60))
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
