"""The losses that both methods share: an empty code for the other domain, and the game with d."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli.codes import Codes
from dida_cli.config import CriticTarget, Weights
from dida_cli.nets import Critic


class Losses(NamedTuple):
    """One player's turn: the sum to descend, its unweighted terms, and the codes it made."""

    total: Tensor
    terms: dict[str, Tensor]
    common: Tensor  # (2 B, C, grid, grid), A's first
    base: Tensor | None = None  # (2 B, 3, side, side) in [-1, 1], where a critic looks at it


def weighted(terms: dict[str, Tensor], weights: Weights, common: Tensor) -> Losses:
    """The sum of the terms, each by the weight of its name."""
    total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    return Losses(total, terms, common)


def own_parts(codes: Codes) -> Codes:
    """Each picture's common code with its own domain's part alone: (c, E_A(a), 0), (c, 0, E_B(b)).

    `codes` are of 2 B pictures, A's first.
    """
    of_a, of_b = _halves(codes)
    return Codes(
        codes.common,
        torch.cat([of_a.a, torch.zeros_like(of_b.a)]),
        torch.cat([torch.zeros_like(of_a.b), of_b.b]),
    )


def zero(codes: Codes) -> Tensor:
    """mean |E_A(b)| + mean |E_B(a)| of 2 B pictures, A's first (ICCV 2019, "Zero" loss)."""
    of_a, of_b = _halves(codes)
    loss = of_b.a.abs().mean()
    return loss + of_a.b.abs().mean() if of_a.b.numel() else loss


def common(critic: Critic, codes: Codes, target: CriticTarget) -> Tensor:
    """BCE(d(E_c(a)), t) + BCE(d(E_c(b)), t) (ICCV 2019, "common" loss): of all d must say the same.

    The paper's t is 1; `half` is 0.5. The critic's parameters should be frozen by the caller.
    """
    return _says(critic(codes.common), 0.5 if target == "half" else 1.0)


def alike(critic: Critic, base: Tensor) -> Tensor:
    """BCE(d'(base(a)), 1/2) + BCE(d'(base(b)), 1/2) on pictures with no part, A's first.

    `base`: (2 B, 3, side, side) in [-1, 1]. The critic's parameters should be frozen.
    """
    return _says(critic.look(base), 0.5)


def critic(player: Critic, codes: Tensor, base: Tensor | None = None) -> Losses:
    """BCE(d(E_c(a)), 0) + BCE(d(E_c(b)), 1) on common codes (2 B, C, grid, grid), A's first.

    With `base` (2 B, 3, side, side) the same of d' on these pictures. All are detached here, so no
    gradient reaches the other player. Beside each loss the share that the critic gets right: 0.5
    is what the other player wants.
    """
    codes = codes.detach()
    said = {"critic": player(codes)}  # logits (2 B,)
    if base is not None:
        said["base_critic"] = player.look(base.detach())
    truth = torch.zeros_like(said["critic"])
    truth[len(truth) // 2 :] = 1
    terms = {n: 2 * F.binary_cross_entropy_with_logits(z, truth) for n, z in said.items()}
    right = {f"{n}_right": ((z > 0) == (truth > 0.5)).float().mean() for n, z in said.items()}
    return Losses(torch.stack([*terms.values()]).sum(), terms | right, codes)


def _says(logits: Tensor, wanted: float) -> Tensor:
    """2 B logits held against what they should say: the mean over 2 B, twice."""
    return 2 * F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def _halves(codes: Codes) -> tuple[Codes, Codes]:
    size = len(codes.common) // 2
    return codes.take(slice(0, size)), codes.take(slice(size, None))
