"""Every score of a model in one dictionary, and that dictionary as tables and as a page."""

import html
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from dida_cli import __version__
from dida_cli.codes import Codes, MaskModel, Model, stack
from dida_cli.config import PARTS, Domains, Part
from dida_cli.evaluate import counterfactual, guidance, pairs, probes, realism, segmentation
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import Edits, Pairs
from dida_cli.evaluate.realism import Network

DIVERSITY = 8  # contents, and guides for each
DILATION = 3  # pixels at a side of 128 that a true region is widened by
VALIDATION_SEED = 1  # added to the seed for the validation pictures of segmentation


@dataclass(frozen=True)
class Settings:
    """How much is judged. `quick` is for a look, `full` for what is published."""

    pairs: int = 500
    seed: int = 0
    permutations: int = 200


def judge_avatars(
    model: Model,
    judge: FactorClassifier,
    settings: Settings,
    *,
    network: Network | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], dict[Part, tuple[Pairs, Edits]]]:
    """All scores of a model on fresh avatars, and what they were read from.

    Raises DidaError when avatars know nothing of the model's domains.
    """
    config, seed = model.config, settings.seed
    task = pairs.task_of(config)
    drawn = pairs.draw(task, settings.pairs, config.side, seed=seed, on_progress=on_progress)
    judged = {part: (of_part, pairs.edit(model, of_part)) for part, of_part in drawn.items()}
    result = _common(model, judge, settings, judged, network)
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
    faces = {part: of_part.known.guides for part, of_part in drawn.items() if of_part.known}
    result["codes"]["probes"] = _probes(
        judged, counterfactual.domain_labels(faces["a"], faces["b"]), settings
    )
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
) -> tuple[dict[str, Any], dict[Part, tuple[Pairs, Edits]]]:
    """All scores that need no known factors, on test pictures (N, 3, side, side) of both domains.

    `judge` is a classifier of the domains, trained on other pictures.
    """
    drawn = pairs.of_pictures(a, b, settings.pairs, seed=settings.seed)
    judged = {part: (drawn[part], pairs.edit(model, drawn[part])) for part in PARTS}
    result = _common(model, judge, settings, judged, network)
    domain = torch.tensor([0] * len(drawn["a"].guide) + [1] * len(drawn["b"].guide))
    for part, (of_part, edits) in judged.items():
        row = result["directions"][direction(model.config.domains, part)]
        row["classification"] = domain_classification(judge, of_part, edits)
    result["codes"]["probes"] = _probes(judged, {"domain": domain}, settings)
    told = {name: counterfactual.DEFINITIONS[name] for name in ("pairs", "target")}
    result["definitions"]["classification"] = told
    return result, judged


def direction(domains: Domains, guide_part: Part) -> str:
    """`glasses to smile`: whose content, whose guide."""
    return f"{domains.b} to {domains.a}" if guide_part == "a" else f"{domains.a} to {domains.b}"


def _common(
    model: Model,
    judge: FactorClassifier,
    settings: Settings,
    judged: Mapping[Part, tuple[Pairs, Edits]],
    network: Network | None,
) -> dict[str, Any]:
    """The scores that any pair of domains has."""
    see = network or realism.bundled(judge)
    directions = {}
    data = sha256()
    for part, (drawn, edits) in judged.items():
        data.update(drawn.content.numpy().tobytes() + drawn.guide.numpy().tobytes())
        directions[direction(model.config.domains, part)] = {
            "retrieval": guidance.retrieval(judge, drawn, edits),
            "realism": _realism(model, see, drawn, edits, settings.seed),
        }
    return {
        "dida": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seed": settings.seed,
        "pairs": settings.pairs,
        "data_sha256": data.hexdigest(),
        "domains": model.config.domains.to_json(),
        "features": "inception" if network else "bundled classifier",
        "directions": directions,
        "codes": _codes(judged, settings),
        "definitions": {
            "retrieval": guidance.DEFINITIONS,
            "realism": realism.DEFINITIONS,
            "codes": probes.DEFINITIONS,
        },
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


def _codes(judged: Mapping[Part, tuple[Pairs, Edits]], settings: Settings) -> dict[str, Any]:
    """The theory slide: what leaks into the wrong code, and whether the codes are independent."""
    of_a, of_b = judged["a"][1].guide, judged["b"][1].guide
    independence = probes.independence(
        of_a, of_b, permutations=settings.permutations, seed=settings.seed
    )
    leaks = probes.leak(of_a, of_b).items()
    return {
        # JSON has no infinity: a code that is nothing in its own domain too leaks null
        "leak": {part: value if math.isfinite(value) else None for part, value in leaks},
        "independence": {part: row._asdict() for part, row in independence.items()},
    }


def _probes(
    judged: Mapping[Part, tuple[Pairs, Edits]], labels: Mapping[str, Tensor], settings: Settings
) -> dict[str, Any]:
    codes = stack([judged["a"][1].guide, judged["b"][1].guide])
    table = probes.table(codes, labels, seed=settings.seed)
    return {
        factor: {code: probe._asdict() for code, probe in row.items()}
        for factor, row in table.items()
    }


def _segmentation(
    model: Model, judged: Mapping[Part, tuple[Pairs, Edits]], settings: Settings
) -> dict[Part, dict[str, float]]:
    """IoU of the transfer's mask with the true region; nothing for a model that has no mask."""
    if not isinstance(model, MaskModel):
        return {}
    side, few = model.config.side, max(20, settings.pairs // 5)
    task, seed = pairs.task_of(model.config), settings.seed
    validation = pairs.draw(task, few, side, seed=seed + VALIDATION_SEED)
    foreign = pairs.draw(task, few, side, seed=seed, foreign=True)
    answers = {
        part: pairs.nearest_answers(drawn, edits.output) for part, (drawn, edits) in judged.items()
    }
    scores = {}
    for part, (drawn, edits) in judged.items():
        tuned = pairs.edit(model, validation[part])
        mask, region = _masks(validation[part], tuned)
        chosen = segmentation.choose_threshold(mask, region)
        whole = _whole_masks(model, tuned, part)
        abroad = foreign[part], pairs.edit(model, foreign[part])
        scores[part] = segmentation.score(*_masks(drawn, edits), chosen) | {
            "segment_from": segmentation.choose_threshold(whole, region),
            "changed_outside": _changed_outside(drawn, edits),
            "changed_outside_foreign": _changed_outside(*abroad),
            "iou_foreign": segmentation.mean_iou(*_masks(*abroad), chosen).value,
        }
        if any(right is not None for right in answers.values()):
            scores[part] |= _nearest(drawn, edits, answers[part], chosen)
    return scores


def _nearest(
    drawn: Pairs, edits: Edits, right: Tensor | None, threshold: float
) -> dict[str, float]:
    """Mask and output against the nearest right answers, or against the only ones."""
    assert edits.mask is not None and drawn.known is not None
    answers = drawn.known.truth if right is None else right
    region = segmentation.true_region(drawn.content, answers)
    return {
        "iou_nearest": segmentation.mean_iou(edits.mask, region, threshold).value,
        "psnr_nearest": counterfactual.psnr(edits.output, answers),
    }


def _whole_masks(model: MaskModel, edits: Edits, part: Part) -> Tensor:
    """Where edits to a part paint, also where nobody sees it: (N, 1, side, side) in [0, 1]."""
    moved = pairs.moved_to(edits.content, edits.guide, part)
    with torch.inference_mode():
        made = [
            model.strokes(moved.take(rows), edits.content.take(rows)).mask
            for rows in pairs.in_batches(len(edits.output))
        ]
    return torch.cat(made)


def _masks(drawn: Pairs, edits: Edits) -> tuple[Tensor, Tensor]:
    """Where a model paints and where it should: (N, 1, side, side) in [0, 1], and bool."""
    assert edits.mask is not None and drawn.known is not None
    return edits.mask, segmentation.true_region(drawn.content, drawn.known.truth)


def _changed_outside(drawn: Pairs, edits: Edits) -> float:
    _, region = _masks(drawn, edits)
    grown = round(DILATION * region.shape[-1] / 128)
    return segmentation.changed_outside(drawn.content, edits.output, region, grown)


def domain_classification(judge: FactorClassifier, drawn: Pairs, edits: Edits) -> dict[str, float]:
    """Table 1 by a classifier of the two domains: what it says of outputs, and of contents."""
    wanted = PARTS.index(drawn.guide_part)

    def share(pictures: Tensor, domain: int) -> float:
        return (
            (counterfactual.classify(judge, pictures)["domain"].argmax(1) == domain)
            .float()
            .mean()
            .item()
        )

    target = share(edits.output, wanted)
    low, high = counterfactual.wilson(target, len(edits.output))
    right = (share(drawn.guide, wanted) + share(drawn.content, 1 - wanted)) / 2
    return {
        "pairs": len(edits.output),
        "target": target,
        "target_low": low,
        "target_high": high,
        "target_of_content": share(drawn.content, wanted),
        "classifier_accuracy": right,
    }


@dataclass(frozen=True)
class Table:
    """One table for people: a title, column heads, rows of words."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The result as tables, a column for each direction; never a mean that hides one."""
    directions = result["directions"]
    titles = {
        "classification": "Attribute classification",
        "guide_type": "Guide fidelity, by kind",
        "retrieval": "Guide fidelity, by retrieval",
        "truth": "Against the true answer",
        "realism": f"Realism and likeness ({result['features']})",
        "removal": "Removal of both parts",
        "segmentation": "Segmentation by the mask",
        "classifier_accuracy": "The classifier on real pictures",
    }
    first = next(iter(directions.values()))
    made = []
    for key, title in titles.items():
        told = next((row[key] for row in directions.values() if row.get(key)), None)
        if not told:
            continue
        rows = [
            [name, *(_number((row[key] or {}).get(name)) for row in directions.values())]
            for name in told
        ]
        made.append(Table(title, ["figure", *directions], rows))
    if "segmentation" in first and first["segmentation"] is None:
        made.append(Table("Segmentation", ["figure"], [["this model has no mask"]]))
    if "preservation" in first:
        made.append(_preservation(directions))
    return made + _code_tables(result)


def _preservation(directions: Mapping[str, Any]) -> Table:
    names = next(iter(directions.values()))["preservation"]
    rows = []
    for name in names:
        cells = [row["preservation"][name] for row in directions.values()]
        rows.append([name, *map(_preserved, cells)])
    title = "Preserved factors, after (in real contents; in true answers)"
    return Table(title, ["factor", *directions], rows)


def _preserved(cell: Mapping[str, float]) -> str:
    """One factor of one direction, in words."""
    after, before, truth = (
        _number(cell[f"preserved{suffix}"]) for suffix in ("", "_real", "_of_truth")
    )
    return f"{after} ({before}; {truth})"


def _code_tables(result: Mapping[str, Any]) -> list[Table]:
    codes, domains = result["codes"], result["domains"]
    columns = list(next(iter(codes["probes"].values())))
    words = {"common": "common"} | {part: f"{part} ({domains[part]})" for part in PARTS}
    rows = [
        [
            factor,
            *(f"{_number(row[c]['accuracy'])} ({_number(row[c]['chance'])})" for c in columns),
        ]
        for factor, row in codes["probes"].items()
    ]
    probed = Table(
        "What a linear probe reads from each code (chance)",
        ["factor", *(words[c] for c in columns)],
        rows,
    )
    parts = list(codes["leak"])
    kinds = ["leak", *next(iter(codes["independence"].values()))]
    rows = [
        [
            kind,
            *(
                _number(codes["leak"][p] if kind == "leak" else codes["independence"][p][kind])
                for p in parts
            ),
        ]
        for kind in kinds
    ]
    apart = Table("Codes apart", ["figure", *(words[p] for p in parts)], rows)
    return [probed, apart]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if float(value).is_integer():
        return str(int(value))
    if abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def markdown(made: Sequence[Table]) -> str:
    """The tables for a model card."""
    parts = []
    for table in made:
        lines = [f"### {table.title}", ""]
        lines.append("| " + " | ".join(table.head) + " |")
        lines.append("|" + "---|" * len(table.head))
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def page(result: Mapping[str, Any], made: Sequence[Table], pictures: Mapping[str, str]) -> str:
    """A page of all tables, definitions and pictures; `pictures` maps file names to captions."""
    sections = []
    for table in made:
        head = "".join(f"<th>{html.escape(word)}</th>" for word in table.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(word)}</td>" for word in row) + "</tr>"
            for row in table.rows
        )
        title = html.escape(table.title)
        sections.append(f"<h2>{title}</h2><table><tr>{head}</tr>{body}</table>")
    shown = "".join(
        f'<figure><img src="{html.escape(file)}" alt=""><figcaption>{html.escape(words)}'
        "</figcaption></figure>"
        for file, words in pictures.items()
    )
    defined = "".join(
        f"<dt>{html.escape(f'{section}: {name}')}</dt><dd>{html.escape(words)}</dd>"
        for section, meanings in result["definitions"].items()
        for name, words in meanings.items()
    )
    facts = ", ".join(
        f"{name} {result[name]}" for name in ("dida", "torch", "model", "seed", "pairs")
    )
    return PAGE.format(
        title=f"dida evaluate: {html.escape(str(result['model']))}",
        facts=html.escape(facts),
        pictures=shown,
        tables="".join(sections),
        definitions=defined,
    )


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem }}
table {{ border-collapse: collapse; margin-bottom: 2rem }}
th, td {{ text-align: left; padding: .2rem .8rem; border-bottom: 1px solid #ccc }}
img {{ max-width: 100% }} dt {{ font-weight: 600 }}
</style>
<h1>{title}</h1><p>{facts}</p>{pictures}{tables}
<h2>Definitions</h2><dl>{definitions}</dl></html>
"""
