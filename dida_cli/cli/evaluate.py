"""The command that says what a model is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.options import (
    EYEGLASSES,
    SMILING,
    JsonOpt,
    ModelOpt,
    WithOpt,
    WithoutOpt,
    refuse_expressions,
)
from dida_cli.config import DEFAULT_MODEL

if TYPE_CHECKING:
    from dida_cli.config import ModelConfig
    from dida_cli.data.folders import Split
    from dida_cli.evaluate.attributes import FactorClassifier
    from dida_cli.evaluate.realism import Network as Features
    from dida_cli.evaluate.report import Judged, Settings
    from dida_cli.evaluate.tables import Table
    from dida_cli.players import Network

PAIRS_SEED = 20_261_124  # of the avatars judged on; training sets are drawn from other seeds
PAIRS, QUICK_PAIRS = 500, 64
SECONDS_PER_PAIR = 0.3  # both directions together, on two cores


def evaluate(
    model: ModelOpt = DEFAULT_MODEL,
    data: Annotated[
        Path | None,
        typer.Option(help="Judge on these pictures (as for train) instead of drawn faces."),
    ] = None,
    a: Annotated[
        str | None, typer.Option(help="What A has, in an attribute list.", show_default=SMILING)
    ] = None,
    b: Annotated[
        str | None,
        typer.Option(
            help="What B has; of a model of one part, B lacks what A has.", show_default=EYEGLASSES
        ),
    ] = None,
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    pairs: Annotated[
        int | None, typer.Option(min=10, help="Pairs each way. [default: 500; with --quick 64]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A look, in about a minute.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the faces or pairs judged on.")] = PAIRS_SEED,
    classifier: Annotated[
        Path | None,
        typer.Option(help="Train the judge of faces on this avatar set; else it is bundled."),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="Weights of Inception v3 for FID, KID and likeness.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page with all tables, sheets and definitions to this folder."),
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
    from dida_cli import checkpoint, hub
    from dida_cli.evaluate import report as core
    from dida_cli.evaluate import tables

    if data is None and (a or b or having or lacking):
        raise typer.BadParameter("--a, --b, --with and --without choose pictures of --data.")
    folder = models.folder_of(model)
    network = checkpoint.load(folder)
    count = pairs or (QUICK_PAIRS if quick else PAIRS)
    settings = core.Settings(count, seed, permutations=100 if quick else 200)
    features = _inception(inception)
    if data is None:
        minutes = count * SECONDS_PER_PAIR / 60
        cost = f"about {max(1, round(minutes))} min on two cores"
        console.note(f"judging on 2 x {count} pairs, {cost}")
        result, judged = _on_avatars(network, _judge(classifier), settings, features)
    else:
        split = _split(data, network.config, a, b, having or [], lacking or [])
        result, judged = _on_pictures(network, split, settings, features)
    result = {"model": model, "model_sha256": hub.fingerprint(folder)} | result
    if as_json:
        console.out_json(result)
    else:
        for line in tables.headlines(result):
            console.out(line)
        if all_tables:
            _print(result, tables.tables(result))
        elif not report:
            console.note("all tables: add --all, or --report FOLDER")
    if report:
        _write_report(report, result, judged, network.config)


def _on_avatars(
    network: "Network", judge: "FactorClassifier", settings: "Settings", features: "Features | None"
) -> "tuple[dict[str, Any], Judged]":
    from dida_cli.evaluate import report as core

    with console.progress("drawing", "faces") as show:
        return core.judge_avatars(network, judge, settings, network=features, on_progress=show)


def _split(
    data: Path,
    config: "ModelConfig",
    a: str | None,
    b: str | None,
    having: list[str],
    lacking: list[str],
) -> "Split":
    """Pictures of domain A, those with part a, and of domain B, those without."""
    from dida_cli import recipe
    from dida_cli.data import sources

    if not sources.is_labelled(data):
        refuse_expressions(data, a, b, having, lacking)
        return sources.split(data, {"a": sources.DOMAINS["a"]})
    other = b or (EYEGLASSES if config.domains.b else "")
    part = recipe.chosen("domains", a or SMILING, other, having, lacking)["a"]
    return sources.split(data, {"a": (part["with"], part["without"])})


def _on_pictures(
    network: "Network", split: "Split", settings: "Settings", features: "Features | None"
) -> "tuple[dict[str, Any], Judged]":
    from dida_cli import images
    from dida_cli.data import folders
    from dida_cli.evaluate import attributes
    from dida_cli.evaluate import report as core

    side, fit = network.config.side, network.config.fit
    train, test = split.train, split.test
    has, lacks = (
        folders.load(attributes.some(files), side, fit)
        for files in (train.having("a"), train.lacking("a"))
    )
    with console.progress("training the classifier", "steps") as show:
        judge = attributes.train_on_parts({"a": (has, lacks)}, on_progress=show)
    in_a, in_b = (
        images.to_unit(folders.load(files, side, fit))
        for files in (test.having("a"), test.lacking("a"))
    )
    return core.judge_pictures(network, judge, in_a, in_b, settings, network=features)


def _judge(data: Path | None) -> "FactorClassifier":
    from dida_cli import hub
    from dida_cli.evaluate import attributes

    if data is None:
        return attributes.load(hub.BUNDLED / hub.JUDGE)
    with console.progress("training the classifier", "steps") as show:
        return attributes.train(data, on_progress=show)


def _inception(weights: Path | None) -> "Features | None":
    from dida_cli.evaluate import realism

    return realism.inception(weights) if weights else None


def _print(result: dict[str, Any], made: "list[Table]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for one in made:
        table = Table(*one.head, title=one.title, title_justify="left")
        for row in one.rows:
            table.add_row(*row)
        console.print(table)
    for section, meanings in result["definitions"].items():
        console.print(f"\n{section}", style="bold")
        for name, meaning in meanings.items():
            console.print(f"{name}: {meaning}", soft_wrap=True, highlight=False)


def _write_report(
    folder: Path, result: dict[str, Any], judged: "Judged", config: "ModelConfig"
) -> None:
    import json

    from dida_cli import images, render
    from dida_cli.evaluate import sheets, tables

    shown = {"worst.png": "the edits with the largest errors inside, the worst first"}
    pictures = {"worst.png": sheets.worst_sheet(judged, config.domains)}
    for direction, (drawn, edits) in zip(result["directions"], judged.values(), strict=True):
        name = f"part-{drawn.guide_part}.png"
        pictures[name] = sheets.first(drawn, edits)
        shown[name] = f"{direction}: the first {sheets.SHOWN} pairs"
    for name, picture in pictures.items():
        if picture:
            images.write(picture, folder / name)
    captions = {name: words for name, words in shown.items() if pictures[name]}
    rows = {name: row["classification"] for name, row in result["directions"].items()}
    render.bars(
        {name: (r["target"], r["target_low"], r["target_high"]) for name, r in rows.items()},
        folder / "classification.png",
    )
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
