"""Domain Intersection and Domain Difference (Benaim, Khaitov, Galanti, Wolf; ICCV 2019), whole.

Two unpaired domains A and B. A picture is split into what both domains share and what only its
own domain has; nothing but the two folders teaches the split.

    paper     here          what it is
    E_c       common        common encoder
    E_A^s     separate_a    separate encoder of A: finds nothing in a picture of B
    E_B^s     separate_b    separate encoder of B
    G         decoder       reads the three codes side by side
    d         nets.Critic   tells domains apart by their common codes

One setting is ours. The paper's encoder wants the critic to say "B" of every picture; here it may
want it to say "cannot tell" (`critic_target = half`), which at small budgets is what makes the
guide obeyed: with the paper's target the common code goes on carrying the part.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes, Rendering
from dida_cli.config import CriticTarget, ModelConfig, Weights
from dida_cli.losses import Losses


class Didd(nn.Module):
    """The autoencoder: three encoders and a decoder. Parameters only; no training state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nets.Encoders(config)
        self.decoder = nets.decoder(config)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        return self.encoders(image)  # type: ignore[no-any-return]

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """G of the codes: pictures (N, 3, side, side) in [-1, 1]. Only the codes are looked at."""
        return Rendering(torch.tanh(self.decoder(torch.cat(codes, dim=1))), None)


def autoencoder_loss(
    model: Didd, critic: nets.Critic, a: Tensor, b: Tensor, weights: Weights, target: CriticTarget
) -> Losses:
    """The encoders' and the decoder's loss on pictures a and b, each (B, 3, side, side).

    reconstruction  mean |G(E_c(a), E_A(a), 0) - a| + mean |G(E_c(b), 0, E_B(b)) - b|
    zero, common    see `losses`
    """
    both = torch.cat([a, b])  # one pass for both domains: the norms look at each picture alone
    codes = model.encode(both)
    rebuilt = model.compose(losses.own_parts(codes)).image
    size = len(a)
    terms = {
        "reconstruction_a": F.l1_loss(rebuilt[:size], a),
        "reconstruction_b": F.l1_loss(rebuilt[size:], b),
        "zero": losses.zero(codes),
        "common": losses.common(critic, codes, target),
    }
    return losses.weighted(terms, weights, codes.common)
