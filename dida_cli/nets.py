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
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from dida_cli.codes import Codes
from dida_cli.config import ModelConfig

SLOPE = 0.2  # of the leaky ReLU
LEAST_WIDTH = 16  # channels of the outermost compact stages
LOOK_WIDTHS = (24, 48, 96)  # channels of the critic of pictures; the last one stays
LOOK_GRID = 4
POWER_STEPS = 50  # that find the spectral norm of a weight from any start


def widths(config: ModelConfig) -> list[int]:
    """Channels after each halving of the common encoder, outermost first."""
    if config.architecture == "compact":
        return _compact_widths(config)[config.stages - config.encoder_stages :]
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
        return _compact_widths(config)[::-1]
    return [min(32 << k, config.width) for k in reversed(range(config.stages - 1))]


def _compact_widths(config: ModelConfig) -> list[int]:
    return [max(LEAST_WIDTH, config.width >> k) for k in reversed(range(config.stages))]


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
        self.shrink = config.shrink
        self.common = encoder(config, widths(config), config.common, slip=slip)
        self.separate_a = _separate(config, config.separate_a)
        self.separate_b = _separate(config, config.separate_b) if config.separate_b else None

    def forward(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        image = shrunk(image, self.shrink)
        common = self.common(image)  # (N, C, grid, grid)
        if self.separate_b is None:
            nothing = common.new_zeros(common.shape[0], 0, *common.shape[2:])
            return Codes(common, self.separate_a(image), nothing)
        return Codes(common, self.separate_a(image), self.separate_b(image))


def shrunk(image: Tensor, times: int) -> Tensor:
    """Pictures (N, 3, side, side) as the encoders see them: so many times smaller."""
    return F.avg_pool2d(image, times) if times > 1 else image


def _separate(config: ModelConfig, code: int) -> nn.Module:
    return encoder(config, separate_widths(config, code), code)


class Critic(nn.Module):
    """Tells from a common code which domain its picture came from; with `looks`, from a base too.

    A code of hundreds of numbers can say to the decoder what it does not say to a critic that
    learns beside it; a picture that is shown hides nothing.
    """

    def __init__(self, config: ModelConfig, *, looks: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.common * config.grid**2, 512),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(512, 1),
        )
        self.looks, self.shrink = looks, config.shrink
        self.pictures = _picture_critic(config) if looks else None

    def forward(self, common: Tensor) -> Tensor:
        """Common codes (N, C, grid, grid) to the logit (N,) that they come from B."""
        logits: Tensor = self.layers(common)
        return logits.squeeze(1)

    def look(self, base: Tensor) -> Tensor:
        """Pictures (N, 3, side, side) in [-1, 1] to the logit (N,) that they come from B."""
        assert self.pictures is not None
        logits: Tensor = self.pictures(shrunk(base, self.shrink))
        return logits.squeeze(1)


def _picture_critic(config: ModelConfig) -> nn.Sequential:
    halvings = int(math.log2(config.side // config.shrink // LOOK_GRID))
    widths = [LOOK_WIDTHS[min(k, len(LOOK_WIDTHS) - 1)] for k in range(halvings)]
    blocks: list[nn.Module] = []
    for c_in, c_out in zip([3, *widths], widths, strict=False):
        blocks.append(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1))
        blocks.append(nn.LeakyReLU(SLOPE, inplace=True))
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(widths[-1] * LOOK_GRID**2, 1))


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


def _norm(config: ModelConfig, channels: int) -> nn.Module:
    if config.architecture == "compact":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.InstanceNorm2d(channels) if config.method == "didd" else nn.BatchNorm2d(channels)


def _is_two_sided(config: ModelConfig) -> bool:
    """Whether it is the layout released with Domain Intersection and Domain Difference."""
    return config.architecture == "paper" and config.method == "didd" and config.separate_b > 0
