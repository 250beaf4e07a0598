"""What a model is judged on: contents of one domain, guides of the other, and the edits of them.

Pairs are drawn avatars, whose true answer is known, or pictures of any two domains.
"""

import functools
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from dida_cli import images
from dida_cli.codes import Codes, Model, stack, transfer
from dida_cli.config import OTHER, PARTS, ModelConfig, Part
from dida_cli.data import avatars
from dida_cli.data.folders import Progress, unheard
from dida_cli.errors import DidaError
from dida_cli.images import Picture

BATCH = 50
MANY = 200  # faces that are worth several processes to draw them


@dataclass(frozen=True)
class Task:
    """What tells drawn faces of A and B apart, as attributes of avatars."""

    a: str
    b: str | None = None  # None: faces of B just lack what A's have

    @property
    def attributes(self) -> tuple[str, ...]:
        """All that a transfer may change."""
        return (self.a, self.b) if self.b else (self.a,)

    def of(self, part: Part) -> str | None:
        return self.a if part == "a" else self.b

    @property
    def is_open(self) -> bool:
        """Whether removals have several right answers, as whichever mouth comes for a smile."""
        return not self.b and len(avatars.ATTRIBUTES[self.a].absent) > 1


SMILE_GLASSES = Task("Smiling", "Eyeglasses")
NAMED = {"smile": "Smiling", "glasses": "Eyeglasses", "beard": "Beard"}


def task_of(config: ModelConfig) -> Task:
    """What a model can be judged at on drawn faces. Raises DidaError when that is nothing."""
    names = [config.domains.of(part) for part in config.parts]
    if set(names) <= set(NAMED):
        return Task(*(NAMED[name] for name in names))
    raise DidaError(
        f"drawn faces judge {', '.join(NAMED)}, one alone or two of them, "
        f"not {' and '.join(names)}{' alone' * (len(names) == 1)}; give test pictures with --data"
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

    Guides of part b of a one-sided task have nothing, and the transfer is a removal.
    """

    guide_part: Part
    content: Tensor  # (N, 3, side, side)
    guide: Tensor
    known: Known | None = None

    @property
    def facts(self) -> Known:
        """What is known of drawn faces, for scores of these alone."""
        assert self.known is not None, "asked for the true answer of pictures that have none"
        return self.known


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
    on_progress: Progress = unheard,
) -> dict[Part, Pairs]:
    """`count` pairs of avatars each way: the contents of one way are the guides of the other.

    `foreign`: with eyes, brows, backgrounds and colours that no training set has.
    """
    faces: dict[Part, list[avatars.Factors]] = {}
    for part, other in OTHER.items():
        found = islice(avatars.faces_with(seed, task.of(part), task.of(other)), count)
        faces[part] = [avatars.foreign(f, i) if foreign else f for i, f in enumerate(found)]
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
    batch = images.to_tensor(drawn, images.Square(side))
    if foreign:  # red, green and blue change places: skin and hair of colours never seen
        batch = batch[:, [1, 2, 0]]
    of_a, of_b, true_a, true_b = torch.split(batch, count)
    known_a = Known(task, true_a, faces["b"], faces["a"], truths["a"])
    known_b = Known(task, true_b, faces["a"], faces["b"], truths["b"])
    return {"a": Pairs("a", of_b, of_a, known_a), "b": Pairs("b", of_a, of_b, known_b)}


def _drawn(faces: Sequence[avatars.Factors], side: int) -> Iterator[Picture]:
    """The faces in their order; many are drawn by several processes, one for each core."""
    one = functools.partial(avatars.draw, side=side)
    if len(faces) < MANY:
        yield from map(one, faces)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(mp_context=context) as pool:
        yield from pool.map(one, faces, chunksize=16)


def nearest_answers(drawn: Pairs, output: Tensor) -> Tensor:
    """Of all right answers the one nearest to each output, both (N, 3, side, side)."""
    task = drawn.facts.task
    if task.of(drawn.guide_part):
        return drawn.facts.truth
    answers = [face.without(task.a) for face in drawn.facts.contents]
    side, nearest = output.shape[-1], []
    faces = _drawn([face for right in answers for face in right], side)
    for right, made in zip(answers, output, strict=True):
        pictures = images.to_tensor(list(islice(faces, len(right))), images.Square(side))
        nearest.append(pictures[(pictures - made).square().flatten(1).mean(1).argmin()])
    return torch.stack(nearest)


def of_pictures(
    sides: Mapping[Part, tuple[Tensor, Tensor]], count: int, *, seed: int
) -> dict[Part, Pairs]:
    """Up to `count` pairs each way from pictures with each part, the guides, and without it.

    (N, 3, side, side) in [-1, 1]. Where b is not among them, pictures without a are of domain B.
    """
    has, lacks = sides["a"]
    both = {**sides, "b": sides.get("b", (lacks, has))}
    count = min(count, *(len(pictures) for side in both.values() for pictures in side))
    generator = torch.Generator().manual_seed(seed)

    def some(pictures: Tensor) -> Tensor:
        return pictures[torch.randperm(len(pictures), generator=generator)[:count]]

    return {p: Pairs(p, content=some(lacks), guide=some(has)) for p, (has, lacks) in both.items()}


def edit(model: Model, pairs: Pairs) -> Edits:
    """Every edit that the scores look at, made a batch at a time."""
    through = "common code" in model.abilities
    batches = []
    with torch.inference_mode():
        rows = zip(torch.split(pairs.content, BATCH), torch.split(pairs.guide, BATCH), strict=True)
        for content, guide in rows:
            own, of_guide = model.encode(content), model.encode(guide)
            moved = model.compose(moved_to(own, of_guide, pairs.guide_part), content, own)
            rebuilt = model.compose(own, content, own).image if through else content
            bare = model.compose(own.without("a", "b"), content, own).image
            batches.append((moved.image, rebuilt, bare, moved.mask, own, of_guide))
    *pictures, masks, contents, guides = zip(*batches, strict=True)
    output, rebuilt, bare = map(torch.cat, pictures)
    mask = None if masks[0] is None else torch.cat(masks)
    return Edits(output, rebuilt, bare, mask, stack(contents), stack(guides))


def moved_to(content: Codes, guide: Codes, guide_part: Part) -> Codes:
    """The transfer of one part, the content's own dropped."""
    if guide_part == "a":
        return transfer(content, guide_a=guide)
    return transfer(content, guide_b=guide)
