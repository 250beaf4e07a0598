"""What a model is judged on: contents of one domain, guides of the other, and the edits of them.

Pairs are drawn avatars, whose true answer is known, or pictures of any two domains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from dida_cli.codes import Codes, Model, stack, transfer
from dida_cli.config import Part
from dida_cli.data import avatars
from dida_cli.evaluate.attributes import to_batch

ATTRIBUTE: dict[Part, str] = {"a": "Smiling", "b": "Eyeglasses"}
OTHER: dict[Part, Part] = {"a": "b", "b": "a"}
BATCH = 50


@dataclass(frozen=True)
class Known:
    """What only drawn faces have: the true answers, and everybody's factors."""

    truth: Tensor  # (N, 3, side, side): the contents with the guides' parts
    contents: list[avatars.Factors]
    guides: list[avatars.Factors]
    truths: list[avatars.Factors]


@dataclass(frozen=True)
class Pairs:
    """N contents, each with a guide that has part `guide_part`; pictures in [-1, 1]."""

    guide_part: Part
    content: Tensor  # (N, 3, side, side)
    guide: Tensor
    known: Known | None = None


@dataclass(frozen=True)
class Edits:
    """What a model makes of pairs; pictures (N, 3, side, side) in [-1, 1], codes of N pictures."""

    output: Tensor  # the guide's part on the content
    rebuilt: Tensor  # the content through the model, nothing changed
    bare: Tensor  # the content with neither part
    mask: Tensor | None  # (N, 1, side, side): where the transfer painted
    content: Codes
    guide: Codes


def draw(
    guide_part: Part,
    count: int,
    side: int,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """`count` pairs of avatars whose guides have part a (or b), whose contents have the other."""
    present, absent = ATTRIBUTE[guide_part], ATTRIBUTE[OTHER[guide_part]]
    guides = list(islice(avatars.faces_with(seed, present, absent), count))
    contents = list(islice(avatars.faces_with(seed, absent, present), count))
    truths = [c.with_parts_of(g) for c, g in zip(contents, guides, strict=True)]
    done = 0

    def drawn(faces: list[avatars.Factors]) -> Tensor:
        nonlocal done
        pictures = []
        for face in faces:
            pictures.append(avatars.draw(face, side))
            done += 1
            on_progress(done, 3 * count)
        return to_batch(pictures, side)

    content, guide = drawn(contents), drawn(guides)
    return Pairs(guide_part, content, guide, Known(drawn(truths), contents, guides, truths))


def of_pictures(a: Tensor, b: Tensor, count: int, *, seed: int) -> dict[Part, Pairs]:
    """Up to `count` pairs each way from pictures of both domains, (N, 3, side, side) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    count = min(count, len(a), len(b))
    a = a[torch.randperm(len(a), generator=generator)[:count]]
    b = b[torch.randperm(len(b), generator=generator)[:count]]
    return {"a": Pairs("a", content=b, guide=a), "b": Pairs("b", content=a, guide=b)}


def edit(model: Model, pairs: Pairs) -> Edits:
    """Every edit that the scores look at, made on the device of the model a batch at a time."""
    batches = []
    with torch.inference_mode():
        for rows in range(0, len(pairs.content), BATCH):
            part = slice(rows, rows + BATCH)
            batches.append(_edit(model, pairs.content[part], pairs.guide[part], pairs.guide_part))
    masks = [batch.mask for batch in batches if batch.mask is not None]
    return Edits(
        torch.cat([batch.output for batch in batches]),
        torch.cat([batch.rebuilt for batch in batches]),
        torch.cat([batch.bare for batch in batches]),
        torch.cat(masks) if masks else None,
        stack([batch.content for batch in batches]),
        stack([batch.guide for batch in batches]),
    )


def _edit(model: Model, content: Tensor, guide: Tensor, guide_part: Part) -> Edits:
    own, of_guide = model.encode(content), model.encode(guide)
    moved = moved_to(own, of_guide, guide_part)
    made = model.compose(moved, content)
    return Edits(
        made.image,
        model.compose(own, content).image,
        model.compose(own.without("a", "b"), content).image,
        made.mask,
        own,
        of_guide,
    )


def moved_to(content: Codes, guide: Codes, guide_part: Part) -> Codes:
    """The transfer of one part, the content's own dropped."""
    if guide_part == "a":
        return transfer(content, guide_a=guide)
    return transfer(content, guide_b=guide)
