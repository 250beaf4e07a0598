"""A training as tests make it: a small recipe, pictures of noise, nobody who looks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dida_cli import recipe
from dida_cli import run as runs
from dida_cli import train as core
from dida_cli.config import ModelConfig
from dida_cli.distributed import ALONE, Group
from dida_cli.players import Batch, Network, Sides
from dida_cli.recipe import Recipe
from dida_cli.training import Training, resumed

TRAINING = {"log_every": 2, "save_every": 5, "score_every": 0, "mean": 0.9, "precision": "float32"}


def recipe_for(
    config: ModelConfig,
    steps: int | Sequence[int] = 12,
    batch: int = 4,
    sides: Sequence[int] = (),
    settings: Mapping[str, Any] = {},
    seed: int = 0,
    **training: Any,
) -> Recipe:
    """A recipe of a config, in a stage for each of `steps`."""
    counts = [steps] if isinstance(steps, int) else steps
    names = {"a": config.domains.a, "b": config.domains.b}
    values = {
        "method": config.method,
        "seed": seed,
        "parts": {p: {"name": names[p], "with": p, "without": f"not {p}"} for p in config.parts},
        "stages": [
            {"steps": count, "side": side, "batch": batch}
            for count, side in zip(counts, sides or len(counts) * [config.side], strict=True)
        ],
        "training": TRAINING | training,
        "settings": config.settings | dict(settings),
    }
    return recipe.parse(values, "a test")


class Noise:
    """Batches of noise, bright with a part and dark without, a function of the step."""

    def __init__(self, recipe: Recipe, stage: int = 0) -> None:
        self.parts, self.stage = tuple(recipe.parts), recipe.stages[stage]

    def __call__(self, step: int) -> Batch:
        random = torch.Generator().manual_seed(step)
        shape = (self.stage.batch, 3, self.stage.side, self.stage.side)
        return {
            part: Sides(torch.rand(shape, generator=random), -torch.rand(shape, generator=random))
            for part in self.parts
        }

    def files(self, step: int) -> list[str]:
        """`a7+1.png`: of step 7 the second that has part a; `a7-1.png` lacks it."""
        places = range(self.stage.batch)
        return [
            f"{part}{step}{sign}{i}.png" for part in self.parts for sign in "+-" for i in places
        ]


class Nobody:
    """A watcher that only stops, when `stops` says so."""

    def __init__(
        self,
        stops: Callable[[], bool] = lambda: False,
        score: Callable[[Network], Mapping[str, float] | None] = lambda network: None,
    ) -> None:
        self.stops, self.score = stops, score

    def card(self, training: Training) -> str:
        best = training.best
        return f"best {best.score}\n" if best else "card\n"

    def stepped(self, step: int, line: runs.Line | None) -> None:
        pass

    def saved(self, training: Training) -> None:
        pass


def fit(run: Path, wanted: Recipe, stop: int | None = None, group: Group = ALONE) -> Training:
    """Train all stages in `run` up to a step, going on from whatever is saved there."""
    if (run / "last").exists():
        training = resumed(wanted, run / "last", group=group)
    else:
        training = Training(wanted, group=group)
        if group.writes:
            runs.start(run, wanted, runs.Begun("dida train", "x", {}))
    while True:
        batches = Noise(wanted, training.stage)
        stops = Nobody(lambda t=training: stop is not None and t.made >= stop)  # type: ignore[misc]
        if not core.fit(training, batches, run, stops) or training.is_last:
            return training
        training = training.next_stage()
