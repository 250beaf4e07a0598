"""An image is what domains share and what each alone has, and every edit is other codes.

`encode(image) -> Codes`, an edit makes other `Codes`, `compose(codes, onto=image) -> Rendering`.
"Nothing" is a code of zeros. Names follow Domain Intersection and Domain Difference (ICCV 2019):
common = E_c(x), a = E_A(x), b = E_B(x).

A tensor is torch's where a network runs, and a NumPy array where an export does: all that is said
here holds for both, and torch is not imported for an array's sake.
"""

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dida_cli.config import OTHER, PARTS, ModelConfig, Part

if TYPE_CHECKING:
    from torch import Tensor

Code = Literal["common", "a", "b"]
Ability = Literal["masks", "two parts", "common code"]


class Codes(NamedTuple):
    """What a batch of pictures is made of; each tensor (N, channels, grid, grid)."""

    common: "Tensor"  # what both domains share; no channels where the picture itself is that
    a: "Tensor"  # what only domain A has
    b: "Tensor"  # what only domain B has; no channels in a model of one part

    def without(self, *parts: Part) -> "Codes":
        """These codes with the named parts set to nothing."""
        library = _library(self.a)
        return self._replace(**{part: library.zeros_like(self.of(part)) for part in parts})

    def of(self, part: Part) -> "Tensor":
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
    """What a model makes of codes."""

    image: "Tensor"  # (N, 3, side, side) in [-1, 1]
    # (N, 1, side, side) in [0, 1]: where `onto` was changed. Where it is 0 the image is `onto` bit
    # for bit. None: the whole picture is drawn.
    mask: "Tensor | None"


class Model(Protocol):
    """All that an edit needs to know of a method."""

    config: ModelConfig

    @property
    def abilities(self) -> frozenset[Ability]:
        """masks: edits paint `onto` and leave the rest alone; two parts: both domains have one;
        common code: pictures can be drawn from codes alone."""

    def encode(self, image: "Tensor") -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to their codes."""

    def compose(
        self, codes: Codes, onto: "Tensor | None" = None, own: Codes | None = None
    ) -> Rendering:
        """Codes to pictures; a model with masks paints them onto `onto`, a plain one ignores it.

        `own`: the codes of `onto`, where they are known; else it is encoded once more. A part
        whose code is as in `own` is left as it is.
        """


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
    kept = content.without(*(part for part in PARTS if part not in keep))
    a, b = (guide_a or kept).a, (guide_b or kept).b
    repeated = _library(a).broadcast_to  # one code for every picture of a batch
    return Codes(content.common, repeated(a, content.a.shape), repeated(b, content.b.shape))


def segment(model: Model, image: "Tensor", *parts: Part) -> "Tensor":
    """Where pictures (N, 3, side, side) have the parts: what taking them off changes.

    (N, 1, side, side) in [0, 1]. The model must have masks.
    """
    own = model.encode(image)
    mask = model.compose(own.without(*parts), image, own).mask
    assert mask is not None
    return mask


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
    way = interpolate(start, end, steps)
    return [
        [start._replace(**{down: getattr(y, down), across: getattr(x, across)}) for x in way]
        for y in way
    ]


def stack(codes: Sequence[Codes]) -> Codes:
    """Several batches of codes as one."""
    library = _library(codes[0].common)
    return Codes(*(library.concatenate(parts) for parts in zip(*codes, strict=True)))


def _library(code: "Tensor") -> Any:
    """torch or NumPy, whichever made a code; what is used of them here has one name in both."""
    return sys.modules[type(code).__module__.partition(".")[0]]
