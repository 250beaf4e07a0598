"""Domain Intersection and Domain Difference (Benaim, Khaitov, Galanti, Wolf; ICCV 2019), whole.

Two unpaired domains A and B. A picture is split into what both domains share and what only its
own domain has; nothing but the two folders teaches the split.

    paper     here                 what it is
    E_c       encoders.common      common encoder
    E_A^s     encoders.separate_a  separate encoder of A: finds nothing in a picture of B
    E_B^s     encoders.separate_b  separate encoder of B; none is guided content transfer (Press et
                                   al., ICLR 2019)
    G         decoder              reads the codes side by side
    d         nets.Critic          tells domains apart by their common codes

    term            formula
    reconstruction  |G(E_c(a), E_A(a), 0) - a| + |G(E_c(b), 0, E_B(b)) - b|
    zero            |E_A(b)| + |E_B(a)|
    confusion       what the encoder pays for what d says of common codes (`nets.game`)
    critic          what d pays

One setting is ours. The paper's encoder wants the critic to say "B" of every picture; here it may
want it to say "cannot tell" (`critic_target = half`), which at small budgets is what makes the
guide obeyed: with the paper's target the common code goes on carrying the part.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli import nets
from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import ModelConfig
from dida_cli.methods import settings_of
from dida_cli.paper import layouts
from dida_cli.players import Batch, Players
from dida_cli.players import Network as Base

ABILITIES: frozenset[Ability] = frozenset({"two parts", "common code"})
TAKES = "domains"
players = nets.players


@dataclass(frozen=True, kw_only=True)
class Settings(nets.Settings):
    """What a recipe may say.

    Attributes:
        architecture: compact, or the released layout (with `layouts.DIDD.settings`).
        zero: weight of the term.
    """

    architecture: nets.Architecture = "compact"
    zero: float = 1.0


class Network(Base):
    """The autoencoder: the encoders and a decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        parts = len(config.parts)
        self.abilities = ABILITIES if parts == 2 else ABILITIES - {"two parts"}
        if self.settings.architecture == "paper":
            layout = layouts.DIDD if parts == 2 else layouts.PRESS
            self.encoders = layouts.encoders(layout, self.settings, config.side, parts)
            self.decoder = layouts.decoder(layout, self.settings, config.side, parts)
        else:
            self.encoders = nets.encoders(self.settings, config.side, parts)
            self.decoder = nets.decoder(self.settings, config.side, parts)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        codes: Codes = self.encoders(image)
        return codes

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """G of the codes: pictures (N, 3, side, side) in [-1, 1]. Only the codes are looked at."""
        return Rendering(torch.tanh(self.decoder(torch.cat(codes, dim=1)).float()), None)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted."""
    network = players.network
    assert isinstance(network, Network)
    settings = network.settings
    # one pass for both domains: but for batch norm, norms look at each picture alone
    pictures = torch.cat(nets.domains(batch))
    codes = network.encode(pictures)
    rebuilt = network.compose(nets.own_parts(codes)).image
    return {
        "reconstruction": 2 * F.l1_loss(rebuilt, pictures),  # the mean over A plus that over B
        "zero": settings.zero * nets.zero(codes),
        **nets.game(players.critic, codes.common, settings, step),
    }
