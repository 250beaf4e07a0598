"""One model of several: the mean of their weights ("model soups", Wortsman et al., ICML 2022).

Of a model and the one that was trained on from it, the mean is often better than both, and costs
nothing to run. Models that were begun apart have nothing in common, and neither has their mean.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dida_cli import checkpoint
from dida_cli.checkpoint import Network
from dida_cli.errors import DidaError


def average(sources: Mapping[str, Path], shares: Sequence[float], folder: Path) -> None:
    """Write the mean of the models `sources` (name -> folder) into a new model folder.

    `shares` are positive, one for each, and are taken as parts of their sum. Settings and card are
    the first model's. Raises DidaError, nothing written, when the folder is taken, a share is not
    positive, a model does not load, or one is another network than the first.
    """
    checkpoint.check_free(folder)
    if len(sources) < 2:
        raise DidaError("a mean is of two models at least; give another one")
    if len(shares) != len(sources) or not all(0 < share < float("inf") for share in shares):
        raise DidaError("shares are positive numbers, one for each model; or leave --share out")
    models = {name: checkpoint.load(source) for name, source in sources.items()}
    parts = [share / sum(shares) for share in shares]
    first = next(iter(models))
    for name, model in models.items():
        _check_same(first, models[first], name, model)
    mean = models[first]
    mean.load_state_dict(_mean([model.state_dict() for model in models.values()], parts))
    text = card(dict(zip(models, parts, strict=True)), *checkpoint.read_card(sources[first]))
    checkpoint.write_folder(folder, checkpoint.model_files(mean, text))


def _mean(states: Sequence[Mapping[str, Tensor]], parts: Sequence[float]) -> dict[str, Tensor]:
    """Every tensor's mean, computed in float64; counts of batches are the first model's."""
    mean = {}
    for name, first in states[0].items():
        if not first.is_floating_point():
            mean[name] = first
            continue
        total = torch.zeros_like(first, dtype=torch.float64)
        for state, part in zip(states, parts, strict=True):
            total += part * state[name].double()
        mean[name] = total.to(first.dtype)
    return mean


def _check_same(first: str, one: Network, name: str, other: Network) -> None:
    # a threshold chosen since is no other network
    if setting := one.config.differs_in(other.config, free=("segment_from",)):
        wanted, found = one.config.to_json()[setting], other.config.to_json()[setting]
        raise DidaError(
            f"{name}: {setting} is {found}, of {first} {wanted}; "
            "a mean is of a model and those trained on from it"
        )


def card(parts: Mapping[str, float], head: str, own: str) -> str:
    """The README.md of a mean, between the `head` of the first model's card and the rest."""
    rows = "\n".join(f"| {Path(name).name} | {part:.3g} |" for name, part in parts.items())
    return f"""{head}# A mean of {len(parts)} models

Made by `dida models average`: the mean of the weights of

| model | share |
|---|---|
{rows}

It has not been measured; `dida evaluate` does. The card of the first stands below.

{own}
"""
