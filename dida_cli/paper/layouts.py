"""The released networks: 4x4 convolutions of stride 2 all the way to the code and back.

    layout  of                                                   norm      spectral norm
    DIDD    Domain Intersection and Domain Difference, 2019      instance  all but the last
    PRESS   guided content transfer (Press et al., ICLR 2019)    instance  none
    MASK    Mask Based Unsupervised Content Transfer, 2020       batch     none

Differences of the first from the released code: the spectral norm is torch's, which holds still in
eval mode (the release takes a power step in every forward, so its outputs drift from call to call);
the critic's gradient is clipped like the other player's (the release meant to); the separate
encoders' norms have the right channel counts (no effect on values).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from dida_cli import nets


class Layout(NamedTuple):
    """What tells one release's networks from another's."""

    norm: Callable[[int], nn.Module]
    relu: bool  # in the decoder, where others have the leaky one
    narrow: int  # times that separate encoders are narrower than the decoder
    normed_weights: bool  # spectral norm; the second stage of the common encoder then has no norm
    settings: dict[str, Any]  # as released, for 128 px


_SETTINGS = {"architecture": "paper", "grid": 2, "width": 512, "separate": 25, "rate": 2e-4}
_SETTINGS |= {"critic_target": "paper", "critic_start": 0}
_PLAIN = _SETTINGS | {"zero": 1.0, "confusion": 0.001}
DIDD = Layout(nn.InstanceNorm2d, True, 1, True, _PLAIN | {"common": 462})
PRESS = Layout(nn.InstanceNorm2d, True, 4, False, _PLAIN | {"common": 487})
MASK = Layout(nn.BatchNorm2d, False, 4, False, _SETTINGS | {"common": 487})


def encoders(layout: Layout, settings: nets.Settings, side: int, parts: int) -> nets.Encoders:
    """The common encoder, and a separate one for each part."""
    stages, common, separate = settings.stages(side), settings.common, settings.separate
    wide = common + (parts - 1) * separate
    common_widths = [*_doubling(settings.width, stages - 2), wide, common]
    widths = [*_doubling(settings.width // layout.narrow, stages - 1), separate]
    return nets.Encoders(
        _encoder(layout, common_widths, slip=layout.normed_weights),
        *(_encoder(layout, widths, slip=False) for _ in range(parts)),
    )


def decoder(
    layout: Layout, settings: nets.Settings, side: int, parts: int, out: int = 3
) -> nn.Module:
    """Codes side by side (N, channels, grid, grid) to `out` raw channels (N, out, side, side)."""
    channels = settings.common + parts * settings.separate
    widths = _doubling(settings.width, settings.stages(side) - 1)[::-1]
    blocks: list[nn.Module] = []
    for wide, narrow in zip([channels, *widths], widths, strict=False):
        conv = nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
        blocks += [_weighed(layout, conv), layout.norm(narrow)]
        blocks.append(nn.ReLU(inplace=True) if layout.relu else _leaky())
    return nn.Sequential(*blocks, nn.ConvTranspose2d(widths[-1], out, 4, stride=2, padding=1))


def _encoder(layout: Layout, widths: list[int], *, slip: bool) -> nn.Module:
    """`slip`: the second stage has no norm, as in the released common encoder of DIDD, where its
    norm was appended to a list that had already been used.
    """
    blocks: list[nn.Module] = []
    for stage, (narrow, wide) in enumerate(zip([3, *widths], widths, strict=False)):
        blocks.append(_weighed(layout, nn.Conv2d(narrow, wide, 4, stride=2, padding=1)))
        if not (slip and stage == 1):
            blocks.append(layout.norm(wide))
        blocks.append(_leaky())
    return nn.Sequential(*blocks)


def _doubling(widest: int, stages: int) -> list[int]:
    return [min(32 << stage, widest) for stage in range(stages)]


def _weighed(layout: Layout, conv: nn.Module) -> nn.Module:
    return nets.spectral(conv) if layout.normed_weights else conv


def _leaky() -> nn.Module:
    return nn.LeakyReLU(nets.SLOPE, inplace=True)
