"""Edits as pictures: the first of each direction, and the worst."""

import torch

from dida_cli import images, render
from dida_cli.config import Domains, Part
from dida_cli.evaluate import counterfactual
from dida_cli.evaluate.pairs import Edits, Pairs
from dida_cli.evaluate.report import Judged, direction
from dida_cli.images import Picture

SHOWN = 8  # pairs on the sheet of a direction
WORST = 10


def examples(judged: Judged, domains: Domains, seed: int) -> dict[str, tuple[Picture, str]]:
    """Pictures by file name, with what they show: the first pairs of `seed`, and the worst edits.

    Worst are none where no true answers are known.
    """
    found = {}
    for part, (pairs, edits) in judged.items():
        words = f"{direction(domains, part)}: the first {SHOWN} pairs of seed {seed}, unchosen"
        found[f"part-{part}.png"] = first(pairs, edits), words
    if picture := worst_sheet(judged, domains):
        found["worst.png"] = picture, f"the {WORST} worst of all judged edits of each direction"
    return found


def first(pairs: Pairs, edits: Edits) -> Picture:
    """The first pairs of a direction, a row each, with all that became of them."""
    columns = {"content": pairs.content, "guide": pairs.guide, "output": edits.output}
    if pairs.known:
        columns["truth"] = pairs.known.truth
    columns |= {"reconstruction": edits.rebuilt, "neither part": edits.bare}
    shown = [images.to_pictures(values[:SHOWN]) for values in columns.values()]
    return render.sheet(list(zip(*shown, strict=True)), top=list(columns))


def worst(judged: Judged, count: int = WORST) -> dict[Part, list[int]]:
    """The edits of each direction with the largest error inside, the worst first."""
    found: dict[Part, list[int]] = {}
    for part, (pairs, edits) in judged.items():
        if pairs.known:
            errors = counterfactual.errors_inside(pairs, edits).nan_to_num(0)
            found[part] = errors.argsort(descending=True, stable=True)[:count].tolist()
    return found


def worst_sheet(judged: Judged, domains: Domains, count: int = WORST) -> Picture | None:
    """The worst edits of each direction side by side: content, guide, output, truth."""
    rows, words = [], []
    for part, chosen in worst(judged, count).items():
        pairs, edits = judged[part]
        shown = {
            f"{direction(domains, part)}: content": pairs.content,
            "guide": pairs.guide,
            "output": edits.output,
            "truth": pairs.facts.truth,
        }
        rows += [images.to_pictures(values[torch.tensor(chosen)]) for values in shown.values()]
        words += list(shown)
    return render.sheet(rows, left=words) if rows else None
