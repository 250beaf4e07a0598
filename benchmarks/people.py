"""What a model does to people: the picture at the top of README.

Of each of its parts a row of faces that have it and below it the same without, then a row of faces
that lack it and below it the same with that of the first. They are test faces that may be shown,
the first of a seed, and nobody chose among them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch

from dida_cli import checkpoint, hub, images, recipe, render
from dida_cli.data import folders, sources
from dida_cli.evaluate import parts
from dida_cli.evaluate.pairs import Pairs

SEED = 20_261_124


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-m", "--model", default="portraits", help="[%(default)s]")
    parser.add_argument("-r", "--recipe", default="portraits", help="[%(default)s]")
    parser.add_argument("--count", type=int, default=8, help="faces of a row [%(default)s]")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    network, wanted = checkpoint.load(hub.resolve(given.model)), recipe.load(given.recipe)
    shown = {
        part: tuple(f"({which}) and {wanted.shown}" for which in sides)
        for part, sides in wanted.expressions.items()
    }
    test = sources.split(sources.located(Path(wanted.data)), shown, wanted.split_by).test

    def first(files: list[folders.File]) -> torch.Tensor:
        Random(SEED).shuffle(files)
        side, fit = network.config.side, network.config.fit
        return images.to_unit(folders.load(files[: given.count], side, fit))

    rows = []
    for part in network.config.parts:
        has, lacks = first(test.having(part)), first(test.lacking(part))
        off = parts.edit(network, part, Pairs(part, content=has, guide=lacks), is_on=False)
        on = parts.edit(network, part, Pairs(part, content=lacks, guide=has), is_on=True)
        rows += [images.to_pictures(row) for row in (has, off.output, lacks, on.output)]
    render.sheet(rows).save(given.out)


if __name__ == "__main__":
    main()
