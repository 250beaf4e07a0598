"""Settings for `dida benchmark table1`: each method by a few of them, on validation pairs alone.

Every method is trained for fewer steps on the first pair of parts by its recipe, then by the same
with one thing changed; `TRIED` lists all that was tried. What is in the file already is not done
again. The score is the one that `dida train`
keeps the best state by (`dida_cli/evaluate/validation.py`), at the last step. What won stands in
the recipes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dida_cli import checkpoint, hub, recipe
from dida_cli.cli import begin
from dida_cli.distributed import ALONE
from dida_cli.evaluate import attributes, validation
from dida_cli.evaluate.tables import Table, markdown
from dida_cli.training import Training

# Of each method, beside its recipe: its paper's own weights; of ours, the defaults.
TRIED = {
    "didd": ["confusion=1.0", "critic_target=paper", "rate=0.002"],
    "press": ["confusion=1.0"],
    "fader": ["confusion=0.001", "confusion=0.01", "confusion=0.1"],
    "layers": ["confusion=0.2", "repaint=0.3", "rate=0.002"],
    "retouch": ["realism=[0.16]", "change=0.05"],
    "munit": ["rate=0.0004", "rate=0.001"],
    "drit": ["rate=0.0004"],
}


def trained(wanted: recipe.Recipe) -> tuple[dict[str, float], float]:
    """Figures of a training to its end, and the seconds of its steps."""
    torch.manual_seed(wanted.seed)
    training = Training(wanted)
    source = begin.Source(wanted, "", Path(wanted.data), ALONE)
    batches = source.batches(wanted.stages[0])
    began = time.perf_counter()
    while not training.is_over:
        training.advance(batches(training.made))
    seconds = time.perf_counter() - began
    task = validation.drawn_task(Path(wanted.data), wanted.expressions)
    assert task
    judge = attributes.load(hub.BUNDLED / hub.JUDGE)
    scores = validation.Validation(judge, validation.drawn(task, wanted.stages[0].side))
    return scores(checkpoint.baked(training.network).to("cpu")), seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=TRIED, action="append", help="repeatable [all]")
    parser.add_argument("--data", type=Path, default=Path("avatars"), help="[%(default)s]")
    parser.add_argument("--steps", type=int, default=1000, help="[%(default)s]")
    parser.add_argument("-o", "--out", type=Path, required=True, help="what was found, as .jsonl")
    given = parser.parse_args(arguments)
    known = [json.loads(line) for line in given.out.open()] if given.out.exists() else []
    done = {(one["method"], one["changed"]): one for one in known}
    for method in given.only or TRIED:
        for changed in ["", *TRIED[method]]:
            if (method, changed) in done:
                continue
            values = recipe.values_of(str(recipe.RECIPES / "table1" / f"{method}{recipe.SUFFIX}"))
            values["data"] = str(given.data.resolve())
            values["stages"][0]["steps"] = given.steps
            if rise := values.get("settings", {}).get("rise"):  # over the whole training
                values["settings"]["rise"] = min(rise, given.steps)
            for setting in changed.split():
                recipe.assigned(values, f"settings.{setting}")
            figures, seconds = trained(recipe.parse(values, method))
            found = {"method": method, "changed": changed, "steps": given.steps}
            found |= {"seconds": seconds, **figures}
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            done[method, changed] = found
    head = ["method", "changed", "steps", "score", "target", "guide", "kept"]
    rows = []
    for (method, changed), found in done.items():
        each = (
            " / ".join(f"{found.get(f'{name}_{part}', 0):.2f}" for part in "ab")
            for name in head[4:]
        )
        cells = method, changed or "its own", f"{found['steps']:,}", f"{found['score']:.3f}"
        rows.append([*cells, *each])
    print(markdown([Table("Settings that were tried", head, rows)]))


if __name__ == "__main__":
    main()
