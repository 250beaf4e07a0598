"""Glasses that were drawn onto portraits and are taken off again: how near is the picture before?

Frames, thin, thick and dark in turn, are drawn onto machine-made faces that no model learned from,
enlarged to several sizes, at the size of the picture, as sharp as it allows. Then they are taken
off as by `dida remove-attribute`. Of each size and kind: PSNR inside, where the picture should
change or did, and of the eyes, beside those of leaving the glasses on: behind clear lenses eyes
should stay as they are; how often a judge sees no glasses any more; and how well a small network
tells the results from the pictures before (50 % is perfect).
"""

import argparse
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

import dida_cli
from dida_cli import faces, images
from dida_cli.data import folders, frames, sources
from dida_cli.editor import Editor, parts_of
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, told_apart
from dida_cli.images import Picture

FACES = {"a": ("kind=faker and glasses", "kind=faker and not glasses")}
PART = "glasses"
SEED = 20_261_124
SEEN = 8  # levels of 255 that a pixel changed by counts as changed
GROWN = 2 / 256  # of a picture's width: pixels so near to a changed one count too
OWN = 256  # pixels of the pictures as they are
ERRORS = (
    "psnr_inside",
    "psnr_inside_of_leaving_them",
    "psnr_of_eyes",
    "psnr_of_eyes_of_leaving_them",
)
EYE = np.array([0.09, 0.045])  # half of an eye's width and height, of the side of a face's square


class Case(NamedTuple):
    """A picture with frames of a kind, and without; where its face lies."""

    kind: frames.Kind
    worn: Picture
    plain: Picture
    where: faces.Placement


def cases(plain: Sequence[tuple[Picture, faces.Placement]], size: int) -> Iterator[Case]:
    """Each picture enlarged, with frames of its own."""
    for index, (picture, where) in enumerate(plain):
        kind = frames.KINDS[index % len(frames.KINDS)]
        large = picture.resize((size, size))
        there = faces.Placement(where.matrix * (size / picture.width))
        glasses = frames.worn(large, there, frames.frames_at(SEED, index, kind))
        yield Case(kind, glasses, large, there)


def people(count: int) -> list[tuple[Picture, faces.Placement]]:
    """So many faces in an order of their own, and where each lies."""
    found = sources.split(sources.located(Path(sources.PORTRAITS)), FACES, "person")
    files = [file for sets in found.kinds.values() for file in sets.lacking("a")]
    Random(SEED).shuffle(files)
    read = (images.read(folders.contents(file), str(file)) for file in files[:count])
    return [(p, faces.placement(there[0].points)) for p in read if (there := faces.find(p))]


def error(case: Case, result: Picture) -> tuple[float, float]:
    """The mean squared error of levels inside, and that of leaving the glasses on."""
    true, worn, made = (
        torch.from_numpy(np.asarray(p.convert("RGB"), np.float32)).permute(2, 0, 1)
        for p in (case.plain, case.worn, result)
    )
    changed = torch.maximum((true - worn).abs(), (made - worn).abs()).amax(0) > SEEN
    near = round(GROWN * case.plain.width)
    inside = F.max_pool2d(changed[None].float(), 2 * near + 1, 1, near)[0] > 0
    mse = [((p - true) ** 2)[inside.expand(3, -1, -1)].mean().item() for p in (made, worn)]
    return mse[0], mse[1]


def error_of_eyes(case: Case, result: Picture) -> tuple[float, float]:
    """The same in the boxes of both eyes."""
    side = round(case.where.side)
    true, worn, made = (
        np.asarray(faces.cut(p, case.where, side), float) for p in (case.plain, case.worn, result)
    )
    corners = np.rint(side * np.array([[eye - EYE, eye + EYE] for eye in faces.TEMPLATE[:2]]))
    boxes = [np.s_[y:y_end, x:x_end] for (x, y), (x_end, y_end) in corners.astype(int)]
    mse = [np.mean([((p[box] - true[box]) ** 2).mean() for box in boxes]) for p in (made, worn)]
    return float(mse[0]), float(mse[1])


def decibels(errors: Sequence[float]) -> float:
    return round(10 * float(np.log10(255**2 / np.mean(errors))), 2)


def measured(
    editor: Editor,
    judge: attributes.FactorClassifier,
    plain: Sequence[tuple[Picture, faces.Placement]],
    size: int,
) -> dict[str, object]:
    """All figures of one size."""
    (part,) = parts_of(editor.domains, PART)
    errors: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in frames.KINDS} for name in ERRORS
    }
    gone: dict[str, list[bool]] = {kind: [] for kind in frames.KINDS}
    results, truths = [], []
    for case in cases(plain, size):
        try:
            result = editor.remove(case.worn, part).image.convert("RGB")
        except DidaError:  # no face is found in it: so it stays as it is
            result = case.worn
        both = *error(case, result), *error_of_eyes(case, result)
        for name, found in zip(ERRORS, both, strict=True):
            errors[name][case.kind].append(found)
        square = faces.cut(result, case.where, editor.model.config.side)
        said = judge(images.to_unit(torch.from_numpy(images.pixels(square)))[None])[part]
        gone[case.kind].append(bool(said.argmax() == 1))
        for kept, picture in ((results, result), (truths, case.plain)):
            face = faces.cut(picture, case.where, size // 2)
            kept.append(torch.from_numpy(images.pixels(face)))
    edits, real = (images.to_unit(torch.stack(found)) for found in (results, truths))
    told = told_apart.score(edits, real, seed=SEED)
    return {
        "size": size,
        **{name: {k: decibels(of) for k, of in kinds.items()} for name, kinds in errors.items()},
        "gone": {kind: round(float(np.mean(of)), 3) for kind, of in gone.items()},
        "told_apart": round(told["told_apart"], 3),
        "told_apart_of_real": round(told["told_apart_of_real"], 3),
    }


def row(found: Mapping[str, object]) -> str:
    def kinds(name: str) -> str:
        of = found[name]
        assert isinstance(of, dict)
        return " / ".join(f"{value:g}" for value in of.values())

    told = f"{found['told_apart']} ({found['told_apart_of_real']})"
    return f"| {found['size']} px | {' | '.join(map(kinds, (*ERRORS, 'gone')))} | {told} |"


HEAD = (
    "| size | PSNR inside, thin / thick / dark, dB | left on | of the eyes | left on | gone "
    "| told apart (real) |\n|---|---|---|---|---|---|---|"
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-m", "--model", default="portraits", help="[%(default)s]")
    parser.add_argument("--judge", type=Path, required=True, help="the folder judge of its run")
    parser.add_argument("--count", type=int, default=120, help="faces [%(default)s]")
    parser.add_argument("--sizes", type=int, nargs="+", default=[OWN, 2 * OWN, 4 * OWN])
    parser.add_argument("--json", action="store_true", help="print JSON, not a markdown table")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of turned heads
    editor = dida_cli.load(given.model)
    judge = attributes.load(given.judge, attributes.of_parts(editor.domains.parts))
    plain = people(given.count)
    found = [measured(editor, judge, plain, size) for size in given.sizes]
    print(json.dumps(found) if given.json else "\n".join([HEAD, *map(row, found)]))


if __name__ == "__main__":
    main()
