"""Mask Based Unsupervised Content Transfer (Mokady, Benaim, Wolf, Bermano; ICLR 2020).

One-sided, as published: A has a part, B has nothing. A decoder of the part gives a picture and a
mask, and an edit repaints only what the mask covers.

    paper  here                 what it is
    E1     encoders.common      common encoder
    E2     encoders.separate_a  separate encoder of A's part
    D_A    plain                decodes a picture with no part: the base
    D_B    painter              decodes a layer: a picture, and the mask by which it is blended
    d      nets.Critic          tells domains apart by their common codes

    term              weight in the release    formula
    reconstruction_a  gama                     |D_B(E1(a), E2(a); onto D_A(E1(a), 0)) - a|
    reconstruction_b  delta                    |D_A(E1(b), 0) - b|
    repaint_a         alpha1                   |D_B(E1(a), E2(a); onto a) - a|
    repaint_b         alpha2                   |D_B(E1(b), 0; onto b) - b|
    cycle_common      beta1                    (E1(c) - E1(b))^2,  c = D_B(E1(b), E2(a); onto b)
    cycle_separate    beta2                    (E2(c) - E2(a))^2
    confusion         discweight               what E1 pays for what d says (`nets.game`)
    critic                                     what d pays

An edit paints the guide's layer onto the picture itself; where the own mask of a part that is taken
off is `REMOVED_FROM` or more, D_A's picture is shown.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli import nets
from dida_cli.codes import Ability, Codes
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError
from dida_cli.methods import settings_of
from dida_cli.painter import Painter, blend
from dida_cli.paper import layouts
from dida_cli.players import Batch, Players

ABILITIES: frozenset[Ability] = frozenset({"masks", "common code"})
TAKES = "domains"
players = nets.players

REMOVED_FROM = 0.1  # of a part's own mask on, the base is shown where the part is taken off


@dataclass(frozen=True, kw_only=True)
class Settings(nets.Settings):
    """What a recipe may say. The weights of the terms are the release's for glasses.

    `architecture`: compact, or the released layout (with `layouts.MASK.settings`).
    """

    architecture: nets.Architecture = "compact"
    reconstruction_a: float = 7.0
    reconstruction_b: float = 5.0
    repaint_a: float = 0.7
    repaint_b: float = 0.7
    cycle_common: float = 0.0
    cycle_separate: float = 0.001
    confusion: float = 0.005


class Network(Painter):
    """Two encoders, a plain decoder, a decoder with a mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        if config.domains.b:
            raise DidaError(
                "method mask is one-sided, as published, and here B has a part, "
                f"{config.domains.b}; method layers has masks for both"
            )
        self.abilities = ABILITIES
        shape = self.settings, config.side, 1
        if self.settings.architecture == "paper":
            self.encoders = layouts.encoders(layouts.MASK, *shape)
            self.plain = layouts.decoder(layouts.MASK, *shape)
            self.painter = layouts.decoder(layouts.MASK, *shape, out=4)
        else:
            self.encoders = nets.encoders(*shape)
            self.plain = nets.decoder(*shape)
            self.painter = nets.decoder(*shape, out=4)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E1(x), E2(x))."""
        codes: Codes = self.encoders(image)
        return codes

    def base(self, codes: Codes) -> Tensor:
        """D_A(E1(x), 0)."""
        bare = codes.without("a")
        return torch.tanh(self.plain(torch.cat([bare.common, bare.a], dim=1)).float())

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """D_B before its blend."""
        raw = self.painter(torch.cat([codes.common, codes.a], dim=1)).float()  # (N, 4, side, side)
        return torch.tanh(raw[:, 1:]), torch.sigmoid(raw[:, :1])

    def removal(self, mask: Tensor) -> Tensor:
        """Where the mask, (N, 1, side, side), is `REMOVED_FROM` or more."""
        return (mask >= REMOVED_FROM).to(mask.dtype)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted.

    The domains go through the networks one after the other, as in the release, for batch norm
    looks at all pictures of a pass.
    """
    network = players.network
    assert isinstance(network, Network)
    settings = network.settings
    a, b = nets.domains(batch)
    of_a = network.encode(a)
    common_b = network.encoders.common(b)  # (B, C, grid, grid)
    of_b = Codes(common_b, torch.zeros_like(of_a.a), of_a.b)
    own, mask = network.layer(of_a)
    nothing, closed = network.layer(of_b)
    moved, where = network.layer(of_b._replace(a=of_a.a))
    cycled = network.encode(blend(moved, b, where))
    terms = {
        "reconstruction_a": F.l1_loss(blend(own, network.base(of_a), mask), a),
        "reconstruction_b": F.l1_loss(network.base(of_b), b),
        "repaint_a": F.l1_loss(blend(own, a, mask), a),
        "repaint_b": F.l1_loss(blend(nothing, b, closed), b),
        "cycle_common": F.mse_loss(cycled.common.float(), common_b.float()),
        "cycle_separate": F.mse_loss(cycled.a.float(), of_a.a.float()),
    }
    weighted = {name: getattr(settings, name) * term for name, term in terms.items()}
    common = torch.cat([of_a.common, common_b])
    return weighted | nets.game(players.critic, common, settings, step)
