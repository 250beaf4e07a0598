"""What a model of two domains of digits is worth for adaptation: labels of one, none of the other.

The seed of this project (ICCV 2019, "Domain Adaptation") translates pictures of the source with
guides of the target, and asks a classifier of the target whether the digit is still the same. As
adaptation is compared elsewhere, a classifier that learned labels of the source alone is asked of
the target: from its translated pictures, or from common codes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dida_cli import images, render
from dida_cli.codes import Model
from dida_cli.config import OTHER, PARTS, Part
from dida_cli.data import folders, sources, table
from dida_cli.data.digits import DIGIT, DOMAIN
from dida_cli.data.folders import Progress, unheard
from dida_cli.evaluate import attributes, pairs, probes
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import Pairs
from dida_cli.evaluate.tables import Table, markdown, percent
from dida_cli.images import Picture

DIGITS = {DIGIT: [str(digit) for digit in range(10)]}
SHOWN, SEED = 10, 20_261_124  # pictures of each direction on the sheet, and which
FIGURES = {
    "source only": "a classifier that learned the source's pictures and labels",
    "common codes": "a linear one that learned the source's common codes and labels",
    "translated": "one that learned the source's pictures, translated to the target, and labels",
    "target": "one that learned the target's pictures and labels",
    "label kept": "translated test pictures of the source, whose digit the last one reads the same",
}
# Of MNIST to SVHN and back, what ICCV 2019 gives as its label kept.
PUBLISHED = "MNIST to SVHN 61.0 %, SVHN to MNIST 41.0 %"


class Labelled(NamedTuple):
    """Pictures uint8 (N, 3, s, s) and their digits (N,)."""

    pictures: Tensor
    digits: Tensor


class Digits(NamedTuple):
    """A domain: what is learned from, and what is asked of."""

    train: Labelled
    test: Labelled


def read(root: Path, domain: str, side: int) -> Digits:
    """The pictures of a domain of a set of `data.digits`, or of one like it.

    Raises DidaError where there are none.
    """
    labels = table.read(root)
    digit_of = dict(zip((root / n for n in labels.files), labels.column(DIGIT), strict=True))
    split = sources.split(root, {"a": (f"{DOMAIN}={domain}", f"not {DOMAIN}={domain}")})
    both = []
    for sets in (split.train, split.test):
        files = sets.having("a")
        pictures = folders.load(files, side)
        truth = [int(digit_of[Path(str(file))]) for file in files]
        both.append(Labelled(pictures, torch.tensor(truth)))
    return Digits(*both)


def classifier(learned: Labelled, seed: int, on_progress: Progress = unheard) -> FactorClassifier:
    """A classifier of the digits of these pictures."""
    made = FactorClassifier(DIGITS)
    truth = {DIGIT: learned.digits}
    return attributes.fit(made, learned.pictures, truth, seed, on_progress)


def right(judge: FactorClassifier, asked: Labelled) -> float:
    """The share of digits it tells right."""
    return attributes.right(judge, asked.pictures, {DIGIT: asked.digits})[DIGIT]


def translated(model: Model, of: Tensor, guides: Tensor, part: Part, seed: int) -> Tensor:
    """Pictures with the part of guides, drawn at random, in the place of their own; all uint8."""
    rows = torch.from_numpy(np.random.default_rng(seed).integers(len(guides), size=len(of)))
    split = (torch.split(pictures, pairs.BATCH) for pictures in (of, guides[rows]))
    made = []
    with torch.inference_mode():
        for some, chosen in zip(*split, strict=True):
            content, guide = images.to_unit(some), images.to_unit(chosen)
            own = model.encode(content)
            wanted = pairs.moved_to(own, model.encode(guide), part)
            made.append(images.to_levels(model.compose(wanted, content, own).image))
    return torch.cat(made)


def judge(
    model: Model,
    by_part: Mapping[Part, Digits],
    own: Mapping[Part, FactorClassifier],
    seed: int,
    on_progress: Progress = unheard,
) -> dict[str, dict[str, float]]:
    """The figures of both directions, shares, by `source to target`.

    own: a `classifier` of each domain's training pictures, which serves for every model.
    """
    found = {}
    for target in PARTS:
        source = OTHER[target]
        (learned, asked), (guides, wanted) = by_part[source], by_part[target]
        moved = [
            translated(model, of.pictures, guides.pictures, target, seed) for of in (learned, asked)
        ]
        adapted = classifier(Labelled(moved[0], learned.digits), seed, on_progress)
        row = {
            "source only": right(own[source], wanted),
            "translated": right(adapted, wanted),
            "target": right(own[target], wanted),
            "label kept": right(own[target], Labelled(moved[1], asked.digits)),
        }
        if "common code" in model.abilities:
            row["common codes"] = _of_codes(model, learned, wanted)
        names = model.config.domains
        found[f"{names.of(source)} to {names.of(target)}"] = row
    return found


def _of_codes(model: Model, learned: Labelled, asked: Labelled) -> float:
    """How many digits of pictures a linear probe reads that learned others' common codes."""
    codes = []
    for labelled in (learned, asked):
        parts = torch.split(labelled.pictures, pairs.BATCH)
        with torch.inference_mode():
            codes.append(torch.cat([model.encode(images.to_unit(p)).common for p in parts]))
    return probes.carried(codes[0], learned.digits, codes[1], asked.digits)


def page(rows: Sequence[tuple[str, Mapping[str, float]]], trained: str) -> str:
    """The page: what was done, what came of it, what was published.

    rows: method and direction, and figures. trained: how, as `4,000 steps of 32 pictures`.
    """
    cells = [[of, *(percent(f[n]) if n in f else "-" for n in FIGURES)] for of, f in rows]
    head = ["method, source to target", *FIGURES]
    return PAGE.format(
        trained=trained,
        table=markdown([Table("What is told right", head, cells)]),
        definitions="\n".join(f"- *{name}*: {words}." for name, words in FIGURES.items()),
        published=PUBLISHED,
        shown=SHOWN,
        seed=SEED,
    )


PAGE = """# Digits, without labels of the target

Made by `dida benchmark digits`, untouched. Models learned from pictures of two domains without any
label, {trained}. The figures are shares of the target's test pictures, but the last.

{table}
{definitions}

Published as label kept (ICCV 2019): {published}. Those are street numbers as photographed, which
are not drawn here (SVHN): they cannot be compared with what stands here.

The first {shown} test pictures of seed {seed} of each direction, unchosen: the source's, the
guides, the translated.

![source, guides, and what became of them](digits.png)
"""


def sheet(model: Model, by_part: Mapping[Part, Digits]) -> Picture:
    """Some test pictures, their guides, and what became of them, for each direction."""
    rows: list[list[Any]] = []
    names = model.config.domains
    for target in PARTS:
        own, of_target = by_part[OTHER[target]].test.pictures, by_part[target].test.pictures
        random = np.random.default_rng(SEED)
        shown, guides = (p[random.permutation(len(p))[:SHOWN]] for p in (own, of_target))
        asked = Pairs(target, images.to_unit(shown), images.to_unit(guides))
        made = pairs.edit(model, asked).output
        rows += [images.to_pictures(p) for p in (asked.content, asked.guide, made)]
    left = [w for t in PARTS for w in (names.of(OTHER[t]), "guide", f"as {names.of(t)}")]
    return render.sheet(rows, left=left)
