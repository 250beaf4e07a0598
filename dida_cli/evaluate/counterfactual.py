"""Edits held against their true answer, which only drawn faces have.

For a pair (content, guide) of avatars the true transfer is the content drawn with the guide's
mouth and glasses. `DEFINITIONS` says what each figure means; all are told per direction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from dida_cli.codes import Model, transfer
from dida_cli.config import Part
from dida_cli.data import avatars
from dida_cli.evaluate.attributes import FACTORS, FactorClassifier, labels, probability, to_batch

DEFINITIONS = {
    "pairs": "contents of one domain, each with a guide of the other; no training saw them",
    "target": "share of outputs that the classifier, asked only 'domain A or B?', gives to the "
    "guide's domain, with a Wilson 95 % interval (target_low, target_high); _of_content: unedited "
    "contents, the floor; _of_truth: true answers, the ceiling",
    "both_parts": "share in which the classifier finds the guide's part and not the content's",
    "removed": "share in which the classifier no longer finds the content's part after removing "
    "both parts; _of_content: before",
    "guide_type": "share in which the very kind of the guide's part is recognised: which mouth, "
    "which glasses; _chance: a guess among the kinds",
    "psnr": "mean over pairs of 10 log10(1 / mean squared error) to the true answer, pictures in "
    "[0, 1], in dB; _of_content: copying the content; _of_reconstruction: the model's own "
    "reconstruction held against the content",
}
ATTRIBUTE: dict[Part, str] = {"a": "Smiling", "b": "Eyeglasses"}
TYPE: dict[Part, tuple[str, int]] = {"a": ("mouth", 4), "b": ("glasses", 8)}  # factor, kinds
BATCH = 50


@dataclass(frozen=True)
class Pairs:
    """Contents of one domain, guides of the other, and the true answers."""

    guide_part: Part
    content: Tensor  # (N, 3, side, side) in [-1, 1]
    guide: Tensor
    truth: Tensor
    content_faces: list[avatars.Factors]
    guide_faces: list[avatars.Factors]
    truth_faces: list[avatars.Factors]


def draw_pairs(
    guide_part: Part,
    count: int,
    side: int,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """`count` pairs whose guides have part a (or b) and whose contents have the other one."""
    other: Part = "b" if guide_part == "a" else "a"
    present, absent = ATTRIBUTE[guide_part], ATTRIBUTE[other]
    guides = list(islice(avatars.faces_with(seed, present, absent), count))
    contents = list(islice(avatars.faces_with(seed, absent, present), count))
    truths = [c.with_parts_of(g) for c, g in zip(contents, guides, strict=True)]
    done = 0

    def draw(faces: list[avatars.Factors]) -> Tensor:
        nonlocal done
        pictures = []
        for face in faces:
            pictures.append(avatars.draw(face, side))
            done += 1
            on_progress(done, 3 * count)
        return to_batch(pictures, side)

    return Pairs(guide_part, draw(contents), draw(guides), draw(truths), contents, guides, truths)


def score(model: Model, classifier: FactorClassifier, pairs: Pairs) -> dict[str, float]:
    """Every figure of one direction; shares are 0..1, PSNR in dB."""
    edited: list[Tensor] = []
    rebuilt: list[Tensor] = []
    bare: list[Tensor] = []
    for rows in range(0, len(pairs.content), BATCH):
        content = pairs.content[rows : rows + BATCH]
        codes = model.encode(content)
        guide = model.encode(pairs.guide[rows : rows + BATCH])
        to_a = pairs.guide_part == "a"
        edit = transfer(codes, guide_a=guide) if to_a else transfer(codes, guide_b=guide)
        edited.append(model.compose(edit, content).image)
        own = codes.without(pairs.guide_part)
        rebuilt.append(model.compose(own, content).image)
        bare.append(model.compose(codes.without("a", "b"), content).image)
    output = torch.cat(edited)
    on_output = judge(classifier, output, pairs)
    on_content = judge(classifier, pairs.content, pairs)
    on_truth = judge(classifier, pairs.truth, pairs)
    low, high = wilson(on_output["target"], len(output))
    return {
        "pairs": len(output),
        "target": on_output["target"],
        "target_low": low,
        "target_high": high,
        "target_of_content": on_content["target"],
        "target_of_truth": on_truth["target"],
        "both_parts": on_output["both_parts"],
        "removed": judge(classifier, torch.cat(bare), pairs)["content_gone"],
        "removed_of_content": on_content["content_gone"],
        "guide_type": on_output["guide_type"],
        "guide_type_of_truth": on_truth["guide_type"],
        "guide_type_chance": 1 / TYPE[pairs.guide_part][1],
        "psnr": psnr(output, pairs.truth),
        "psnr_of_content": psnr(pairs.content, pairs.truth),
        "psnr_of_reconstruction": psnr(torch.cat(rebuilt), pairs.content),
    }


def judge(classifier: FactorClassifier, pictures: Tensor, pairs: Pairs) -> dict[str, float]:
    """What the classifier says of pictures that should be the pairs' true answers."""
    guide, content = ATTRIBUTE[pairs.guide_part], ATTRIBUTE["b" if pairs.guide_part == "a" else "a"]
    logits = classify(classifier, pictures)
    has_guide, has_content = probability(logits, guide), probability(logits, content)
    in_target = has_guide[:, 0] + has_content[:, 1] > has_guide[:, 1] + has_content[:, 0]
    both = (has_guide[:, 0] > has_guide[:, 1]) & (has_content[:, 1] > has_content[:, 0])
    factor, _ = TYPE[pairs.guide_part]
    kind = logits[factor].argmax(1) == labels(pairs.guide_faces)[factor]
    return {
        "target": in_target.float().mean().item(),
        "both_parts": both.float().mean().item(),
        "guide_type": kind.float().mean().item(),
        "content_gone": (has_content[:, 1] > has_content[:, 0]).float().mean().item(),
    }


def classifier_accuracy(classifier: FactorClassifier, pairs: Pairs) -> dict[str, float]:
    """Share of real (drawn) pictures whose factor is named right, by factor."""
    logits = classify(classifier, torch.cat([pairs.content, pairs.guide, pairs.truth]))
    truth = labels([*pairs.content_faces, *pairs.guide_faces, *pairs.truth_faces])
    return {name: (logits[name].argmax(1) == truth[name]).float().mean().item() for name in FACTORS}


def classify(classifier: FactorClassifier, pictures: Tensor) -> dict[str, Tensor]:
    """Logits of any number of pictures, a batch at a time."""
    with torch.inference_mode():
        parts = [classifier(rows) for rows in torch.split(pictures, BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in FACTORS}


def psnr(pictures: Tensor, truth: Tensor) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB; both (N, 3, h, w) in [-1, 1]."""
    error = ((pictures - truth) / 2).square().flatten(1).mean(1)
    return float((-10 * error.clamp_min(1e-10).log10()).mean())


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval (95 %) of a share of `count` trials."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = (
        z
        / (1 + z * z / count)
        * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    )
    return max(0.0, middle - spread), min(1.0, middle + spread)
