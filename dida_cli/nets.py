"""The building blocks the methods share, and the two layouts built from them.

`compact` is ours: group norm keeps flat colours that instance norm throws away, and the channels
halve from the deepest stage outwards, so that twice the side costs little more. `paper` is the
released layout: 4x4 convolutions of stride 2 all the way to the code. Domain Intersection and
Domain Difference (ICCV 2019) has spectral norm, instance norm without affine weights and a decoder
with ReLU; guided content transfer (ICLR 2019; `didd` with separate_b = 0) is the same without
spectral norm and slip (see `encoder`), and with a narrower separate encoder; Mask Based
Unsupervised Content Transfer (ICLR 2020) has that encoder, batch norm, and leaky ReLU in the
decoders too. Differences of the first from the released code: the spectral norm is torch's, which
holds still in eval mode (the release takes a power step in every forward, so its outputs drift from
call to call); the critic's gradient is clipped like the other player's (the release meant to); the
separate encoders' norms have the right channel counts (no effect on values).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from dida_cli.codes import Codes
from dida_cli.config import ModelConfig

SLOPE = 0.2  # of the leaky ReLU
LEAST_WIDTH = 16  # channels of the outermost compact stages
POWER_STEPS = 50  # that find the spectral norm of a weight from any start


def widths(config: ModelConfig) -> list[int]:
    """Channels after each halving of the common encoder, outermost first."""
    if config.architecture == "compact":
        return [max(LEAST_WIDTH, config.width >> k) for k in reversed(range(config.stages))]
    doubling = [min(32 << k, config.width) for k in range(config.stages - 2)]
    return [*doubling, config.channels - config.separate_a, config.common]


def separate_widths(config: ModelConfig, code: int) -> list[int]:
    """Channels after each halving of a separate encoder whose code has `code` channels."""
    if config.architecture == "compact":
        return [max(LEAST_WIDTH, width // 2) for width in widths(config)]
    widest = config.width if _is_two_sided(config) else config.width // 4
    return [*(min(32 << k, widest) for k in range(config.stages - 1)), code]


def decoder_widths(config: ModelConfig) -> list[int]:
    """Channels after each doubling of the decoder, innermost first."""
    if config.architecture == "compact":
        return widths(config)[::-1]
    return [min(32 << k, config.width) for k in reversed(range(config.stages - 1))]


def encoder(config: ModelConfig, stages: list[int], code: int, *, slip: bool = False) -> nn.Module:
    """Pictures (N, 3, side, side) to a code (N, code, grid, grid).

    `slip`: the second stage has no norm, as in the released common encoder, where its norm was
    appended to a list that had already been used.
    """
    compact = config.architecture == "compact"
    blocks: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip([3, *stages], stages, strict=False)):
        conv: nn.Module = nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)
        blocks.append(spectral(conv) if _is_two_sided(config) else conv)
        if not (slip and i == 1):
            blocks.append(_norm(config, c_out))
        blocks.append(nn.LeakyReLU(SLOPE, inplace=True))
    if compact:
        blocks.append(nn.Conv2d(stages[-1], code, 3, padding=1))
    return nn.Sequential(*blocks)


def decoder(config: ModelConfig, out: int = 3) -> nn.Module:
    """Codes side by side (N, channels, grid, grid) to `out` raw channels (N, out, side, side)."""
    compact = config.architecture == "compact"
    blocks: list[nn.Module] = []
    stages = decoder_widths(config)
    for c_in, c_out in zip([config.channels, *stages], stages, strict=False):
        conv: nn.Module = nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1)
        blocks.append(spectral(conv) if _is_two_sided(config) else conv)
        blocks.append(_norm(config, c_out))
        relu = config.architecture == "paper" and config.method == "didd"
        blocks.append(nn.ReLU(inplace=True) if relu else nn.LeakyReLU(SLOPE, inplace=True))
    if compact:
        blocks.append(nn.Conv2d(stages[-1], out, 3, padding=1))
    else:
        blocks.append(nn.ConvTranspose2d(stages[-1], out, 4, stride=2, padding=1))
    return nn.Sequential(*blocks)


class Encoders(nn.Module):
    """The common and the separate encoders: what both methods read a picture with."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        slip = _is_two_sided(config)
        self.common = encoder(config, widths(config), config.common, slip=slip)
        self.separate_a = _separate(config, config.separate_a)
        self.separate_b = _separate(config, config.separate_b) if config.separate_b else None

    def forward(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        common = self.common(image)  # (N, C, grid, grid)
        if self.separate_b is None:
            nothing = common.new_zeros(common.shape[0], 0, *common.shape[2:])
            return Codes(common, self.separate_a(image), nothing)
        return Codes(common, self.separate_a(image), self.separate_b(image))


def _separate(config: ModelConfig, code: int) -> nn.Module:
    return encoder(config, separate_widths(config, code), code)


class Critic(nn.Module):
    """Tells from a common code which domain its picture came from."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.common * config.grid**2, 512),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(512, 1),
        )

    def forward(self, common: Tensor) -> Tensor:
        """Common codes (N, C, grid, grid) to the logit (N,) that they come from B."""
        logits: Tensor = self.layers(common)
        return logits.squeeze(1)


def spectral(conv: nn.Module) -> nn.Module:
    """Spectral norm over the weight's first dimension x the rest, as released."""
    return parametrizations.spectral_norm(conv, dim=0, eps=1e-12)


def bake_spectral(modules: Iterable[nn.Module]) -> None:
    """Replace every normed weight by its value, in place: what a saved model holds."""
    for module in modules:
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def settle_spectral(module: nn.Module) -> None:
    """Find the norms of weights that were put in place of others, by power steps.

    Spectral norms take one step in each pass of training; the first passes would divide by those
    of the weights before.
    """
    with torch.no_grad():
        for part in module.train().modules():
            for _ in range(POWER_STEPS if parametrize.is_parametrized(part, "weight") else 0):
                part.weight  # noqa: B018


def narrowed(
    state: dict[str, Tensor], before: ModelConfig, after: ModelConfig
) -> dict[str, Tensor]:
    """The weights of a compact model with one decoder, its separate codes of fewer channels.

    Between the convolution that makes a code and the one that reads it lies nothing: their
    weights' product is one matrix, and its largest singular values are kept, so that what a code
    says loudest stays (Eckart and Young, 1936). A code as wide as before is left as it is.
    """
    state = dict(state)
    reads = state["decoder.0.weight"]  # (channels, width, 4, 4)
    codes = list(torch.split(reads, [before.common, before.separate_a, before.separate_b]))
    for place, part in enumerate(before.parts, start=1):
        wanted = getattr(after, f"separate_{part}")
        if not 0 < wanted < len(codes[place]):
            continue
        made = f"encoders.separate_{part}.{3 * before.stages}"
        weight, bias = state[f"{made}.weight"].double(), state[f"{made}.bias"].double()
        reader = codes[place].flatten(1).T.double()  # (width * 16, code)
        left, values, right = torch.linalg.svd(reader @ weight.flatten(1), full_matrices=False)
        root = values[:wanted].sqrt()
        narrow = (root[:, None] * right[:wanted]).view(wanted, *weight.shape[1:])
        state[f"{made}.weight"] = narrow.float()
        state[f"{made}.bias"] = (left[:, :wanted].T @ reader @ bias / root).float()
        codes[place] = (root[:, None] * left[:, :wanted].T).view(wanted, *reads.shape[1:]).float()
    state["decoder.0.weight"] = torch.cat(codes)
    return state


def _norm(config: ModelConfig, channels: int) -> nn.Module:
    if config.architecture == "compact":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.InstanceNorm2d(channels) if config.method == "didd" else nn.BatchNorm2d(channels)


def _is_two_sided(config: ModelConfig) -> bool:
    """Whether it is the layout released with Domain Intersection and Domain Difference."""
    return config.architecture == "paper" and config.method == "didd" and config.separate_b > 0
