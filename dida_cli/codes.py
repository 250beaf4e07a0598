"""An image is three codes, and every edit is a new triple of codes.

`encode(image) -> Codes`, an edit makes other `Codes`, `compose(codes, onto=image) -> Rendering`.
"Nothing" is a code of zeros. Names follow Domain Intersection and Domain Difference (ICCV 2019):
common = E_c(x), a = E_A(x), b = E_B(x).
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from dida_cli.config import OTHER, ModelConfig, Part

Code = Literal["common", "a", "b"]


class Codes(NamedTuple):
    """What a batch of pictures is made of; each tensor (N, channels, grid, grid)."""

    common: Tensor  # what both domains share
    a: Tensor  # what only domain A has
    b: Tensor  # what only domain B has; no channels in a model with separate_b = 0

    def without(self, *parts: Part) -> "Codes":
        """These codes with the named parts set to nothing."""
        return self._replace(**{part: torch.zeros_like(getattr(self, part)) for part in parts})

    def of(self, part: Part) -> Tensor:
        """The code of one part."""
        return self.a if part == "a" else self.b

    def alone(self, part: Part) -> "Codes":
        """The common code with this part and without the other."""
        return self.without(OTHER[part])

    def take(self, index: int | slice) -> "Codes":
        """One picture of the batch (still a batch), or several."""
        rows = slice(index, index + 1) if isinstance(index, int) else index
        return Codes(*(code[rows] for code in self))


class Rendering(NamedTuple):
    """What a decoder makes of codes."""

    image: Tensor  # (N, 3, side, side) in [-1, 1]
    mask: Tensor | None  # (N, 1, side, side) in [0, 1]: where `onto` was painted over; None: all
    # What was painted, already times the mask: image = (1 - mask) * onto + paint.
    paint: Tensor | None = None  # (N, 3, side, side)


class Model(Protocol):
    """All that an edit needs to know of a method."""

    config: ModelConfig

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to their codes."""

    def compose(self, codes: Codes, onto: Tensor | None = None) -> Rendering:
        """Codes to pictures; a model with masks paints them onto `onto`, a plain one ignores it."""


def transfer(
    content: Codes,
    *,
    guide_a: Codes | None = None,
    guide_b: Codes | None = None,
    keep: Collection[Part] = (),
) -> Codes:
    """The content's common code with the guides' parts.

    A part with no guide is dropped, G(E_c(x), E_A(a), 0), unless `keep` names it; two guides make
    the union G(E_c(x), E_A(a), E_B(b)), which no training picture shows.
    """
    bare = content.without("a", "b")
    a = guide_a.a if guide_a else (content if "a" in keep else bare).a
    b = guide_b.b if guide_b else (content if "b" in keep else bare).b
    return Codes(content.common, a.expand_as(content.a), b.expand_as(content.b))


def between(start: Codes, end: Codes, weight: float) -> Codes:
    """The point `weight` of the way from start (0) to end (1) in all three codes; may go beyond.

    Equal ends are met exactly: at 0 the result is `start`, at 1 it is `end`.
    """
    if weight == 1:
        return end
    return Codes(*(s + weight * (e - s) for s, e in zip(start, end, strict=True)))


def interpolate(start: Codes, end: Codes, steps: int) -> list[Codes]:
    """`steps` >= 2 codes at equal distances from start to end, both included."""
    return [between(start, end, i / (steps - 1)) for i in range(steps)]


def grid(start: Codes, end: Codes, *, down: Code, across: Code, steps: int) -> list[list[Codes]]:
    """Rows of codes that go from start to end in one code down and in another across.

    The third code is that of `start` everywhere: fixed common, fixed A or fixed B (paper,
    "Interpolations").
    """
    rows = [
        start._replace(**{down: getattr(step, down)}) for step in interpolate(start, end, steps)
    ]
    return [
        [row._replace(**{across: getattr(step, across)}) for step in interpolate(start, end, steps)]
        for row in rows
    ]


def stack(codes: Sequence[Codes]) -> Codes:
    """Several batches of codes as one."""
    return Codes(*(torch.cat(parts) for parts in zip(*codes, strict=True)))
