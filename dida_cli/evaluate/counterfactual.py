"""Edits held against their true answer and known factors, which only drawn faces have.

The true transfer of a pair is the content drawn with the guide's mouth and glasses.
"""

import math

import torch
from torch import Tensor

from dida_cli.config import OTHER, Part
from dida_cli.data import avatars
from dida_cli.evaluate.attributes import FACTORS, FactorClassifier, labels, probability
from dida_cli.evaluate.pairs import BATCH, Edits, Pairs
from dida_cli.evaluate.realism import (
    each_within,
    mean_within,
    perceptual_map,
    psnr_within,
    squared_error,
    ssim_map,
)
from dida_cli.evaluate.segmentation import touched_region, true_region

DEFINITIONS = {
    "pairs": "contents of one domain, each with a guide of the other; no training saw them",
    "target": "share of outputs that the classifier, asked only 'domain A or B?', gives to the "
    "guide's domain (Table 1 of the paper), with a Wilson 95 % interval (target_low, target_high); "
    "_of_content: unedited contents, the floor; _of_truth: true answers, the ceiling",
    "both_parts": "share in which the classifier finds the guide's part and not the content's",
    "removed": "share in which the classifier no longer finds the content's part after removing "
    "both parts, with a Wilson 95 % interval; _of_content: before",
    "guide_type": "share in which the very kind of the guide's part is recognised: which mouth, "
    "which glasses; _of_truth: in the true answers; _chance: a guess among the kinds",
    "psnr": "mean over pairs of 10 log10(1 / mean squared error) to the true answer, pictures in "
    "[0, 1], in dB; _inside: over the pixels that should change or did, and all within two of "
    "them; _outside: over those that should not change; _of_content: copying the content, over "
    "the same pixels; _of_rebuilt: the model's own reconstruction held against the content",
    "ssim": "structural similarity to the true answer (Wang et al. 2004), as psnr",
    "perceptual": "distance to the true answer between the features of the bundled classifier, as "
    "LPIPS but of our own network; 0 = the same",
    "preserved": "share of outputs in which a factor that both domains share is named right, "
    "held against _real: the same on the unedited contents, and _of_truth: on the true answers, "
    "where dark glasses hide eyes too",
}


def classification(judge: FactorClassifier, pairs: Pairs, edits: Edits) -> dict[str, float]:
    """Table 1: what the judge says of outputs, of contents (floor), of true answers (ceiling)."""
    output = _verdict(judge, edits.output, pairs)
    return {
        "pairs": len(edits.output),
        **with_interval("target", output["target"], len(edits.output)),
        "target_of_content": _verdict(judge, pairs.content, pairs)["target"],
        "target_of_truth": _verdict(judge, pairs.facts.truth, pairs)["target"],
        "both_parts": output["both_parts"],
    }


def by_parts(judge: FactorClassifier, pairs: Pairs, edits: Edits) -> dict[str, float]:
    """The same by a judge of the parts, of any pictures, which have no true answer.

    A judge that knows part a alone takes what lacks it for B.
    """
    part = pairs.guide_part
    head, wanted = (part, 0) if part in judge.heads else (OTHER[part], 1)

    def share(pictures: Tensor, value: int) -> float:
        return (classify(judge, pictures)[head].argmax(1) == value).float().mean().item()

    return {
        "pairs": len(edits.output),
        **with_interval("target", share(edits.output, wanted), len(edits.output)),
        "target_of_content": share(pairs.content, wanted),
        "classifier_accuracy": (share(pairs.guide, wanted) + share(pairs.content, 1 - wanted)) / 2,
    }


def removal(judge: FactorClassifier, pairs: Pairs, edits: Edits) -> dict[str, float] | None:
    """Table 6: whether the content's own part is gone from the bare picture; None without one."""
    if pairs.facts.task.of(OTHER[pairs.guide_part]) is None:
        return None
    after, before = (
        _verdict(judge, shown, pairs)["content_gone"] for shown in (edits.bare, pairs.content)
    )
    return with_interval("removed", after, len(edits.bare)) | {"removed_of_content": before}


def guide_type(judge: FactorClassifier, pairs: Pairs, edits: Edits) -> dict[str, float] | None:
    """Whether the output carries this guide's kind of part; None where guides have none."""
    known = pairs.facts
    if not (attribute := known.task.of(pairs.guide_part)):
        return None
    factors, kinds, _ = avatars.ATTRIBUTES[attribute]
    factor = factors[0]
    wanted = labels(known.guides)[factor]
    return {
        "guide_type": _share(classify(judge, edits.output)[factor], wanted),
        "guide_type_of_truth": _share(classify(judge, known.truth)[factor], wanted),
        "guide_type_chance": 1 / len(kinds),
    }


def truth(judge: FactorClassifier, pairs: Pairs, edits: Edits) -> dict[str, float]:
    """How far the outputs are from the true answers, beside copying and the model's own blur.

    Each figure over whole pictures, and inside and outside of what should change or did.
    """
    answer = pairs.facts.truth
    places = {"_inside": inside(pairs, edits), "_outside": ~true_region(pairs.content, answer)}
    compared = {
        "": (edits.output, answer),
        "_of_content": (pairs.content, answer),
        "_of_rebuilt": (edits.rebuilt, pairs.content),
    }
    figures = {}
    for suffix, (x, y) in compared.items():
        maps = {"ssim": ssim_map(x, y), "perceptual": perceptual_map(judge, x, y)}
        figures[f"psnr{suffix}"] = psnr(x, y)
        figures |= {f"{name}{suffix}": values.mean().item() for name, values in maps.items()}
        for place, where in ({} if suffix == "_of_rebuilt" else places).items():
            figures[f"psnr{place}{suffix}"] = psnr_within(x, y, where)
            for name, values in maps.items():
                figures[f"{name}{place}{suffix}"] = mean_within(values, where)
    return dict(sorted(figures.items(), key=lambda item: item[0].split("_")[0]))


def inside(pairs: Pairs, edits: Edits) -> Tensor:
    """Where one looks: what should change or did, a little widened: bool (N, 1, side, side)."""
    return touched_region(pairs.content, pairs.facts.truth, edits.output)


def errors_inside(pairs: Pairs, edits: Edits) -> Tensor:
    """Mean squared error (N,) of each edit there, pictures in [0, 1]; NaN where that is nowhere."""
    return each_within(squared_error(edits.output, pairs.facts.truth), inside(pairs, edits))


def preservation(
    judge: FactorClassifier, pairs: Pairs, edits: Edits
) -> dict[str, dict[str, float]]:
    """For each factor that both domains share: named right after the edit, before, in the truth."""
    known = pairs.facts
    changed = {name for one in known.task.attributes for name in avatars.ATTRIBUTES[one].factors}
    wanted = labels(known.contents)
    pictures = {"": edits.output, "_real": pairs.content, "_of_truth": known.truth}
    classified = {suffix: classify(judge, shown) for suffix, shown in pictures.items()}
    return {
        name: {
            f"preserved{suffix}": _share(logits[name], wanted[name])
            for suffix, logits in classified.items()
        }
        for name in FACTORS
        if name not in changed
    }


def classifier_accuracy(judge: FactorClassifier, pairs: Pairs) -> dict[str, float]:
    """Share of real (drawn) pictures whose factor is named right, by factor."""
    known = pairs.facts
    logits = classify(judge, torch.cat([pairs.content, pairs.guide, known.truth]))
    wanted = labels([*known.contents, *known.guides, *known.truths])
    return {name: _share(logits[name], wanted[name]) for name in FACTORS}


def classify(judge: FactorClassifier, pictures: Tensor) -> dict[str, Tensor]:
    """Logits of any number of pictures, a batch at a time."""
    with torch.inference_mode():
        parts = [judge(rows) for rows in torch.split(pictures, BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def psnr(pictures: Tensor, answer: Tensor) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB; both (N, 3, h, w) in [-1, 1]."""
    error = ((pictures - answer) / 2).square().flatten(1).mean(1)
    return float((-10 * error.clamp_min(1e-10).log10()).mean())


def with_interval(name: str, share: float, count: int) -> dict[str, float]:
    """A share of `count` trials under its name, and its Wilson 95 % interval: _low, _high."""
    z = 1.96
    shrink = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / shrink
    variance = share * (1 - share) / count + z * z / (4 * count * count)
    spread = z / shrink * math.sqrt(variance)
    low, high = max(0.0, middle - spread), min(1.0, middle + spread)
    return {name: share, f"{name}_low": low, f"{name}_high": high}


def _verdict(judge: FactorClassifier, pictures: Tensor, pairs: Pairs) -> dict[str, float]:
    """Shares of pictures that should have the guide's part and not the content's."""
    logits = classify(judge, pictures)

    def known(part: Part) -> Tensor:  # (N, 2): log p present, absent; 0 says neither yes nor no
        attribute = pairs.facts.task.of(part)
        return probability(logits, attribute) if attribute else torch.zeros(len(pictures), 2)

    guide, content = known(pairs.guide_part), known(OTHER[pairs.guide_part])
    in_target = guide[:, 0] + content[:, 1] > guide[:, 1] + content[:, 0]
    gone = content[:, 1] >= content[:, 0]
    return {
        "target": in_target.float().mean().item(),
        "both_parts": ((guide[:, 0] >= guide[:, 1]) & gone).float().mean().item(),
        "content_gone": gone.float().mean().item(),
    }


def _share(logits: Tensor, wanted: Tensor) -> float:
    return (logits.argmax(1) == wanted).float().mean().item()
