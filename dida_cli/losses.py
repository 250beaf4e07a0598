"""The losses that both methods share: an empty code for the other domain, and the game with d."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli.codes import Codes
from dida_cli.config import CriticTarget, Weights
from dida_cli.nets import Critic

LEAST = 1e-8  # a weight is at least, that is divided by
NOISE = 0.05  # standard deviation: about the size of a separate code's numbers


class Losses(NamedTuple):
    """One player's turn: the sum to descend, its unweighted terms, and the codes it made."""

    total: Tensor
    terms: dict[str, Tensor]
    common: Tensor  # (2 B, C, grid, grid), A's first
    # What a critic looks at, (4 B, 3, side, side) in [-1, 1]: bases of A and B, then A and B.
    shown: Tensor | None = None


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


def domain(critic: Critic, edits: Tensor) -> Tensor:
    """BCE(d'(edit), its domain) of pictures that were moved to A, then as many moved to B.

    (2 B, 3, side, side) in [-1, 1]. d' has learned the domains from pictures that nobody edited
    (StarGAN's domain classification, Choi et al., 2018). Its parameters should be frozen.
    """
    return 2 * F.binary_cross_entropy_with_logits(critic.look(edits), _domains(edits))


def information(own: Codes) -> Tensor:
    """|s|^2 / (2 noise^2) of separate codes, the mean over 2 B pictures, in nats.

    What a code sent through noise of this size tells at the most, as the distance (Kullback and
    Leibler's) of noisy code from noisy nothing: Deep Variational Information Bottleneck, Alemi et
    al., 2017.
    """
    power = own.a.square().sum() + own.b.square().sum()
    return power / (2 * len(own.common) * NOISE**2)


def noisy(own: Codes) -> Codes:
    """The codes, with noise on the separate ones; nothing stays nothing."""
    return own._replace(a=_noisy(own.a), b=_noisy(own.b))


def _noisy(code: Tensor) -> Tensor:
    return code + NOISE * torch.randn_like(code) * (code != 0)


def other(values: Tensor) -> Tensor:
    """For each of 2 B pictures, A's first, the value of its neighbour in the other domain."""
    return values.roll(len(values) // 2, dims=0)


def error(picture: Tensor, truth: Tensor) -> Tensor:
    """|picture - truth| of (N, C, h, w), the mean over channels: (N, 1, h, w)."""
    return (picture - truth).abs().mean(1, keepdim=True)


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """mean |found - wanted| / mean |wanted| of codes."""
    return F.l1_loss(found, wanted) / wanted.abs().mean()


def mean_over(where: Tensor, values: Tensor) -> Tensor:
    """The mean of values, each weighed by `where`, of one shape and 0 or more; 0 of nothing."""
    return (values * where).sum() / (where.sum() + LEAST)


def critic(player: Critic, codes: Tensor, shown: Tensor | None = None) -> Losses:
    """BCE(d(E_c(a)), 0) + BCE(d(E_c(b)), 1) on common codes (2 B, C, grid, grid), A's first.

    With `shown` (4 B, 3, side, side) the same of d' on bases (2 B) and on the pictures they are of
    (2 B). All are detached here, so no gradient reaches the other player. Beside each loss the
    share that the critic gets right: 0.5 is what the other player wants.
    """
    codes = codes.detach()
    said = {"critic": player(codes)}  # logits (2 B,)
    if shown is not None:
        said["base_critic"], said["real_critic"] = player.look(shown.detach()).chunk(2)
    truth = _domains(codes)
    terms = {n: 2 * F.binary_cross_entropy_with_logits(z, truth) for n, z in said.items()}
    right = {f"{n}_right": ((z > 0) == (truth > 0.5)).float().mean() for n, z in said.items()}
    return Losses(torch.stack([*terms.values()]).sum(), terms | right, codes)


def _says(logits: Tensor, wanted: float) -> Tensor:
    """2 B logits held against what they should say: the mean over 2 B, twice."""
    return 2 * F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def _domains(values: Tensor) -> Tensor:
    """0 for A, which is the first half, and 1 for B: (2 B,)."""
    domains = torch.zeros(len(values), device=values.device)
    domains[len(values) // 2 :] = 1
    return domains


def _halves(codes: Codes) -> tuple[Codes, Codes]:
    size = len(codes.common) // 2
    return codes.take(slice(0, size)), codes.take(slice(size, None))
