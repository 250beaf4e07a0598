"""The command that says what a model is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dida_cli.cli import console
from dida_cli.cli.options import JsonOpt, ModelOpt
from dida_cli.config import DEFAULT_MODEL, Part

if TYPE_CHECKING:
    from dida_cli.evaluate.attributes import FactorClassifier

PAIRS_SEED = 20_261_124  # of the avatars judged on; training sets are drawn from other seeds


def evaluate(
    model: ModelOpt = DEFAULT_MODEL,
    pairs: Annotated[int, typer.Option(min=10, help="Pairs of content and guide, each way.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the avatars judged on.")] = PAIRS_SEED,
    classifier: Annotated[
        Path | None,
        typer.Option(help="Train the judge on this avatar set instead of using the bundled one."),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Judge a smile and glasses model on freshly drawn avatars whose true edit is known."""
    from dida_cli import __version__, checkpoint, hub
    from dida_cli.evaluate import counterfactual

    folder = hub.resolve(model)
    network = checkpoint.load(folder)
    judge = _judge(classifier)
    directions: dict[str, Any] = {}
    domains = network.config.domains
    ways: list[tuple[Part, str, str]] = [
        ("a", domains.b, domains.a),
        ("b", domains.a, domains.b),
    ]
    for part, content, guide in ways:
        with console.progress(f"{content} to {guide}", "drawings") as report:
            drawn = counterfactual.draw_pairs(
                part, pairs, network.config.side, seed=seed, on_progress=report
            )
            figures = counterfactual.score(network, judge, drawn)
        accuracy = counterfactual.classifier_accuracy(judge, drawn)
        directions[f"{content} to {guide}"] = figures | {"classifier_accuracy": accuracy}
    result = {
        "dida": __version__,
        "model": model,
        "model_sha256": hub.fingerprint(folder),
        "seed": seed,
        "definitions": counterfactual.DEFINITIONS,
        "directions": directions,
    }
    if as_json:
        console.out_json(result)
    else:
        _print_table(directions)


def _judge(data: Path | None) -> "FactorClassifier":
    from dida_cli import hub
    from dida_cli.evaluate import attributes

    if data is None:
        return attributes.load(hub.BUNDLED / hub.JUDGE)
    with console.progress("training the classifier", "steps") as report:
        return attributes.train(data, on_progress=report)


def _print_table(directions: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from dida_cli.evaluate import counterfactual

    table = Table("figure", *directions)
    first = next(iter(directions.values()))
    for name in first:
        if name != "classifier_accuracy":
            table.add_row(name, *(f"{figures[name]:.4g}" for figures in directions.values()))
    for name in first["classifier_accuracy"]:
        shares = (figures["classifier_accuracy"][name] for figures in directions.values())
        table.add_row(f"classifier on real: {name}", *(f"{share:.4g}" for share in shares))
    console = Console()
    console.print(table)
    for name, meaning in counterfactual.DEFINITIONS.items():
        console.print(f"{name}: {meaning}", soft_wrap=True)
