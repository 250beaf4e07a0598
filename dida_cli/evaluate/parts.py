"""Each part judged by itself, on pictures that have it and pictures that lack it, no two of a pair.

So models are judged that learned each part from its own pictures, as those of photos. What the true
edit of a photo is nobody knows: a judge, trained on other people, says whether the part is there,
and a small network whether edits can be told from real pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from dida_cli import images
from dida_cli.codes import Model, stack
from dida_cli.config import OTHER, Part
from dida_cli.data import folders
from dida_cli.data.folders import Sets
from dida_cli.errors import DidaError
from dida_cli.evaluate import counterfactual, guidance, told_apart
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import BATCH, Edits, Pairs
from dida_cli.evaluate.report import LEAST, Settings, head
from dida_cli.evaluate.segmentation import changed_unmasked

MOST = 500  # pictures of each kind
CANDIDATES = 32  # guides to choose from
LEVELS = 127.5  # of 255, in a picture's range of 2

DEFINITIONS = {
    "target": "share of edits in which the judge sees the part after it was put on, and does not "
    "after it was taken off, with a Wilson 95 % interval; _of_content: before; classifier_accuracy:"
    " of the judge, on these real pictures",
    "left_alone": "mean change, in levels of 255, of pictures that lack a part which is taken off",
    "other_part": "share of edits of whose other part the judge says what it said before",
    "painted": "mean share of a picture that is painted on; all else stays as it was",
    "changed_unmasked": "the largest change, in levels of 255, where the mask is 0",
}

# Of a part, pictures with it and without it, (N, 3, side, side) in [-1, 1]; and of each of them
# the groups that it is in.
Side = tuple[Tensor, Tensor]
Groups = Mapping[Part, tuple[list[list[str]], list[list[str]]]]


def judge_sets(
    model: Model,
    judge: FactorClassifier,
    test: Sets,
    seed: int,
    known: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """All scores of a model on the files of test sets.

    known: ways to group them, each the group of every file, as `sources.groups` names it.
    """
    config = model.config
    sides: dict[Part, Side] = {}
    groups: dict[Part, tuple[list[list[str]], list[list[str]]]] = {}
    for part in config.parts:
        read = []
        for rows in test.rows[part]:
            files = [test.files[row] for row in rows[:MOST]]
            found = folders.read(files, config.side, config.fit)
            groups_of = [[of[row] for of in known] for row in rows[found.facts["file"]]]
            read.append((torch.from_numpy(images.to_unit(found.rows)), groups_of))
        (has, of_has), (lacks, of_lacks) = read
        sides[part], groups[part] = (has, lacks), (of_has, of_lacks)
    return judge_parts(model, judge, sides, Settings(MOST, seed), groups if known else None)


def judge_parts(
    model: Model,
    judge: FactorClassifier,
    sides: Mapping[Part, Side],
    settings: Settings,
    groups: Groups | None = None,
) -> dict[str, Any]:
    """All scores of a model on test pictures of each part, as `report.judge_avatars` gives them.

    Raises DidaError when there are fewer than four of one kind.
    """
    directions, data, most = {}, sha256(), 0
    for part, pictures in sides.items():
        if (count := min(map(len, pictures))) < LEAST:
            raise DidaError(f"scores need {LEAST} test pictures with and without, not {count}")
        generator = torch.Generator().manual_seed(settings.seed)
        orders = [torch.randperm(len(p), generator=generator)[: settings.pairs] for p in pictures]
        has, lacks = (p[order] for p, order in zip(pictures, orders, strict=True))
        of_group = ([], []) if groups is None else groups[part]
        known = [[of[i] for i in o.tolist()] for of, o in zip(of_group, orders, strict=True) if of]
        name = model.config.domains.of(part)
        guides = has[torch.arange(len(lacks)) % len(has)]
        put_on = Pairs(part, content=lacks, guide=guides)
        taken_off = Pairs(part, content=has, guide=lacks[torch.arange(len(has)) % len(lacks)])
        for way, pairs, is_on in (("put on", put_on, True), ("taken off", taken_off, False)):
            real = has if is_on else lacks  # each once, however often it guides
            row, right = _scores(model, judge, part, pairs, real, is_on, settings.seed)
            if known:
                row["groups"] = _by_group(right, known[1 if is_on else 0])
            directions[f"{name} {way}"] = row
            data.update(pairs.content.numpy().tobytes())
        most = max(most, len(has), len(lacks))
    return {
        **head(model, replace(settings, pairs=most), data.hexdigest()),
        "features": "bundled classifier",
        "directions": directions,
        "codes": {},
        "definitions": {
            "parts": DEFINITIONS,
            "told apart": told_apart.DEFINITIONS,
            "retrieval": guidance.DEFINITIONS,
        },
    }


def edit(model: Model, part: Part, pairs: Pairs, is_on: bool) -> Edits:
    """The guides' part put on the contents, or the contents' own taken off; the other is kept."""
    batches = []
    with torch.inference_mode():
        rows = zip(torch.split(pairs.content, BATCH), torch.split(pairs.guide, BATCH), strict=True)
        for content, guide in rows:
            own, of_guide = model.encode(content), model.encode(guide)
            wanted = own._replace(**{part: of_guide.of(part)}) if is_on else own.without(part)
            made = model.compose(wanted, content, own)
            bare = model.compose(own.without(part), content, own).image if is_on else made.image
            batches.append((made.image, bare, made.mask, own, of_guide))
    images, bares, masks, contents, guides = zip(*batches, strict=True)
    mask = None if masks[0] is None else torch.cat(masks)
    output = torch.cat(images)
    return Edits(output, pairs.content, torch.cat(bares), mask, stack(contents), stack(guides))


def _scores(
    model: Model,
    judge: FactorClassifier,
    part: Part,
    pairs: Pairs,
    real: Tensor,
    is_on: bool,
    seed: int,
) -> tuple[dict[str, Any], Tensor]:
    """What is said of one part, put on or taken off; and of each edit, whether it worked.

    real: pictures as edits should look, no two alike.
    """
    edits = edit(model, part, pairs, is_on)
    wanted = 0 if is_on else 1  # what the judge should say: with, without

    def said(pictures: Tensor, of: Part) -> Tensor:
        return counterfactual.classify(judge, pictures)[of].argmax(1)

    after, before, guides = (said(p, part) for p in (edits.output, pairs.content, pairs.guide))
    right = after == wanted
    accuracy = ((before != wanted).float().mean() + (guides == wanted).float().mean()) / 2
    row: dict[str, Any] = {
        "classification": {
            "pairs": len(right),
            **counterfactual.with_interval("target", right.float().mean().item(), len(right)),
            "target_of_content": (before == wanted).float().mean().item(),
            "classifier_accuracy": accuracy.item(),
        },
        "told_apart": told_apart.score(edits.output, real, seed=seed),
        "beside": {},
    }
    if is_on:
        row["retrieval"] = guidance.retrieval(judge, pairs, edits, CANDIDATES)
        row["beside"]["left_alone"] = LEVELS * (edits.bare - pairs.content).abs().mean().item()
    if edits.mask is not None:
        row["beside"]["painted"] = (edits.mask > 0).float().mean().item()
        row["beside"]["changed_unmasked"] = changed_unmasked(
            pairs.content, edits.output, edits.mask
        )
    if OTHER[part] in judge.heads:
        other = OTHER[part]
        same = said(edits.output, other) == said(pairs.content, other)
        row["beside"]["other_part"] = same.float().mean().item()
    return row, right


def _by_group(right: Tensor, names: list[list[str]]) -> dict[str, dict[str, float]]:
    """The share of edits that worked, of each group that is there."""
    there = sorted({name for of in names for name in of})
    rows = {name: [i for i, of in enumerate(names) if name in of] for name in there}
    return {
        name: {"pairs": len(of), "target": right[of].float().mean().item()}
        for name, of in rows.items()
    }
