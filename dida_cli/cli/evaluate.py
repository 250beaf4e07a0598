"""The command that says what a model is worth."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.options import (
    EYEGLASSES,
    SMILING,
    JsonOpt,
    ModelOpt,
    PartAOpt,
    SplitByOpt,
    WithOpt,
    WithoutOpt,
    refuse_expressions,
)
from dida_cli.config import DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dida_cli.config import Domains, ModelConfig
    from dida_cli.data.folders import File, Names, Split
    from dida_cli.evaluate.realism import Network as Features
    from dida_cli.evaluate.report import Judged, Settings
    from dida_cli.evaluate.tables import Table
    from dida_cli.players import Network
    from dida_cli.recipe import Recipe

PAIRS_SEED = 20_261_124  # of the avatars judged on; training sets are drawn from other seeds
PAIRS, QUICK_PAIRS = 500, 64
FEW = 200  # pairs: of fewer it is said how far off figures may be
SECONDS_PER_PAIR = 0.3  # both directions together, on two cores

DataOpt = Annotated[
    Path | None, typer.Option(help="Judge on these pictures (as for train) instead of drawn faces.")
]
BOpt = Annotated[
    str | None,
    typer.Option(
        help="What B has; of a model of one part, B lacks what A has.", show_default=EYEGLASSES
    ),
]


def evaluate(
    model: ModelOpt = DEFAULT_MODEL,
    data: DataOpt = None,
    a: PartAOpt = None,
    b: BOpt = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    split_by: SplitByOpt = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also tell groups apart: by a column of the table, or an expression."),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=10, help="Pairs each way. [default: 500; with --quick 64]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A look, in about a minute.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the faces or pairs judged on.")] = PAIRS_SEED,
    classifier: Annotated[
        Path | None, typer.Option(help="Train the judge on this avatar set; else it is bundled.")
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="Weights of Inception v3 for FID, KID and likeness.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page with all tables and sheets to this folder.")
    ] = None,
    all_tables: Annotated[
        bool, typer.Option("--all", help="Also print all tables, and what each figure means.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Judge a model in five lines; the paper's tables and more by --all, --report or --json.

    By default on freshly drawn faces, whose true edit is known. With --data on test pictures of
    any two domains; a classifier of the domains is trained on the others first.
    """
    from dida_cli import checkpoint, hub, methods, recipe
    from dida_cli.data import sources
    from dida_cli.evaluate import realism
    from dida_cli.evaluate import report as core

    if data is None and (a or b or having or lacking or split_by or by):
        raise typer.BadParameter(
            "--a, --b, --with, --without, --split-by and --by choose pictures of --data."
        )
    folder = models.folder_of(model)
    network = checkpoint.load(folder)
    wanted = _recipe_of(model)
    takes = methods.find(network.config.method).TAKES
    data = sources.located(data) if data else None
    count = pairs or (QUICK_PAIRS if quick else PAIRS)
    settings = core.Settings(count, seed, permutations=100 if quick else 200)
    features = realism.inception(inception) if inception else None
    if data is None:
        result, judged = _on_avatars(network, classifier, settings, features)
    elif takes == "parts" and sources.is_labelled(data):
        of: Names
        if wanted and not (a or b):
            of, split_by = wanted.expressions, split_by or wanted.split_by
        else:
            other = b or EYEGLASSES if network.config.domains.b else ""
            chosen = recipe.chosen("parts", a or SMILING, other, having or [], lacking or [])
            of = recipe.sides(chosen)
        split_by = split_by or ""
        split = sources.split(data, of, split_by, wanted.balance if wanted else "")
        known = [sources.groups(data, of, split_by, one) for one in by or []]
        result, judged = _by_parts(network, split, seed, known), {}
    else:
        of = _parts(data, network.config, a or "", b or "", having or [], lacking or [])
        split = sources.split(data, of, split_by or "")
        result, judged = _on_pictures(network, split, settings, features)
    result = {"model": model, "model_sha256": hub.fingerprint(folder)} | result
    if as_json:
        console.out_json(result)
    else:
        _tell(result, all_tables)
    if report:
        _write_report(report, result, judged, network.config.domains)
    elif not (as_json or all_tables):
        console.note("all tables: add --all, or --report FOLDER")


def _recipe_of(model: str) -> "Recipe | None":
    """The recipe of a bundled model or of a run, whose expressions say what its parts are."""
    from dida_cli import recipe
    from dida_cli import run as runs

    if model in recipe.names():
        return recipe.load(model)
    file = Path(model) / runs.RECIPE
    return recipe.load(str(file)) if file.is_file() else None


def _on_avatars(
    network: "Network", drawn: Path | None, settings: "Settings", features: "Features | None"
) -> "tuple[dict[str, Any], Judged]":
    """Scores on fresh faces, by the bundled judge or by one of a set of `drawn` faces."""
    from dida_cli import hub
    from dida_cli.evaluate import attributes
    from dida_cli.evaluate import report as core

    minutes = max(1, round(settings.pairs * SECONDS_PER_PAIR / 60))
    console.note(f"judging on 2 x {settings.pairs} pairs, about {minutes} min on two cores")
    if drawn is None:
        judge = attributes.load(hub.BUNDLED / hub.JUDGE)
    else:
        with console.progress("training the classifier", "steps") as show:
            judge = attributes.train(drawn, on_progress=show)
    with console.progress("drawing", "faces") as show:
        return core.judge_avatars(network, judge, settings, network=features, on_progress=show)


def _parts(
    data: Path, config: "ModelConfig", a: str, b: str, having: list[str], lacking: list[str]
) -> "Names":
    """Which pictures are of domain A, those with part a, and which of domain B, without."""
    from dida_cli import recipe
    from dida_cli.data import sources

    if not sources.is_labelled(data):
        refuse_expressions(data, a, b, having, lacking)
        return {"a": sources.DOMAINS["a"]}
    other = b or (EYEGLASSES if config.domains.b else "")
    part = recipe.chosen("domains", a or SMILING, other, having, lacking)["a"]
    return {"a": (part["with"], part["without"])}


def _on_pictures(
    network: "Network", split: "Split", settings: "Settings", features: "Features | None"
) -> "tuple[dict[str, Any], Judged]":
    """Scores on test pictures, by a judge that learns from the training pictures."""
    from dida_cli import images
    from dida_cli.data import folders
    from dida_cli.evaluate import attributes
    from dida_cli.evaluate import report as core

    def read(files: "Sequence[File]") -> "Tensor":
        return folders.load(files, network.config.side, network.config.fit)

    train, test = split.train, split.test
    has, lacks = (read(attributes.some(f)) for f in (train.having("a"), train.lacking("a")))
    with console.progress("training the classifier", "steps") as show:
        judge = attributes.train_on_parts({"a": (has, lacks)}, on_progress=show)
    in_a, in_b = (images.to_unit(read(f)) for f in (test.having("a"), test.lacking("a")))
    return core.judge_pictures(network, judge, in_a, in_b, settings, network=features)


def _by_parts(
    network: "Network", split: "Split", seed: int, known: "Sequence[Sequence[str]]"
) -> "dict[str, Any]":
    """Scores of each part by itself, by a judge of the parts that learns from training pictures."""
    from dida_cli.data import folders
    from dida_cli.evaluate import attributes, parts

    train = split.train

    def read(rows: "np.ndarray") -> "Tensor":  # as many of each group, lest it learn the group
        rows = folders.even(rows, train.groups) if len(train.groups) else rows
        files = [train.files[row] for row in attributes.some(rows)]
        return folders.load(files, network.config.side, network.config.fit)

    sides = {p: (read(has), read(lacks)) for p, (has, lacks) in train.rows.items()}
    with console.progress("training the classifier", "steps") as show:
        judge = attributes.train_on_parts(sides, on_progress=show)
    return parts.judge_sets(network, judge, split.test, seed, known)


def _tell(result: dict[str, Any], all_tables: bool) -> None:
    from dida_cli.evaluate import tables

    for line in tables.headlines(result):
        console.out(line)
    if (count := result["pairs"]) < FEW:
        off = round(98 / math.sqrt(count))  # half of a 95 % interval about 50 %, in points
        console.note(f"of {count} pairs each way: a share may be off by {off} points")
    if all_tables:
        print_tables(tables.tables(result))
        for section, meanings in result["definitions"].items():
            console.out(f"\n{section}")
            for name, meaning in meanings.items():
                console.out(f"{name}: {meaning}")


def print_tables(made: "Iterable[Table]") -> None:
    """Tables for a terminal, as wide as it is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    screen = Console()
    for one in made:
        table = Table(*map(escape, one.head), title=Text(one.title), title_justify="left")
        for row in one.rows:
            table.add_row(*map(escape, row))
        screen.print(table)


def _write_report(
    folder: Path, result: dict[str, Any], judged: "Judged", domains: "Domains"
) -> None:
    import json

    from dida_cli import images, render
    from dida_cli.evaluate import sheets, tables

    captions = {}
    for name, (picture, words) in sheets.examples(judged, domains, result["seed"]).items():
        captions[name] = words
        images.write(picture, folder / name)
    rows = {way: row["classification"] for way, row in result["directions"].items()}
    shares = {way: (r["target"], r["target_low"], r["target_high"]) for way, r in rows.items()}
    render.bars(shares, folder / "classification.png")
    captions["classification.png"] = "share given to the target domain, with its 95 % interval"
    made = tables.tables(result)
    files = {
        "index.html": tables.page(result, made, captions),
        "tables.md": tables.markdown(made),
        "result.json": json.dumps(result, indent=2) + "\n",
    }
    for name, text in files.items():
        images.write_bytes(text.encode(), folder / name)
    console.note(f"report: {folder / 'index.html'}")
