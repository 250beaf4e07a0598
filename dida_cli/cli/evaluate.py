"""The command that says what a model is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console, models
from dida_cli.cli.options import JsonOpt, ModelOpt, WithOpt, WithoutOpt
from dida_cli.config import CONFIG, DEFAULT_MODEL
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from dida_cli.checkpoint import Network
    from dida_cli.config import ModelConfig
    from dida_cli.evaluate.attributes import FactorClassifier
    from dida_cli.evaluate.realism import Network as Features
    from dida_cli.evaluate.report import Settings

PAIRS_SEED = 20_261_124  # of the avatars judged on; training sets are drawn from other seeds
PAIRS, QUICK_PAIRS = 500, 64
SECONDS_PER_PAIR = 0.3  # both directions together, on two cores
SHOWN = 8  # pairs of each direction on a report's sheets


def evaluate(
    model: ModelOpt = DEFAULT_MODEL,
    data: Annotated[
        Path | None,
        typer.Option(help="Judge on these pictures (as for train) instead of drawn faces."),
    ] = None,
    a: Annotated[str, typer.Option(help="What A has, in an attribute list.")] = "Smiling",
    b: Annotated[str, typer.Option(help="What B has, in an attribute list.")] = "Eyeglasses",
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
        Path | None, typer.Option(help="Write a page with sheets and definitions to this folder.")
    ] = None,
    keep_threshold: Annotated[
        bool,
        typer.Option(
            "--keep-threshold", help="Write the threshold chosen here into the model's config."
        ),
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Judge a model: the paper's tables and more, each direction apart, with definitions.

    By default on freshly drawn smile and glasses faces, whose true edit is known. With --data on
    test pictures of any two domains; a classifier of the domains is trained on the others first.
    """
    from dida_cli import checkpoint, hub
    from dida_cli.evaluate import report as core
    from dida_cli.mask import Painter

    folder = models.folder_of(model)
    network = checkpoint.load(folder)
    if keep_threshold and (data or not isinstance(network, Painter)):
        raise DidaError("only a model with masks, judged on drawn faces, has a threshold to keep")
    count = pairs or (QUICK_PAIRS if quick else PAIRS)
    settings = core.Settings(count, seed, permutations=100 if quick else 200)
    features = _inception(inception)
    if data is None:
        minutes = count * SECONDS_PER_PAIR / 60
        cost = f"about {max(1, round(minutes))} min on two cores"
        console.note(f"judging on 2 x {count} pairs, {cost}")
        result, judged = _on_avatars(network, _judge(classifier), settings, features)
    else:
        record = _record(data, a, b, having, lacking)
        result, judged = _on_pictures(network, record, settings, features)
    if keep_threshold:
        _keep_threshold(folder, network.config, result)
    result = {"model": model, "model_sha256": hub.fingerprint(folder)} | result
    tables = core.tables(result)
    if as_json:
        console.out_json(result)
    else:
        _print(result, tables)
    if report:
        _write_report(report, result, tables, judged)


def _keep_threshold(folder: Path, config: "ModelConfig", result: dict[str, Any]) -> None:
    """Set `segment_from` to the mean of what was chosen each way, on validation pictures."""
    import json
    from dataclasses import replace
    from statistics import mean

    from dida_cli import images

    rows = result["directions"].values()
    level = round(mean(row["segmentation"]["segment_from"] for row in rows), 3)
    kept = json.dumps(replace(config, segment_from=level).to_json(), indent=2) + "\n"
    images.write_bytes(kept.encode(), folder / CONFIG)
    console.note(f"segment_from {level} kept in {folder / CONFIG}")


def _on_avatars(
    network: "Network", judge: "FactorClassifier", settings: "Settings", features: "Features | None"
) -> Any:
    from dida_cli.evaluate import report as core

    with console.progress("drawing", "faces") as show:
        return core.judge_avatars(
            network,
            judge,
            settings,
            network=features,
            on_progress=show,
        )


def _on_pictures(
    network: "Network", record: dict[str, Any], settings: "Settings", features: "Features | None"
) -> Any:
    from dida_cli import images
    from dida_cli.data import folders, sources
    from dida_cli.evaluate import attributes
    from dida_cli.evaluate import report as core

    split = sources.for_testing(record)
    config = network.config
    with console.progress("training the classifier", "steps") as show:
        judge = attributes.train_on_domains(split.train, config, on_progress=show)
    a, b = (images.to_unit(folders.load(f, config)) for f in (split.held_out.a, split.held_out.b))
    return core.judge_pictures(network, judge, a, b, settings, network=features)


def _record(
    data: Path, a: str, b: str, having: list[str] | None, lacking: list[str] | None
) -> dict[str, Any]:
    from dida_cli.data import sources

    return sources.record(data, a, b, having or [], lacking or [])


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


def _print(result: dict[str, Any], tables: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for made in tables:
        table = Table(*made.head, title=made.title, title_justify="left")
        for row in made.rows:
            table.add_row(*row)
        console.print(table)
    for section, meanings in result["definitions"].items():
        console.print(f"\n{section}", style="bold")
        for name, meaning in meanings.items():
            console.print(f"{name}: {meaning}", soft_wrap=True, highlight=False)


def _write_report(folder: Path, result: dict[str, Any], tables: Any, judged: Any) -> None:
    import json

    from dida_cli import images, render
    from dida_cli.evaluate import report as core

    pictures = {}
    for direction, (drawn, edits) in zip(result["directions"], judged.values(), strict=True):
        columns = {"content": drawn.content, "guide": drawn.guide, "output": edits.output}
        if drawn.known:
            columns["truth"] = drawn.known.truth
        columns |= {"reconstruction": edits.rebuilt, "neither part": edits.bare}
        shown = [images.to_pictures(values[:SHOWN]) for values in columns.values()]
        name = f"part-{drawn.guide_part}.png"
        sheet = render.sheet(list(zip(*shown, strict=True)), top=list(columns))
        images.write(sheet, folder / name)
        pictures[name] = f"{direction}: the first {SHOWN} pairs"
    rows = {name: row["classification"] for name, row in result["directions"].items()}
    render.bars(
        {name: (r["target"], r["target_low"], r["target_high"]) for name, r in rows.items()},
        folder / "classification.png",
    )
    pictures["classification.png"] = "share given to the target domain, with its 95 % interval"
    files = {
        "index.html": core.page(result, tables, pictures),
        "tables.md": core.markdown(tables),
        "result.json": json.dumps(result, indent=2) + "\n",
    }
    for name, text in files.items():
        images.write_bytes(text.encode(), folder / name)
    console.note(f"report: {folder / 'index.html'}")
