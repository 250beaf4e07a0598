"""An image is three codes, and every edit is a new triple of codes.

`encode(image) -> Codes`, an edit makes other `Codes`, `compose(codes, onto=image) -> Rendering`.
"Nothing" is a code of zeros. Names follow Domain Intersection and Domain Difference (ICCV 2019):
common = E_c(x), a = E_A(x), b = E_B(x).

A tensor is torch's where a network runs, and a NumPy array where an export does (`onnx`): all that
is said here holds for both, and torch is not imported for an array's sake.
"""

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dida_cli.config import OTHER, ModelConfig, Part

if TYPE_CHECKING:
    from torch import Tensor

Code = Literal["common", "a", "b"]

FAINT = 3 / 127.5  # three levels of 255: nobody sees a pixel change by less


class Codes(NamedTuple):
    """What a batch of pictures is made of; each tensor (N, channels, grid, grid)."""

    common: "Tensor"  # what both domains share
    a: "Tensor"  # what only domain A has
    b: "Tensor"  # what only domain B has; no channels in a model with separate_b = 0

    def without(self, *parts: Part) -> "Codes":
        """These codes with the named parts set to nothing."""
        return self._replace(**{part: _nothing(self.of(part)) for part in parts})

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
    """What a decoder makes of codes."""

    image: "Tensor"  # (N, 3, side, side) in [-1, 1]
    mask: "Tensor | None"  # (N, 1, side, side) in [0, 1]: where `onto` was painted over; None: all
    # How: image = kept * onto + paint. Where the mask is 0, kept is 1 and paint 0.
    kept: "Tensor | None" = None  # (N, 1, side, side)
    paint: "Tensor | None" = None  # (N, 3, side, side)


class Model(Protocol):
    """All that an edit needs to know of a method."""

    config: ModelConfig

    def encode(self, image: "Tensor") -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to their codes."""

    def compose(
        self, codes: Codes, onto: "Tensor | None" = None, own: Codes | None = None
    ) -> Rendering:
        """Codes to pictures; a model with masks paints them onto `onto`, a plain one ignores it.

        `own`: the codes of `onto`, where they are known; else it is encoded once more.
        """


class Strokes(NamedTuple):
    """What turns a picture of some codes into one of others."""

    base: "Tensor"  # (N, 3, side, side) in [-1, 1]: the picture with no part
    mask: "Tensor"  # (N, 1, side, side) in [0, 1]: where is painted
    kept: "Tensor"  # (N, 1, side, side): how much of the picture stays; over 1 behind dark glass
    paint: "Tensor"  # (N, 3, side, side): what is added to it


class MaskModel:
    """A model that repaints what its masks cover; `mask` and `onnx` say how it finds them."""

    config: ModelConfig

    def encode(self, image: "Tensor") -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to their codes."""
        raise NotImplementedError

    def strokes(self, codes: Codes, own: Codes) -> Strokes:
        """What turns a picture of the codes `own` into one of `codes`."""
        raise NotImplementedError

    def segment(self, image: "Tensor", *parts: Part) -> "Tensor":
        """The mask of the parts that pictures (N, 3, side, side) have, (N, 1, side, side)."""
        raise NotImplementedError

    def compose(
        self, codes: Codes, onto: "Tensor | None" = None, own: Codes | None = None
    ) -> Rendering:
        """Codes painted onto pictures (N, 3, side, side) in [-1, 1], or onto their own base.

        A part that is the picture's own is left as it is, so that unchanged codes change nothing;
        so is each pixel of a picture that nobody would see change.
        `own`: the codes of `onto`, where they are known; else it is encoded once more.
        """
        if onto is None:
            own = codes.without("a", "b")
        elif own is None:
            own = self.encode(onto)
        base, *how = self.strokes(codes, own)
        if onto is not None:
            how = _visible(onto, *how)
        _, kept, paint = how
        image = kept * (base if onto is None else onto) + paint
        return Rendering(image.clip(-1, 1), *how)


def _visible(onto: "Tensor", mask: "Tensor", kept: "Tensor", paint: "Tensor") -> "list[Tensor]":
    """mask, kept and paint where some channel changes by over `FAINT`, whole from twice that on."""
    change = abs(kept * onto + paint - onto)  # (N, 3, side, side)
    most = _library(onto).amax(change, axis=1, keepdims=True)
    seen = (most / FAINT - 1).clip(0, 1)  # (N, 1, side, side)
    return [mask * seen, 1 - (1 - kept) * seen, paint * seen]


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
    return Codes(content.common, _repeated(a, content.a), _repeated(b, content.b))


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
    library = _library(codes[0].common)
    return Codes(*(library.concatenate(parts) for parts in zip(*codes, strict=True)))


def _nothing(code: "Tensor") -> "Tensor":
    return _library(code).zeros_like(code)  # type: ignore[no-any-return]


def _repeated(code: "Tensor", like: "Tensor") -> "Tensor":
    """One code for every picture of a batch."""
    return _library(code).broadcast_to(code, like.shape)  # type: ignore[no-any-return]


def _library(code: "Tensor") -> Any:
    """torch or NumPy, whichever made a code; what is used of them here has one name in both."""
    return sys.modules[type(code).__module__.partition(".")[0]]
