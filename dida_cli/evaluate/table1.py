"""Table 1 of the ICCV 2019 paper on drawn faces: a page of figures and a sheet of edits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dida_cli import checkpoint, images, render
from dida_cli.config import Part
from dida_cli.evaluate import pairs
from dida_cli.evaluate.pairs import NAMED, Pairs, Task
from dida_cli.evaluate.tables import Table, markdown, percent
from dida_cli.images import Picture

METHODS = {
    "retouch": "retouch, ours, each part by its own pictures",
    "layers": "layers, ours",
    "didd": "DIDD, ICCV 2019",
    "press": "Press et al., ICLR 2019",
    "munit": "MUNIT, ECCV 2018",
    "drit": "DRIT, ECCV 2018",
    "fader": "Fader Networks, NIPS 2017",
}
# Share of translated pictures of CelebA that a classifier gives to the target (ICCV 2019, Table 1).
PUBLISHED = "91.8 / 99.3 / 93.7 / 87.1 / 93.1 / 97.2 %"
SHOWN, SEED = 5, 20_261_124  # pairs on the sheet of each direction, the first of this seed
FIGURES = {
    "target domain": ("classification", "target"),
    "guide's kind": ("guide_type", "guide_type"),
    "inside, dB": ("truth", "psnr_inside"),
    "told apart": ("told_apart", "told_apart"),
}


def row(method: str, direction: str, result: Mapping[str, Any], of: Mapping[str, Any]) -> list[str]:
    """What the table says of a method in a direction, from the scores of its run."""
    target, kind, inside, apart = (of[section][name] for section, name in FIGURES.values())
    brows, eyes = (of["preservation"][factor]["preserved"] for factor in ("eyebrows", "eyes"))
    figures = [percent(target), percent(kind), f"{inside:.1f}"]
    figures += [percent(share) for share in (apart, brows, eyes)]
    cost = f"{result['cpu_minutes']:.0f}", f"{result['parameters']:,}"
    return [direction, METHODS[method], *figures, *cost]


def probed(method: str, result: Mapping[str, Any]) -> list[str] | None:
    """What a linear probe reads from a method's common code; None where it has none."""
    probes = {name: found.get("common") for name, found in result["codes"]["probes"].items()}
    if not (domain := probes["domain"]):
        return None
    parts = [probes[factor] for factor in ("mouth", "glasses", "beard")]
    told = (f"{percent(one['accuracy'])} ({percent(one['chance'])})" for one in (domain, *parts))
    pixels = percent(result["codes"]["domain"]["pixels"])
    return ["/".join(filter(None, result["domains"].values())), METHODS[method], *told, pixels]


def page(rows: Sequence[Sequence[str]], codes: Sequence[Sequence[str]], trained: str) -> str:
    """The page: what was done, what came of it, what was published.

    trained: how all methods were, as `4,000 steps of 16 pictures`.
    """
    head = ["direction", "method", *FIGURES, "brows kept", "eyes kept", "CPU minutes", "parameters"]
    read = ["pair", "method", "domain (chance)", "mouth", "glasses", "beard", "domain from pixels"]
    tables = [Table("Six directions", head, rows), Table("Read from common codes", read, codes)]
    return PAGE.format(
        trained=trained,
        published=PUBLISHED,
        tables=markdown(tables),
        shown=SHOWN,
        shown_seed=SEED,
    )


PAGE = """# Table 1 on drawn faces

Made by `dida benchmark table1`, untouched. Every method learned from the same drawn faces,
{trained}, by the recipes in `dida_cli/recipes/table1/`; CPU minutes are of the steps alone. Judged
on unseen pairs by the bundled judge ([evaluate.md](evaluate.md)). Fader Networks have no guide.
What else was tried of settings, on validation pairs: [methods.md](methods.md).

Published in the six directions, for DIDD (ICCV 2019, Table 1): {published} of pictures are given to
the target. Those are photos of CelebA at 128 px, after more than a million steps, before another
judge: they cannot be compared with what stands here.

{tables}
The first {shown} pairs of seed {shown_seed} of each direction, unchosen.

![contents, guides, true answers, and the edits of all methods](table1.png)
"""


def edits(folder: Path, directions: Iterable[str]) -> Picture:
    """What a model makes of the pairs that the sheet shows: a row for each direction."""
    model = checkpoint.load(folder)
    rows = []
    for direction in directions:
        to = direction.split(" to ")[1]
        part: Part = "a" if model.config.domains.a == to else "b"
        drawn = replace(_pairs(direction, model.config.side), guide_part=part)
        rows.append(torch.cat([*pairs.edit(model, drawn).output], dim=2))
    return images.to_pictures(torch.cat(rows, dim=1)[None])[0]


def sheet(edited: Sequence[tuple[str, Iterable[str], Picture]]) -> Picture:
    """The same contents and guides edited by all models: a block for each direction.

    edited: method, directions, and their `edits`.
    """
    blocks: dict[str, list[list[Picture]]] = {}
    for _, directions, strip in edited:
        side = strip.width // SHOWN
        for y, direction in enumerate(directions):
            if direction not in blocks:
                drawn = _pairs(direction, side)
                known = drawn.content, drawn.guide, drawn.facts.truth
                blocks[direction] = [images.to_pictures(one) for one in known]
            corners = [(x * side, y * side) for x in range(SHOWN)]
            cells = [strip.crop((x, top, x + side, top + side)) for x, top in corners]
            blocks[direction].append(cells)
    joined = [[cell for row in rows for cell in row] for rows in zip(*blocks.values(), strict=True)]
    top = [word for direction in blocks for word in (direction, *[""] * (SHOWN - 1))]
    methods = dict.fromkeys(METHODS[method] for method, *_ in edited)
    return render.sheet(joined, top=top, left=["content", "guide", "true answer", *methods])


def _pairs(direction: str, side: int) -> Pairs:
    """Contents that have one part, and guides that have the other."""
    of, to = direction.split(" to ")
    return pairs.draw(Task(NAMED[to], NAMED[of]), SHOWN, side, seed=SEED)["a"]
