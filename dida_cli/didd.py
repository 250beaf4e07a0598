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

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import nets
from dida_cli.codes import Codes, Rendering
from dida_cli.config import CriticTarget, ModelConfig, Weights


class Didd(nn.Module):
    """The autoencoder: three encoders and a decoder. Parameters only; no training state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.common = nets.encoder(config, nets.widths(config), config.common, slip=_paper(config))
        self.separate_a = self._separate(config.separate_a)
        self.separate_b = self._separate(config.separate_b) if config.separate_b else None
        self.decoder = nets.decoder(config)

    def _separate(self, code: int) -> nn.Module:
        return nets.encoder(self.config, nets.separate_widths(self.config, code), code)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        common = self.common(image)  # (N, C, grid, grid)
        if self.separate_b is None:
            nothing = common.new_zeros(common.shape[0], 0, *common.shape[2:])
            return Codes(common, self.separate_a(image), nothing)
        return Codes(common, self.separate_a(image), self.separate_b(image))

    def compose(self, codes: Codes, onto: Tensor | None = None) -> Rendering:
        """G of the codes: pictures (N, 3, side, side) in [-1, 1]. `onto` is not looked at."""
        return Rendering(torch.tanh(self.decoder(torch.cat(codes, dim=1))), None)


class Losses(NamedTuple):
    """One player's turn: the sum to descend, its unweighted terms, and the codes it made."""

    total: Tensor
    terms: dict[str, Tensor]
    common: Tensor  # (2 B, C, grid, grid), A's first


def autoencoder_loss(
    model: Didd, critic: nets.Critic, a: Tensor, b: Tensor, weights: Weights, target: CriticTarget
) -> Losses:
    """The encoders' and the decoder's loss on pictures a and b, each (B, 3, side, side).

    The critic's own parameters should be frozen by the caller: its gradient here is the encoder's.
    """
    size = a.shape[0]
    both = torch.cat([a, b])  # one pass for both domains: the norms look at each picture alone
    codes = model.encode(both)
    of_a, of_b = codes.take(slice(0, size)), codes.take(slice(size, None))

    # Reconstruction: G(E_c(a), E_A(a), 0) = a and G(E_c(b), 0, E_B(b)) = b.
    own_parts = Codes(
        codes.common,
        torch.cat([of_a.a, torch.zeros_like(of_b.a)]),
        torch.cat([torch.zeros_like(of_a.b), of_b.b]),
    )
    rebuilt = model.compose(own_parts).image
    reconstruction = 2 * F.l1_loss(rebuilt, both)  # the mean over 2 B, twice = the sum of two means

    # Zero: the separate encoder of one domain finds nothing in the other.
    zero = of_b.a.abs().mean()
    if of_a.b.numel():
        zero = zero + of_a.b.abs().mean()

    # Common: of both domains the critic must say the same.
    logits = critic(codes.common)
    wanted = torch.full_like(logits, 0.5 if target == "half" else 1.0)
    common = 2 * F.binary_cross_entropy_with_logits(logits, wanted)

    terms = {"reconstruction": reconstruction, "zero": zero, "common": common}
    total = weights.reconstruction * reconstruction + weights.zero * zero + weights.common * common
    return Losses(total, terms, codes.common)


def critic_loss(critic: nets.Critic, common: Tensor) -> Losses:
    """BCE(d(E_c(a)), 0) + BCE(d(E_c(b)), 1) on codes (2 B, C, grid, grid), A's first.

    The codes are detached here, so no gradient reaches an encoder. Beside the loss the share of
    codes the critic gets right: 0.5 is what the encoder wants.
    """
    common = common.detach()
    logits = critic(common)  # (2 B,)
    half = len(logits) // 2
    truth = torch.cat([torch.zeros_like(logits[:half]), torch.ones_like(logits[half:])])
    loss = 2 * F.binary_cross_entropy_with_logits(logits, truth)
    right = ((logits > 0) == (truth > 0.5)).float().mean()
    return Losses(loss, {"critic": loss, "critic_right": right}, common)


def _paper(config: ModelConfig) -> bool:
    return config.architecture == "paper"
