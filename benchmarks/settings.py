"""A training step with one setting over the step without it: what each is worth on a device.

`--compile`, a batch in two parts (`accumulate`), the other memory layout; on CUDA bfloat16 and
float16 too. Both sides begin from the same weights, and take the same pictures.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.paired import Pair, in_turns, options, seconds, tell
from benchmarks.step import pictures
from dida_cli.config import WEIGHTS, ModelConfig, TrainConfig
from dida_cli.train import Training

SETTINGS: dict[str, dict[str, Any]] = {
    "--compile": {"compile": True},
    "accumulate = 2": {"accumulate": 2},
}
ON_CUDA: dict[str, dict[str, Any]] = {
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
}


def in_other_layout(config: ModelConfig, settings: TrainConfig, device: str) -> Training:
    """The training with the other memory layout than it would choose on this device."""
    training = Training(config, settings, device)
    contiguous = training.layout == torch.contiguous_format
    training.layout = torch.channels_last if contiguous else torch.contiguous_format
    training.model.to(memory_format=training.layout)  # type: ignore[call-overload]
    return training


def compared(config: ModelConfig, batch: int, given: argparse.Namespace) -> list[Pair]:
    """Seconds of a step with each setting over those of the step without."""
    device = given.device
    plain = TrainConfig(batch=batch, weights=WEIGHTS[config.method], critic_start=0)
    changes = SETTINGS | (ON_CUDA if device.startswith("cuda") else {})
    others = {n: Training(config, replace(plain, **c), device) for n, c in changes.items()}
    usual = Training(config, plain, device)
    contiguous = usual.layout == torch.contiguous_format
    layout = "channels_last" if contiguous else "contiguous"
    others[layout] = in_other_layout(config, plain, device)
    a, b = pictures(plain, config)

    def timed(training: Training) -> Callable[[], float]:
        return lambda: seconds(lambda: training.advance(a, b), device)

    base, *values = in_turns(timed(usual), *map(timed, others.values()), rounds=given.rounds)
    step = f"`{config.architecture}` {config.method} step"
    return [
        Pair(f"{step}, {name}", step, "s", ours, base)
        for name, ours in zip(others, values, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, rounds=10)
    parser.add_argument("--side", type=int, default=128, help="in pixels [%(default)s]")
    parser.add_argument("--batch", type=int, default=TrainConfig.batch, help="[%(default)s]")
    parser.add_argument("--width", type=int, help="of the deepest stage [the usual]")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    pairs: list[Pair] = []
    for method, architecture in (("layers", "compact"), ("didd", "paper")):
        config = ModelConfig.of(method, architecture, side=given.side, width=given.width)  # type: ignore[arg-type]
        pairs += compared(config, given.batch, given)
    title = f"Settings, {given.batch} + {given.batch} pictures of {given.side} px"
    tell(title, pairs, given)


if __name__ == "__main__":
    main()
