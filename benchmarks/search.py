"""Settings for `dida benchmark table1`: each method by a few of them, on validation pairs alone.

Every method is trained for fewer steps on the first pair of parts with its defaults, then with the
same but what `TRIED` says. What is in the file already is not done again. The score is the one that
`dida train` keeps the best state by (`dida_cli/evaluate/validation.py`), at the last step. What won
stands in the recipes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dida_cli import checkpoint, hub, recipe
from dida_cli.cli import begin, benchmark
from dida_cli.distributed import ALONE
from dida_cli.evaluate import attributes, validation
from dida_cli.evaluate.tables import Table, markdown
from dida_cli.training import Training

# Of each method, beside its defaults, which for the baselines are the weights of their papers.
TRIED = {
    "didd": ["confusion=1.0", "critic_target=paper", "rate=0.002"],
    "press": ["confusion=1.0"],
    "fader": ["confusion=0.001", "confusion=0.01", "confusion=0.1"],
    "layers": [],
    "retouch": [],
    "munit": ["rate=0.0004", "rate=0.001"],
    "drit": ["rate=0.001"],
}
FIGURES = ["target", "guide", "kept"]


def trained(asked: recipe.Recipe) -> dict[str, float]:
    """Figures of a training to its end."""
    training = Training(asked)
    source = begin.Source(asked, "", Path(asked.data), ALONE)
    batches = source.batches(asked.stages[0])
    while not training.is_over:
        training.advance(batches(training.made))
    task = validation.drawn_task(Path(asked.data), asked.expressions)
    assert task
    judge = attributes.load(hub.BUNDLED / hub.JUDGE)
    scores = validation.Validation(judge, validation.drawn(task, asked.stages[0].side))
    return scores(checkpoint.baked(training.network).to("cpu"))


def wanted(method: str, changed: str, data: Path, steps: int) -> recipe.Recipe:
    """The recipe of a method in the table with these settings, of so many steps."""
    values = benchmark.values_of("table1", method, data, steps)
    of_whole = {"rise": steps} if "rise" in values.get("settings", {}) else {}
    values["settings"] = of_whole  # without what won
    for setting in changed.split():
        recipe.assigned(values, f"settings.{setting}")
    return recipe.parse(values, method)


def row(found: Mapping[str, Any]) -> list[str]:
    """What the table says of a training."""
    cells = found["method"], found["changed"] or "none", f"{found['steps']:,}"
    figures = ([found.get(f"{name}_{part}", 0) for part in "ab"] for name in FIGURES)
    each = (f"{a:.2f} / {b:.2f}" for a, b in figures)
    return [*cells, f"{found['score']:.3f}", *each]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=TRIED, action="append", help="repeatable [all]")
    parser.add_argument("--data", type=Path, default=Path("avatars"), help="[%(default)s]")
    parser.add_argument("--steps", type=int, default=1000, help="[%(default)s]")
    parser.add_argument("-o", "--out", type=Path, required=True, help="what was found, as .jsonl")
    given = parser.parse_args(arguments)
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    done = [json.loads(line) for line in lines]
    for method in given.only or TRIED:
        for changed in ["", *TRIED[method]]:
            if any((one["method"], one["changed"]) == (method, changed) for one in done):
                continue
            told = {"method": method, "changed": changed, "steps": given.steps}
            done.append(told | trained(wanted(method, changed, given.data, given.steps)))
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[-1]) + "\n")
    head = ["method", "changed", "steps", "score", *FIGURES]
    print(markdown([Table("Settings that were tried", head, [row(one) for one in done])]))


if __name__ == "__main__":
    main()
