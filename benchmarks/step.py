"""The training step: `paper` over a literal one, and how near `compact` comes to the processor.

1. `paper`, 128 px, 32 pictures of each domain, against the step as the release makes it
   (literal.py): first the losses of both for the same weights and pictures, which must agree to
   1e-5, then seconds a step.
2. `compact`, 16 pictures of each domain, `didd` and `layers`: FLOP/s over those of a large float32
   matrix product, and where the time of a step goes by kind of operator.
"""

import argparse
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.literal import Literal
from benchmarks.paired import Pair, in_turns, options, seconds, synchronize, tell
from dida_cli.config import LEARNING_RATES, WEIGHTS, Method, ModelConfig, TrainConfig
from dida_cli.train import Training

SAME = {"cpu": 1e-5, "cuda": 1e-3}  # CUDA's convolutions round to TF32
PAPER = replace(WEIGHTS["didd"], common=0.001)  # the released weights

# The first word that a profiled operator's name contains decides.
KINDS = {
    "convolution backward": ("convolution_backward",),
    "convolution": ("convolution", "conv_transpose"),
    "norm": ("_norm", "_batch_norm"),
    "activation": ("relu", "threshold", "tanh", "sigmoid"),
    "optimizer": ("adam",),
    "running mean": ("lerp",),
    "copy": ("copy_", "cat"),
}


def quick(settings: TrainConfig, device: str) -> TrainConfig:
    """The settings with what a device is fastest with: on CUDA bfloat16, compiled."""
    if device.startswith("cuda"):
        return replace(settings, precision="bfloat16", compile=True)
    return settings


def pictures(settings: TrainConfig, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Noise (batch, 3, side, side) in [-1, 1], the same each time, in the memory of the host."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, settings.batch, 3, config.side, config.side, generator=random) * 2 - 1
    return a, b


def against_literal(
    config: ModelConfig, batch: int, given: argparse.Namespace
) -> tuple[Pair, float]:
    """Pictures/s of ours over those of the literal step, once their losses are the same.

    And the FLOPs of the literal step over those of ours.
    """
    settings = TrainConfig(
        batch=batch,
        learning_rate=LEARNING_RATES["paper"],
        weights=PAPER,
        critic_target="paper",
        critic_start=0,
    )
    a, b = pictures(settings, config)
    ours = Training(config, settings, given.device)
    literal = Literal(config, PAPER, settings.learning_rate, given.device)
    literal.take_over(ours.model, ours.critic)
    check_same(literal.terms(a, b), ours, a, b)
    arithmetic = flops(lambda: literal.advance(a, b)) / flops(lambda: ours.advance(a, b))
    ours = Training(config, quick(settings, given.device), given.device)
    with literal_apart(config, settings, given) as literal_seconds:
        times = in_turns(
            lambda: 2 * batch / seconds(lambda: ours.advance(a, b), given.device),
            lambda: 2 * batch / literal_seconds(),
            rounds=given.rounds,
        )
    return Pair("`paper` step", "literal step", "pictures/s", *times), arithmetic


@contextmanager
def literal_apart(
    config: ModelConfig, settings: TrainConfig, given: argparse.Namespace
) -> Iterator[Callable[[], float]]:
    """Measures the literal step in a process where freed memory goes back, as it does by itself."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve_literal, args=(there, config, settings, given))
    process.start()

    def literal_seconds() -> float:
        here.send(True)
        return here.recv()

    try:
        yield literal_seconds
    finally:
        here.send(False)
        process.join()


def serve_literal(
    pipe: Connection, config: ModelConfig, settings: TrainConfig, given: argparse.Namespace
) -> None:
    """Answer with the seconds of a literal step whenever one is asked for."""
    if given.threads:
        torch.set_num_threads(given.threads)
    literal = Literal(config, PAPER, settings.learning_rate, given.device)
    a, b = pictures(settings, config)
    while pipe.recv():
        pipe.send(seconds(lambda: literal.advance(a, b), given.device))


def flops(work: Callable[[], object]) -> int:
    """The operations of convolutions and matrix products in some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def check_same(expected: dict[str, Tensor], ours: Training, a: Tensor, b: Tensor) -> None:
    """Raises AssertionError when a loss of our next step is another than the literal one."""
    found = ours.advance(a, b)
    for name, value in expected.items():
        difference = abs(found[name].item() - value.item())
        assert difference <= SAME[ours.device.type] * max(1.0, abs(value.item())), (
            f"{name} differs by {difference}"
        )


def against_peak(
    method: Method, config: ModelConfig, batch: int, matrix: int, given: argparse.Namespace
) -> tuple[Pair, dict[str, str]]:
    """FLOP/s of a step over those of a matrix product, and the profile of a step."""
    settings = TrainConfig(batch=batch, weights=WEIGHTS[method], critic_start=0)
    a, b = pictures(settings, config)
    plain = Training(config, settings, given.device)
    work = flops(lambda: plain.advance(a, b)) / 1e9
    ours = Training(config, quick(settings, given.device), given.device)
    kind = torch.bfloat16 if given.device.startswith("cuda") else torch.float32
    left, right = torch.rand(2, matrix, matrix, device=given.device).to(kind)
    times = in_turns(
        lambda: work / seconds(lambda: ours.advance(a, b), given.device),
        lambda: 2 * matrix**3 / 1e9 / seconds(lambda: left @ right, given.device),
        rounds=given.rounds,
    )
    pair = Pair(f"`compact` {method} step", f"matrix product of {matrix}", "GFLOP/s", *times)
    return pair, profiled(ours, a, b)


def profiled(ours: Training, a: Tensor, b: Tensor) -> dict[str, str]:
    """The share of a step's time that each kind of operator takes, largest first."""
    kinds = [ProfilerActivity.CPU]
    if ours.device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as found:
        for _ in range(3):
            ours.advance(a, b)
        synchronize(str(ours.device))
    spent: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        own = event.self_cpu_time_total if len(kinds) == 1 else event.self_device_time_total
        spent[_kind(event.key.lower())] += own
    total = sum(spent.values())
    shares = sorted(spent.items(), key=lambda item: -item[1])
    return {kind: f"{own / total:.1%}" for kind, own in shares}


def _kind(name: str) -> str:
    found = (kind for kind, words in KINDS.items() if any(word in name for word in words))
    return next(found, "other")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, rounds=10)
    parser.add_argument("--tiny", action="store_true", help="small networks, to try the script")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    size = {"side": 32, "width": 32, "common": 8} if given.tiny else {"side": 128}
    batch, compact_batch, matrix = (2, 2, 256) if given.tiny else (32, 16, 3072)
    pair, arithmetic = against_literal(ModelConfig.of("didd", "paper", **size), batch, given)
    pairs = [pair]
    more: dict[str, object] = {"FLOPs_of_the_literal_step_over_ours": round(arithmetic, 3)}
    for method in ("didd", "layers"):
        config = ModelConfig.of(method, "compact", **size)
        pair, shares = against_peak(method, config, compact_batch, matrix, given)
        pairs.append(pair)
        more[f"share_of_a_compact_{method}_step"] = shares
    tell("Training step", pairs, given, **more)


if __name__ == "__main__":
    main()
