"""Every score of a model in one dictionary. `tables` says it in words."""

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from dida_cli import __version__
from dida_cli.codes import Codes, Model, stack
from dida_cli.config import OTHER, PARTS, Domains, Part
from dida_cli.data.folders import Progress, unheard
from dida_cli.errors import DidaError
from dida_cli.evaluate import (
    counterfactual,
    guidance,
    pairs,
    probes,
    realism,
    segmentation,
    told_apart,
)
from dida_cli.evaluate.attributes import FactorClassifier, labels
from dida_cli.evaluate.pairs import Edits, Pairs, Task
from dida_cli.evaluate.realism import Network

LEAST = 4  # test pictures of each domain
DIVERSITY = 8  # contents, and guides for each
FEW = 20  # pairs, at least, by which masks get their threshold, and as many foreign ones
DILATION = 3  # pixels at a side of 128 that a true region is widened by
VALIDATION_SEED = 1  # added to the seed for the validation pictures of segmentation

Judged = Mapping[Part, tuple[Pairs, Edits]]  # what was judged, by the part of the guides


@dataclass(frozen=True)
class Settings:
    """How much is judged: pairs each way, and shufflings of the codes."""

    pairs: int = 500
    seed: int = 0
    permutations: int = 200


def judge_avatars(
    model: Model,
    judge: FactorClassifier,
    settings: Settings,
    task: Task | None = None,
    *,
    network: Network | None = None,
    on_progress: Progress = unheard,
) -> tuple[dict[str, Any], Judged]:
    """All scores of a model on fresh avatars, and what they were read from.

    task: what tells their domains apart, if not what those of the model are called. Raises
    DidaError when avatars know nothing of these.
    """
    config, seed = model.config, settings.seed
    task = task or pairs.task_of(config)
    drawn = pairs.draw(task, settings.pairs, config.side, seed=seed, on_progress=on_progress)
    judged = {part: (of_part, pairs.edit(model, of_part)) for part, of_part in drawn.items()}
    factors = labels([face for part in PARTS for face in drawn[part].facts.guides])
    result = _common(model, judge, settings, judged, network, factors)
    masks = _segmentation(model, judged, settings)
    for part, (of_part, edits) in judged.items():
        row = result["directions"][direction(config.domains, part)]
        row |= {
            "classification": counterfactual.classification(judge, of_part, edits),
            "guide_type": counterfactual.guide_type(judge, of_part, edits),
            "truth": counterfactual.truth(judge, of_part, edits),
            "preservation": counterfactual.preservation(judge, of_part, edits),
            "removal": counterfactual.removal(judge, of_part, edits),
            "classifier_accuracy": counterfactual.classifier_accuracy(judge, of_part),
            "segmentation": masks.get(part),
        }
    result["definitions"] |= {
        "on drawn faces": counterfactual.DEFINITIONS,
        "segmentation": segmentation.DEFINITIONS,
    }
    return result, judged


def judge_pictures(
    model: Model,
    judge: FactorClassifier,
    a: Tensor,
    b: Tensor,
    settings: Settings,
    *,
    network: Network | None = None,
) -> tuple[dict[str, Any], Judged]:
    """All scores that need no known factors, on test pictures (N, 3, side, side) of both domains.

    `judge` is a classifier of part a, trained on other pictures. Raises DidaError when there are
    fewer than four of a domain.
    """
    if (count := min(len(a), len(b))) < LEAST:
        raise DidaError(f"scores need {LEAST} test pictures of each domain, not {count}; add some")
    drawn = pairs.of_pictures({"a": (a, b)}, settings.pairs, seed=settings.seed)
    judged = {part: (of_part, pairs.edit(model, of_part)) for part, of_part in drawn.items()}
    result = _common(model, judge, settings, judged, network, {})
    for part, (of_part, edits) in judged.items():
        row = result["directions"][direction(model.config.domains, part)]
        row["classification"] = counterfactual.by_parts(judge, of_part, edits)
    told = {name: counterfactual.DEFINITIONS[name] for name in ("pairs", "target")}
    result["definitions"]["classification"] = told
    return result, judged


def direction(domains: Domains, guide_part: Part) -> str:
    """`glasses to smile`: whose content, whose guide; of the only part, `put on`, `taken off`."""
    if not domains.b:
        return "put on" if guide_part == "a" else "taken off"
    return f"{domains.of(OTHER[guide_part])} to {domains.of(guide_part)}"


def _common(
    model: Model,
    judge: FactorClassifier,
    settings: Settings,
    judged: Judged,
    network: Network | None,
    factors: Mapping[str, Tensor],
) -> dict[str, Any]:
    """The scores that any pair of domains has. `factors`: what is known of A's and B's guides."""
    see = network or realism.bundled(judge)
    directions = {}
    data = sha256()
    for part, (drawn, edits) in judged.items():
        data.update(drawn.content.numpy().tobytes() + drawn.guide.numpy().tobytes())
        real = drawn.known.truth if drawn.known else drawn.guide
        directions[direction(model.config.domains, part)] = {
            "told_apart": told_apart.score(edits.output, real, seed=settings.seed),
            "retrieval": guidance.retrieval(judge, drawn, edits),
            "realism": _realism(model, see, drawn, edits, settings.seed),
        }
    return {
        **head(model, settings, data.hexdigest()),
        "features": "inception" if network else "bundled classifier",
        "directions": directions,
        "codes": _codes(judged, factors, settings),
        "definitions": {
            "told apart": told_apart.DEFINITIONS,
            "retrieval": guidance.DEFINITIONS,
            "realism": realism.DEFINITIONS,
            "codes": probes.DEFINITIONS,
        },
    }


def head(model: Model, settings: Settings, data: str) -> dict[str, Any]:
    """What any result begins with: by which versions, and of what. `data`: a sha256 of it."""
    return {
        "dida": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seed": settings.seed,
        "pairs": settings.pairs,
        "data_sha256": data,
        "domains": model.config.domains.to_json(),
    }


def _realism(model: Model, see: Network, drawn: Pairs, edits: Edits, seed: int) -> dict[str, float]:
    """FID and KID of outputs against real guides; likeness to content and to its reconstruction."""
    real, output, content, rebuilt = (
        realism.features_of(see, pictures)
        for pictures in (drawn.guide, edits.output, drawn.content, edits.rebuilt)
    )
    edited = [_by_many_guides(model, drawn, edits, i) for i in range(min(DIVERSITY, len(output)))]
    many = torch.stack([realism.features_of(see, pictures) for pictures in edited])
    of_content = realism.score(real, content, seed=seed)
    return realism.score(real, output, seed=seed) | {
        "fid_of_content": of_content["fid"],
        "kid_of_content": of_content["kid"],
        "similarity": realism.similarity(content, output),
        "similarity_to_rebuilt": realism.similarity(rebuilt, output),
        "similarity_of_strangers": realism.similarity(content, output.roll(1, 0)),
        "diversity": realism.diversity(many),
    }


def _by_many_guides(model: Model, drawn: Pairs, edits: Edits, row: int) -> Tensor:
    """One content edited by the first guides, (guides, 3, side, side)."""
    guides = edits.guide.take(slice(0, DIVERSITY))
    count = len(guides.common)
    content = Codes(*(code.expand(count, -1, -1, -1) for code in edits.content.take(row)))
    onto = drawn.content[row : row + 1].expand(count, -1, -1, -1)
    with torch.inference_mode():
        moved = pairs.moved_to(content, guides, drawn.guide_part)
        return model.compose(moved, onto, content).image


def _codes(judged: Judged, factors: Mapping[str, Tensor], settings: Settings) -> dict[str, Any]:
    """What the codes hold: the domain in the common one, what leaks, whether they are independent.

    What a model has no code for is left out.
    """
    seed, permutations = settings.seed, settings.permutations
    of_a, of_b = (judged[part][1].guide for part in PARTS)
    independence = probes.independence(of_a, of_b, permutations=permutations, seed=seed)
    domain = torch.tensor([0] * len(of_a.common) + [1] * len(of_b.common))
    table = probes.table(stack([of_a, of_b]), {"domain": domain, **factors}, seed=seed)
    found: dict[str, Any] = {
        # JSON has no infinity: a code that is nothing in its own domain too leaks null
        "leak": {p: x if math.isfinite(x) else None for p, x in probes.leak(of_a, of_b).items()},
        "independence": {part: row._asdict() for part, row in independence.items()},
    }
    if common := table["domain"].get("common"):
        pixels = torch.cat([judged[part][0].guide for part in PARTS])
        found["domain"] = {
            "common": common["accuracy"],
            "pixels": probes.probe(pixels, domain, seed=seed).accuracy,
            "chance": common["chance"],
        }
    return found | {"probes": table}


def _segmentation(model: Model, judged: Judged, settings: Settings) -> dict[Part, dict[str, float]]:
    """IoU of the transfer's mask with the true region; nothing for a model that has no mask."""
    if "masks" not in model.abilities:
        return {}
    side, seed, few = model.config.side, settings.seed, max(FEW, settings.pairs // 10)
    task = next(iter(judged.values()))[0].facts.task
    validation = pairs.draw(task, few, side, seed=seed + VALIDATION_SEED)
    foreign = pairs.draw(task, few, side, seed=seed, foreign=True)
    scores = {}
    for part, (drawn, edits) in judged.items():
        tuned = _masks(validation[part], pairs.edit(model, validation[part]))
        chosen = segmentation.choose_threshold(*tuned)
        abroad = foreign[part], pairs.edit(model, foreign[part])
        mask, region = _masks(drawn, edits)
        scores[part] = segmentation.score(mask, region, chosen) | {
            "changed_unmasked": segmentation.changed_unmasked(drawn.content, edits.output, mask),
            "changed_outside": _changed_outside(drawn, edits),
            "changed_outside_foreign": _changed_outside(*abroad),
            "iou_foreign": segmentation.mean_iou(*_masks(*abroad), chosen).value,
        }
        if task.is_open:
            answers = pairs.nearest_answers(drawn, edits.output)
            region = segmentation.true_region(drawn.content, answers)
            scores[part] |= {
                "iou_nearest": segmentation.mean_iou(mask, region, chosen).value,
                "psnr_nearest": counterfactual.psnr(edits.output, answers),
            }
    return scores


def _masks(drawn: Pairs, edits: Edits) -> tuple[Tensor, Tensor]:
    """Where a model paints and where it should: (N, 1, side, side) in [0, 1], and bool."""
    assert edits.mask is not None
    return edits.mask, segmentation.true_region(drawn.content, drawn.facts.truth)


def _changed_outside(drawn: Pairs, edits: Edits) -> float:
    _, region = _masks(drawn, edits)
    grown = round(DILATION * region.shape[-1] / 128)
    return segmentation.changed_outside(drawn.content, edits.output, region, grown)
