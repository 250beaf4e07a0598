"""What a model is judged on: contents of one domain, guides of the other, and the edits of them.

Pairs are drawn avatars, whose true answer is known, or pictures of any two domains.
"""

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from dida_cli.codes import Codes, Model, stack, transfer
from dida_cli.config import OTHER, PARTS, ModelConfig, Part
from dida_cli.data import avatars
from dida_cli.errors import DidaError
from dida_cli.evaluate.attributes import to_batch
from dida_cli.images import Picture

BATCH = 50
MANY = 200  # faces that are worth several processes to draw them


@dataclass(frozen=True)
class Task:
    """What tells drawn faces of A and B apart, as attributes of avatars.

    A one-sided task has no `b`: faces of B just lack what A's have.
    """

    a: str
    b: str | None = None

    @property
    def attributes(self) -> tuple[str, ...]:
        """All that a transfer may change."""
        return (self.a, self.b) if self.b else (self.a,)

    def of(self, part: Part) -> str | None:
        """The attribute of one domain."""
        return self.a if part == "a" else self.b


SMILE_GLASSES = Task("Smiling", "Eyeglasses")
ONE_SIDED = {"smile": Task("Smiling"), "glasses": Task("Eyeglasses"), "beard": Task("Beard")}


def task_of(config: ModelConfig) -> Task:
    """What a model can be judged at on drawn faces. Raises DidaError when that is nothing."""
    a, b = config.domains.a, config.domains.b
    if (a, b) == ("smile", "glasses"):
        return SMILE_GLASSES
    if not b and a in ONE_SIDED:
        return ONE_SIDED[a]
    raise DidaError(
        f"drawn faces judge smile and glasses, or one of {', '.join(ONE_SIDED)} alone, "
        f"not {f'{a} and {b}' if b else f'{a} alone'}; give test pictures with --data"
    )


@dataclass(frozen=True)
class Known:
    """What only drawn faces have: the task, the true answers, and everybody's factors."""

    task: Task
    truth: Tensor  # (N, 3, side, side): the contents with the guides' parts
    contents: list[avatars.Factors]
    guides: list[avatars.Factors]
    truths: list[avatars.Factors]


@dataclass(frozen=True)
class Pairs:
    """N contents, each with a guide that has part `guide_part`; pictures in [-1, 1].

    In a one-sided task the guides of part b have nothing, and the transfer is a removal.
    """

    guide_part: Part
    content: Tensor  # (N, 3, side, side)
    guide: Tensor
    known: Known | None = None


@dataclass(frozen=True)
class Edits:
    """What a model makes of pairs; pictures (N, 3, side, side) in [-1, 1], codes of N pictures."""

    output: Tensor  # the guide's part on the content
    rebuilt: Tensor  # the content through the model, nothing changed; where no code is common, it
    bare: Tensor  # the content with neither part
    mask: Tensor | None  # (N, 1, side, side): where the transfer painted
    content: Codes
    guide: Codes


def draw(
    task: Task,
    count: int,
    side: int,
    *,
    seed: int,
    foreign: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Part, Pairs]:
    """`count` pairs of avatars each way: the contents of one way are the guides of the other.

    `foreign`: with eyes, brows, backgrounds and colours that no training set has.
    """
    faces: dict[Part, list[avatars.Factors]] = {
        "a": list(islice(avatars.faces_with(seed, task.a, task.b), count)),
        "b": list(islice(avatars.faces_with(seed, task.b, task.a), count)),
    }
    if foreign:
        faces = {
            part: [avatars.foreign(face, i) for i, face in enumerate(of_part)]
            for part, of_part in faces.items()
        }
    truths = {
        part: [
            content.with_parts_of(guide, task.attributes)
            for content, guide in zip(faces[OTHER[part]], faces[part], strict=True)
        ]
        for part in PARTS
    }
    drawn = []
    for picture in _drawn([*faces["a"], *faces["b"], *truths["a"], *truths["b"]], side):
        drawn.append(picture)
        on_progress(len(drawn), 4 * count)
    batch = to_batch(drawn, side)
    if foreign:  # red, green and blue change places: skin and hair of colours never seen
        batch = batch[:, [1, 2, 0]]
    of_a, of_b, true_a, true_b = torch.split(batch, count)
    pictures: dict[Part, Tensor] = {"a": of_a, "b": of_b}
    answers: dict[Part, Tensor] = {"a": true_a, "b": true_b}
    pairs: dict[Part, Pairs] = {}
    for part, other in OTHER.items():
        known = Known(task, answers[part], faces[other], faces[part], truths[part])
        pairs[part] = Pairs(part, pictures[other], pictures[part], known)
    return pairs


def _drawn(faces: Sequence[avatars.Factors], side: int) -> Iterator[Picture]:
    """The faces in their order; many are drawn by several processes, one for each core."""
    one = functools.partial(avatars.draw, side=side)
    if len(faces) < MANY:
        yield from map(one, faces)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(mp_context=context) as pool:
        yield from pool.map(one, faces, chunksize=16)


def nearest_answers(drawn: Pairs, output: Tensor) -> Tensor | None:
    """Of all right answers to removals the one nearest to each output (N, 3, side, side).

    Who takes a smile off is not told which other mouth the true answer has: any is right. None
    where there is but one right answer.
    """
    known = drawn.known
    if not known or known.task.of(drawn.guide_part):
        return None
    answers = [face.without(known.task.a) for face in known.contents]
    if len(answers[0]) == 1:
        return None
    side, nearest = output.shape[-1], []
    drawn_faces = _drawn([face for faces in answers for face in faces], side)
    for faces, made in zip(answers, output, strict=True):
        pictures = to_batch(list(islice(drawn_faces, len(faces))), side)  # (K, 3, side, side)
        nearest.append(pictures[(pictures - made).square().flatten(1).mean(1).argmin()])
    return torch.stack(nearest)


def of_pictures(
    sides: Mapping[Part, tuple[Tensor, Tensor]], count: int, *, seed: int
) -> dict[Part, Pairs]:
    """Up to `count` pairs each way from pictures with each part, the guides, and without it.

    (N, 3, side, side) in [-1, 1]. Where b is not among them, pictures without a are of domain B.
    """
    has, lacks = sides["a"]
    both = dict(sides)
    both.setdefault("b", (lacks, has))
    count = min(count, *(len(pictures) for side in both.values() for pictures in side))
    generator = torch.Generator().manual_seed(seed)

    def some(pictures: Tensor) -> Tensor:
        return pictures[torch.randperm(len(pictures), generator=generator)[:count]]

    return {p: Pairs(p, content=some(lacks), guide=some(has)) for p, (has, lacks) in both.items()}


def edit(model: Model, pairs: Pairs) -> Edits:
    """Every edit that the scores look at, made on the device of the model a batch at a time."""
    with torch.inference_mode():
        batches = [
            _edit(model, pairs.content[rows], pairs.guide[rows], pairs.guide_part)
            for rows in in_batches(len(pairs.content))
        ]
    masks = [batch.mask for batch in batches if batch.mask is not None]
    return Edits(
        torch.cat([batch.output for batch in batches]),
        torch.cat([batch.rebuilt for batch in batches]),
        torch.cat([batch.bare for batch in batches]),
        torch.cat(masks) if masks else None,
        stack([batch.content for batch in batches]),
        stack([batch.guide for batch in batches]),
    )


def in_batches(count: int) -> list[slice]:
    """`count` rows, `BATCH` at a time."""
    return [slice(first, first + BATCH) for first in range(0, count, BATCH)]


def _edit(model: Model, content: Tensor, guide: Tensor, guide_part: Part) -> Edits:
    own, of_guide = model.encode(content), model.encode(guide)
    moved = moved_to(own, of_guide, guide_part)
    made = model.compose(moved, content, own)
    through = "common code" in model.abilities
    return Edits(
        made.image,
        model.compose(own, content, own).image if through else content,
        model.compose(own.without("a", "b"), content, own).image,
        made.mask,
        own,
        of_guide,
    )


def moved_to(content: Codes, guide: Codes, guide_part: Part) -> Codes:
    """The transfer of one part, the content's own dropped."""
    if guide_part == "a":
        return transfer(content, guide_a=guide)
    return transfer(content, guide_b=guide)
