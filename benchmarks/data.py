"""The training step on real data over the same step on pictures that are in memory already.

Real data are batches as a training takes them: decoded pictures in a mapped file, shuffled, half
of them mirrored. The other side is one batch of them, again and again.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch

from benchmarks.paired import Pair, in_turns, options, seconds, tell
from dida_cli.config import ModelConfig, TrainConfig
from dida_cli.data import cache
from dida_cli.data.folders import Batches
from dida_cli.train import Training


def mapped(path: Path, pictures: int, side: int, seed: int) -> torch.Tensor:
    """Noise pictures (N, 3, side, side), uint8, in a file as `dida train` keeps decoded ones."""
    shape = (3, side, side)
    random = np.random.default_rng(seed)

    def items() -> Iterator[cache.Item]:
        for _ in range(pictures):
            yield cache.item(random.integers(0, 256, shape, np.uint8))

    cache.write(path, items(), pictures * 3 * side**2)
    found = cache.opened(path, shape)
    if found is None:
        raise SystemExit(f"{path}: not as it was written")
    return found.rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, rounds=30)
    parser.add_argument("--pictures", type=int, default=6000, help="of a domain [%(default)s]")
    parser.add_argument("--side", type=int, default=128, help="in pixels [%(default)s]")
    parser.add_argument("--batch", type=int, default=TrainConfig.batch, help="[%(default)s]")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    settings = TrainConfig(batch=given.batch)
    training = Training(ModelConfig(side=given.side), settings, given.device)
    with tempfile.TemporaryDirectory() as place:
        a, b = (
            mapped(Path(place) / f"{name}{cache.SUFFIX}", given.pictures, given.side, seed)
            for seed, name in enumerate("ab")
        )
        batches = Batches(a, b, batch=settings.batch, seed=0, flip=True)
        ready = batches(0)
        step = count()
        times = in_turns(
            lambda: seconds(lambda: training.advance(*batches(next(step))), given.device),
            lambda: seconds(lambda: training.advance(*ready), given.device),
            rounds=given.rounds,
        )
    title = f"Data, {given.batch} + {given.batch} pictures of {given.side} px"
    tell(title, [Pair("step on real data", "step on data in memory", "s", *times)], given)


if __name__ == "__main__":
    main()
