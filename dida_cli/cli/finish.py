"""What a training leaves in the end: the model's folder, with its card and unchosen examples."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dida_cli.cli import console
from dida_cli.cli.evaluate import PAIRS, PAIRS_SEED
from dida_cli.config import Part, read_json
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dida_cli.cli.begin import Source
    from dida_cli.data.folders import Sets
    from dida_cli.evaluate.attributes import FactorClassifier
    from dida_cli.evaluate.report import Judged
    from dida_cli.images import Picture
    from dida_cli.players import Network, Sides
    from dida_cli.recipe import Recipe
    from dida_cli.training import Training

LEAST = 10  # pictures of each domain that scores are made of
SHOWN = 5  # held-out pictures of each side of a part on a sheet
JUDGE = "judge"  # of a run: the classifier of its parts, where no bundled one knows them
EXAMPLES = "examples"
SCORES = "scores.json"  # of a run: what dida evaluate --json prints of its model
OURS = """---
license: mit
library_name: dida
tags: [image-to-image, guided-content-transfer]
---
"""
OWN = OURS.replace("license: mit\n", "")


def write(training: "Training", source: "Source", run: Path) -> None:
    """Judge the model of a training that is over, and write its folder."""
    from dida_cli import checkpoint, images
    from dida_cli import run as runs
    from dida_cli.evaluate import sheets, tables

    network = checkpoint.baked(training.network).to("cpu")
    try:
        result, judged = _judged(network, source, run)
        count = sum(parameter.numel() for parameter in network.parameters())
        told = result | {"cpu_minutes": training.cpu_seconds / 60, "parameters": count}
        (run / SCORES).write_text(json.dumps(told))
        scores = tables.card_tables(result)
        pictures = sheets.examples(judged, network.config.domains, PAIRS_SEED)
        pictures = pictures or _sheet(network, source)
        for line in tables.headlines(result):
            console.note(line)
    except DidaError as error:
        console.note(f"not measured: {error}")
        scores = f"## Scores\n\nNot measured: {error}.\n"
        pictures = _sheet(network, source)
    text = card(training, source, run, scores, pictures)
    files = checkpoint.model_files(training.network, text)
    files |= {f"{EXAMPLES}/{name}": images.encode(p) for name, (p, _) in pictures.items()}
    checkpoint.write_folder(run / runs.MODEL, files)


def _sheet(network: "Network", source: "Source") -> "dict[str, tuple[Picture, str]]":
    shown = sheet(network, source.to_show(network.config.side))
    return {"edits.png": (shown, "edits of the first held-out pictures")} if shown else {}


def _judged(network: "Network", source: "Source", run: Path) -> "tuple[dict[str, Any], Judged]":
    """All scores: on fresh drawn faces, or on test pictures. DidaError where there are too few."""
    from dida_cli import hub, images, methods
    from dida_cli.data import folders, sources
    from dida_cli.evaluate import attributes, parts, report, validation

    config = network.config
    if task := validation.drawn_task(source.root, source.wanted.expressions):
        judge = attributes.load(hub.BUNDLED / hub.JUDGE)
        with console.progress("judging, drawing", "faces") as show:
            settings = report.Settings(PAIRS, PAIRS_SEED)
            return report.judge_avatars(network, judge, settings, task, on_progress=show)
    if methods.find(config.method).TAKES == "parts" and sources.is_labelled(source.root):
        wanted, known, judge = source.wanted, [], judge_of(run, source)
        if by := wanted.balance:
            known = [sources.groups(source.root, wanted.expressions, wanted.split_by, by)]
        return parts.judge_sets(network, judge, source.split.test, PAIRS_SEED, known), {}
    in_a, in_b = (files[:PAIRS] for files in _domains(source.split.test))
    if (count := min(len(in_a), len(in_b))) < LEAST:
        raise DidaError(f"scores need {LEAST} test pictures of each domain, not {count}")
    a, b = (images.to_unit(folders.load(f, config.side, config.fit)) for f in (in_a, in_b))
    settings = report.Settings(count, PAIRS_SEED)
    return report.judge_pictures(network, judge_of(run, source), a, b, settings)


def _domains(sets: "Sets") -> tuple[list[Any], list[Any]]:
    """The files of both domains: each has its part, and lacks the other's."""
    import numpy as np

    a, lacks_a = sets.rows["a"]
    b, lacks_b = sets.rows.get("b", (lacks_a, a))
    in_a, in_b = np.intersect1d(a, lacks_b), np.intersect1d(b, lacks_a)
    return [sets.files[row] for row in in_a], [sets.files[row] for row in in_b]


def judge_of(run: Path, source: "Source") -> "FactorClassifier":
    """The classifier of a run's parts, trained on its pictures when first asked for."""
    from dida_cli.data import folders
    from dida_cli.evaluate import attributes

    factors = attributes.of_parts(tuple(source.wanted.parts))
    if (run / JUDGE).exists():
        return attributes.load(run / JUDGE, factors)
    stage = source.wanted.stages[-1]
    batches = source.batches(stage)
    margin = (batches.pictures.shape[-1] / stage.side - 1) / 2

    def some(rows: "np.ndarray") -> "Tensor":  # as many of each group, lest it learn the group
        return batches.pictures[attributes.some(folders.even(rows, batches.groups))]

    sides = {part: (some(has), some(lacks)) for part, (has, lacks) in batches.rows.items()}
    with console.progress("training the judge", "steps") as report:
        judge = attributes.train_on_parts(sides, on_progress=report, margin=margin)
    card = f"Says which parts pictures of {run.name} have, to score its training.\n"
    attributes.save(judge, run / JUDGE, card, factors)
    return judge


def card(
    training: "Training",
    source: "Source",
    run: Path,
    scores: str = "Not measured yet.\n",
    pictures: Mapping[str, tuple["Picture", str]] = {},
) -> str:
    """The README of a model: what it is, what it was made of and how, and what it is worth."""
    from dida_cli.data import sources

    wanted = training.recipe
    parts = " or the ".join(part["name"] for part in wanted.parts.values())
    about = wanted.about[:1].upper() + wanted.about[1:]
    lines = [
        f"# {run.name}",
        "",
        *([f"{about}.", ""] if about else []),
        f"Moves the {parts} of one picture onto another, or takes it off: "
        f"`dida transfer -m {run.name} --content PICTURE --guide-a GUIDE`.",
        "",
        *(f"![{words}]({EXAMPLES}/{name})" for name, (_, words) in pictures.items()),
        *([""] if pictures else []),
        "| | |",
        "|---|---|",
        *(f"| {name} | {words} |" for name, words in _facts(training, source).items()),
        "",
        scores,
        "## Recipe",
        "",
        f"```toml\n{wanted.placeless.to_toml()}```",
        "",
    ]
    head = OURS if sources.is_ours(source.root) else OWN
    return head + "\n".join(lines)


def _facts(training: "Training", source: "Source") -> dict[str, str]:
    import torch

    from dida_cli.data import sources

    wanted, config = training.recipe, training.network.config
    count = sum(p.numel() for p in training.network.parameters())
    learned = "; ".join(
        f"{len(has):,} pictures with {config.domains.of(part)}, {len(lacks):,} without"
        for part, (has, lacks) in source.split.train.rows.items()
    )
    made = [stage.steps for stage in wanted.stages[: training.stage]] + [training.step]
    steps = "; then ".join(
        f"{done:,} of {stage.steps:,} at {stage.side} px, {stage.batch} pictures of each set"
        for done, stage in zip(made, wanted.stages, strict=False)
    )
    where = f"{training.device.type}, {str(training.precision).removeprefix('torch.')}"
    if training.device.type == "cpu":
        where += f", {torch.get_num_threads()} threads"
    facts = {
        "method": f"{wanted.method}, {config.side} px, {count:,} parameters",
        "data": f"{wanted.placeless.data}: {_licence(source.root, wanted)}",
        "learned from": learned,
        "command": f"`{source.command}`",
        "seed": str(wanted.seed),
        "steps": steps,
        "time": f"{training.seconds / 60:.0f} min in steps on {where}",
        "chosen by": "nothing: one training, its last step",
    }
    if best := training.best:
        facts["best score"] = f"{best.score:.3f} on held-out pictures, at step {best.step}"
    if sources.is_ours(source.root):
        facts["licence of the weights"] = "MIT"
    return facts


def _licence(root: Path, wanted: "Recipe") -> str:
    """What pictures are, and under which terms they come."""
    from dida_cli.data import avatars, sources

    if told := sources.credited(root, wanted.expressions, wanted.split_by):
        return "; ".join(f"{count:,} {words}" for words, count in told.items())
    if not sources.is_drawn(root):
        return "whose owners say what may be done with them, and with what is learned from them"
    with (root / avatars.FACTORS_LIST).open(encoding="utf-8") as lines:
        count = sum(1 for _ in lines)
    how = ", ".join(f"{name} {value}" for name, value in read_json(root / "avatars.json").items())
    return (
        f"{count:,} faces of `dida data avatars`, {how}; "
        "artwork Avataaars by Pablo Stanley, free for any use"
    )


def judge(wanted: "Recipe", root: Path, run: Path, command: str) -> None:
    """Train the judge of drawn faces by its recipe, and write its folder."""
    from dida_cli import run as runs
    from dida_cli.data import folders
    from dida_cli.evaluate import attributes

    (stage,) = wanted.stages
    runs.start(run, wanted, runs.Begun(command, str(root.resolve()), {}))
    began = time.monotonic()
    with console.progress("training", "steps") as report:
        made = attributes.train(root, wanted.seed, report, steps=stage.steps, batch=stage.batch)
    minutes = (time.monotonic() - began) / 60
    right = attributes.right(made, *attributes.faces(root, folders.TEST))
    lines = [
        OURS.replace("image-to-image, guided-content-transfer", "image-classification"),
        f"# {run.name}\n\n{wanted.about[:1].upper()}{wanted.about[1:]}.\n",
        "| | |\n|---|---|",
        f"| data | {wanted.data}: {_licence(root, wanted)} |",
        f"| command | `{command}` |",
        f"| seed, steps, time | {wanted.seed}; {stage.steps:,} steps of {stage.batch} pictures; "
        f"{minutes:.0f} min |",
        "| licence of the weights | MIT |\n",
        "## Scores\n\n| factor, of unseen faces | told right |\n|---|---|",
        *(f"| {name} | {100 * share:.1f} % |" for name, share in right.items()),
        "\nClothes lie almost wholly outside the picture: their two figures judge nothing.",
        f"\n## Recipe\n\n```toml\n{wanted.to_toml()}```\n",
    ]
    attributes.save(made, run / runs.MODEL, "\n".join(lines))
    console.out(str(run))


def sheet(model: "Network", held_out: Mapping[Part, "Sides"]) -> "Picture | None":
    """Edits of held-out pictures: below guides that have a part, the guides without it, and
    pictures that lack it, down the left, with each guide's. None where there are none."""
    import torch

    from dida_cli import render
    from dida_cli.codes import transfer
    from dida_cli.images import to_pictures

    device = next(model.parameters()).device
    rows: list[list[Any]] = []
    with torch.inference_mode():
        for part, sides in held_out.items():
            guides, contents = (side[:SHOWN].to(device) for side in sides)
            if not (len(guides) and len(contents)):
                continue
            of_guides, own = model.encode(guides), model.encode(contents)
            bare = model.compose(of_guides.without(part), guides, of_guides).image
            rows += [[None, *to_pictures(guides)], [None, *to_pictures(bare)]]
            for i, content in enumerate(to_pictures(contents)):
                codes, onto, row = own.take(i), contents[i : i + 1], [content]
                for j in range(len(guides)):
                    guided: dict[str, Any] = {f"guide_{part}": of_guides.take(j)}
                    row += to_pictures(model.compose(transfer(codes, **guided), onto, codes).image)
                rows.append(row)
    return render.sheet(rows) if rows else None
