"""What each code knows: the paper's claims about its codes, held against fresh probes.

With the losses minimised the common code should not tell the domain, each separate code should hold
its own factor and be nothing in the other domain, and E_c(A) should be independent of E_A(A), as
E_c(B) of E_B(B). A code without channels is left out of every answer.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli.codes import Codes
from dida_cli.config import OTHER, PARTS, Part

DEFINITIONS = {
    "accuracy": "share of held-out codes whose class a linear softmax probe names right, trained "
    "on the other half of the frozen codes (standardised, L2)",
    "domain": "the accuracy of the domain's probe on the common code; pixels: of the same probe on "
    "the pictures themselves, all their pixels",
    "chance": "share of the most frequent class among the held-out codes: what a probe that knows "
    "nothing gets; the common code should be there for the domain",
    "leak": "mean |E_A(b)| / mean |E_A(a)|, and the same for B: how much a separate code finds in "
    "the domain it should find nothing in; 0 = nothing, 1 = as much as in its own",
    "hsic": "dependence of common and separate code within one domain (Gretton et al. 2005), "
    "Gaussian kernels as wide as the median distance; hsic_shuffled: its mean when the pairs are "
    "broken up, the level of independent codes",
    "p": "share of shufflings of the pairs that look at least as dependent: small = dependent, "
    "anything between 0 and 1 = no dependence seen",
}
RIDGE = 1e-2  # weight of the squared probe weights beside the mean cross-entropy
ITERATIONS = 200  # at most, until a probe's answer moves no more
ROWS = 500  # pictures that an independence test looks at


class Probe(NamedTuple):
    """What a probe read from held-out codes; shares are 0..1."""

    accuracy: float
    chance: float
    held_out: int


def table(
    codes: Codes, labels: Mapping[str, Tensor], *, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """`probe` of every factor from every code, for JSON: rows are factors, columns codes.

    `labels` gives the true class (N,) of each factor of the N pictures, in the order of the codes.
    """
    columns = present(codes)
    return {
        factor: {name: probe(code, truth, seed=seed)._asdict() for name, code in columns.items()}
        for factor, truth in labels.items()
    }


def present(codes: Codes) -> dict[str, Tensor]:
    """The codes that have channels, by name."""
    return {name: code for name, code in codes._asdict().items() if code.numel()}


def probe(code: Tensor, truth: Tensor, *, seed: int = 0) -> Probe:
    """How well a linear probe names the class (N,) of a code (N, ...); equal for equal seeds.

    A random half trains it, the other half is told.
    """
    order = torch.randperm(len(code), generator=torch.Generator().manual_seed(seed))
    train, test = order[: len(code) // 2], order[len(code) // 2 :]
    most = truth[test].bincount().max().item()
    return Probe(_told(code, truth, train, test), most / len(test), len(test))


def carried(learned: Tensor, truth: Tensor, asked: Tensor, wanted: Tensor) -> float:
    """The share of codes (N, ...) whose class (N,) a probe names right that learned other codes."""
    rows = torch.arange(len(learned) + len(asked))
    both = torch.cat([learned, asked]), torch.cat([truth, wanted])
    return _told(*both, rows[: len(learned)], rows[len(learned) :])


def _told(code: Tensor, truth: Tensor, train: Tensor, test: Tensor) -> float:
    """The share of test rows whose class a probe of the training rows names right."""
    inputs = code.flatten(1).double()
    inputs = _standardised(inputs, inputs[train])
    if inputs.shape[1] > len(train):
        inputs = _rotated(inputs, train)
    weights, bias = _fit(inputs[train], truth[train], int(truth.max()) + 1)
    right = (inputs[test] @ weights + bias).argmax(1) == truth[test]
    return right.double().mean().item()


def _standardised(values: Tensor, of: Tensor) -> Tensor:
    """Values (N, d) with the means and deviations of others taken off; constant ones become 0."""
    deviation = of.std(0, correction=0)
    steady = deviation <= 1e-12 * of.abs().amax(0)
    return (values - of.mean(0)) / deviation.masked_fill(steady, math.inf)


def _rotated(values: Tensor, rows: Tensor) -> Tensor:
    """Values (N, d) along the principal axes of some of them, no more than these: (N, axes).

    The weights of a probe lie in the space of what it learned, so that its answers are the same.
    """
    products = values @ values[rows].T
    squares, axes = torch.linalg.eigh(products[rows])
    some = squares > 1e-10 * squares.amax()
    rotated: Tensor = products @ (axes[:, some] / squares[some].sqrt())
    return rotated


def _fit(inputs: Tensor, truth: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights (d, classes) and bias of softmax regression with L2; convex, hence one answer."""
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
        weights = inputs.new_zeros(inputs.shape[1], classes, requires_grad=True)
        bias = inputs.new_zeros(classes, requires_grad=True)
        inputs, truth = inputs.clone(), truth.clone()  # codes of inference mode take no part
        optimizer = torch.optim.LBFGS(
            [weights, bias],
            max_iter=ITERATIONS,
            line_search_fn="strong_wolfe",
            tolerance_change=1e-9,
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(inputs @ weights + bias, truth)
            value = value + RIDGE * weights.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()


def leak(of_a: Codes, of_b: Codes) -> dict[Part, float]:
    """mean |E_A(b)| / mean |E_A(a)| under "a", mean |E_B(a)| / mean |E_B(b)| under "b"; 0 or more.

    From the codes of pictures of A and of B. The zero loss of the paper is the numerator. inf when
    a code is nothing in its own domain too.
    """
    ratios = {}
    for part, own, other in _parts(of_a, of_b):
        found, stray = (codes.of(part).double().abs().mean().item() for codes in (own, other))
        ratios[part] = stray / found if found else math.inf
    return ratios


def _parts(of_a: Codes, of_b: Codes) -> list[tuple[Part, Codes, Codes]]:
    """Each part that has channels, the codes of its own domain, those of the other."""
    of = {"a": of_a, "b": of_b}
    return [(part, of[part], of[OTHER[part]]) for part in PARTS if part in present(of[part])]


class Independence(NamedTuple):
    """A permutation test of two codes; see `DEFINITIONS`."""

    hsic: float
    hsic_shuffled: float
    p: float
    n: int


def independence(
    of_a: Codes, of_b: Codes, *, permutations: int = 200, seed: int = 0
) -> dict[Part, Independence]:
    """Whether E_c(A) and E_A(A) are independent ("a"), and E_c(B) and E_B(B) ("b").

    From codes of pictures of A and of B. Nothing where no code is common.
    """
    return {
        part: dependence(own.common, own.of(part), permutations=permutations, seed=seed)
        for part, own, _ in _parts(of_a, of_b)
        if "common" in present(own)
    }


def dependence(x: Tensor, y: Tensor, *, permutations: int = 200, seed: int = 0) -> Independence:
    """HSIC of the first 500 rows of x (N, ...) and y (N, ...) with a permutation p-value.

    The biased estimate tr(K H L H) / n^2 (Gretton et al. 2008, equation 4) with Gaussian kernels;
    p = (1 + shufflings at least as dependent) / (1 + shufflings), so never 0.
    Equal for equal seeds.
    """
    n = min(len(x), ROWS)
    centred, other = _centred(_kernel(x[:n])), _kernel(y[:n])
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=generator) for _ in range(permutations)]
    observed = (centred * other).sum() / n**2
    shuffled = torch.stack([(centred * other[o[:, None], o]).sum() / n**2 for o in orders])
    p = (1 + (shuffled >= observed).sum().item()) / (1 + permutations)
    return Independence(observed.item(), shuffled.mean().item(), p, n)


def _kernel(values: Tensor) -> Tensor:
    """exp(-|u - v|^2 / (2 s^2)) for all pairs of rows, s the median distance between them."""
    rows = values.flatten(1).double()
    exact = "donot_use_mm_for_euclid_dist"  # the quick way is not 0 between equal rows
    distance = torch.cdist(rows, rows, compute_mode=exact)
    apart = distance[distance > 0]  # many equal rows would otherwise make the median 0
    width = apart.median() if len(apart) else 1.0
    return (-(distance.square()) / (2 * width**2)).exp()


def _centred(kernel: Tensor) -> Tensor:
    """H K H with H = I - 1/n: rows and columns of mean 0."""
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
