"""Masks for two plain folders of which each has a part of its own: two-sided, ours.

One decoder G reads the three codes and gives a picture and a mask.

    base     rgb of (c, 0, 0)          the picture with neither part
    layer A  rgb, mask of (c, a, 0)    what A's part paints, and where
    layer B  rgb, mask of (c, 0, b)    the same of B

    term            formula, the mean over A plus that over B   what it does
    reconstruction  |blend(layer, base, m) - x|                 DIDD's, through the mask
    repaint         |blend(layer, x, m) - x|                    a layer's colours fit the picture
    mask            m                                           small masks
    zero            |E_A(b)| + |E_B(a)|                         the split, as in DIDD
    confusion       what the encoder pays for what the critic says of common codes (`nets.game`)
    critic          what the critic pays

`repaint` and `mask` start at 0 and rise between the steps of `RISE`: on from the start, the mask
dies at 0 and never comes back. A strong critic with a light mask weight keeps the base from showing
the part that it should lack.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli import nets
from dida_cli.codes import Ability, Codes
from dida_cli.config import ModelConfig
from dida_cli.methods import settings_of
from dida_cli.painter import Painter, blend
from dida_cli.players import Batch, Players

ABILITIES: frozenset[Ability] = frozenset({"masks", "two parts", "common code"})
TAKES = "domains"
players = nets.players

RISE = (800, 1600)  # steps between which the weights of repaint and mask rise to their value
FIRST_MASK = 1.0  # added to the mask's logit: the first masks are open
REMOVED_FROM = 0.1  # of a part's own mask on, the base is shown where the part is taken off


@dataclass(frozen=True, kw_only=True)
class Settings(nets.Settings):
    """What a recipe may say. `zero`, `repaint`, `mask`: weights of the terms."""

    confusion: float = 0.5
    zero: float = 1.0
    repaint: float = 0.1
    mask: float = 0.02


class Network(Painter):
    """The encoders, and one decoder that also gives a mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        parts = len(config.parts)
        self.abilities = ABILITIES if parts == 2 else ABILITIES - {"two parts"}
        self.encoders = nets.encoders(self.settings, config.side, parts)
        self.decoder = nets.decoder(self.settings, config.side, parts, out=4)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        codes: Codes = self.encoders(image)
        return codes

    def base(self, codes: Codes) -> Tensor:
        """The layer of the common code alone, without its mask."""
        return self.layer(codes.without("a", "b"))[0]

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """What codes paint, and where."""
        # in half precision a mask would come no nearer to 1 than 1 itself, and stay there
        raw = self.decoder(torch.cat(codes, dim=1)).float()  # (N, 4, side, side)
        return torch.tanh(raw[:, :3]), torch.sigmoid(raw[:, 3:] + FIRST_MASK)

    def removal(self, mask: Tensor) -> Tensor:
        """Where the mask is `REMOVED_FROM` or more, grown by a pixel and feathered.

        The mask as it is would leave a shadow of the part.
        """
        grown = F.max_pool2d((mask >= REMOVED_FROM).to(mask.dtype), 3, stride=1, padding=1)
        return F.avg_pool2d(grown, 3, stride=1, padding=1, count_include_pad=False)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted."""
    network = players.network
    assert isinstance(network, Network)
    settings = network.settings
    pictures = torch.cat(nets.domains(batch))
    codes = network.encode(pictures)
    own = nets.own_parts(codes)
    pairs = zip(own, own.without("a", "b"), strict=True)
    rgb, masks = network.layer(Codes(*(torch.cat(pair) for pair in pairs)))
    layer, base = rgb.chunk(2)
    mask, _ = masks.chunk(2)
    begin, end = RISE
    risen = min(1.0, max(0.0, (step - begin) / (end - begin)))
    return {
        "reconstruction": 2 * F.l1_loss(blend(layer, base, mask), pictures),
        "repaint": risen * settings.repaint * 2 * F.l1_loss(blend(layer, pictures, mask), pictures),
        "mask": risen * settings.mask * 2 * mask.mean(),
        "zero": settings.zero * nets.zero(codes),
        **nets.game(players.critic, codes.common, settings, step),
    }
