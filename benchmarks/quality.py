"""CPU time until a model is good: `compact` with our defaults over `paper` with the paper's.

Good: of fresh faces, in both directions, 90 % of the outputs are classified as the target domain,
and 60 % carry the guide's own kind of smile or glasses (chance: 1 in 4, 1 in 8). Faces are drawn
from a seed that no training set has, and the bundled classifier judges. Time is that of this
process in steps; judging and saving are apart. `paper` is stopped at ten times what `compact` has
taken. Every judgement is a line of OUT/KIND.jsonl, and a stopped run goes on by the same command.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.paired import machine, options
from dida_cli import hub
from dida_cli.checkpoint import Network
from dida_cli.config import LEARNING_RATES, WEIGHTS, ModelConfig, TrainConfig
from dida_cli.data import folders, sources
from dida_cli.evaluate import attributes, counterfactual, pairs
from dida_cli.train import Training

TARGET, FIDELITY = 0.9, 0.6
PATIENCE = 10  # times what `compact` has taken
VALIDATION = 20_261_125  # seed of the faces judged on

SETTINGS = {
    "compact": TrainConfig(),
    "paper": TrainConfig(
        steps=1_250_000,
        batch=32,
        learning_rate=LEARNING_RATES["paper"],
        weights=replace(WEIGHTS["didd"], common=0.001),
        critic_target="paper",
        critic_start=0,
        ema=0.0,  # the release keeps the weights as they are
    ),
}


class Judge:
    """Fresh faces of both domains, and what the bundled classifier says of their edits."""

    def __init__(self, count: int, side: int) -> None:
        self.drawn = pairs.draw(pairs.SMILE_GLASSES, count, side, seed=VALIDATION)
        self.classifier = attributes.load(hub.BUNDLED / hub.JUDGE)

    def scores(self, model: Network) -> dict[str, float]:
        """Shares in [0, 1]: outputs given to the target, and of the guide's kind, by part."""
        found = {}
        for part, drawn in self.drawn.items():
            edits = pairs.edit(model, drawn)
            classified = counterfactual.classification(self.classifier, drawn, edits)
            kind = counterfactual.guide_type(self.classifier, drawn, edits)
            found[f"target_{part}"] = classified["target"]
            found[f"guide_{part}"] = kind["guide_type"] if kind else 0.0
        return found


def is_good(line: dict[str, Any]) -> bool:
    return all(line[f"target_{p}"] > TARGET and line[f"guide_{p}"] > FIDELITY for p in "ab")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until_good(
    kind: str, config: ModelConfig, judge: Judge, given: argparse.Namespace, limit: float
) -> list[dict[str, Any]]:
    """Train, judging every so many steps, until it is good or `limit` minutes are spent."""
    log, last = given.out / f"{kind}.jsonl", given.out / kind / "last"
    settings = SETTINGS[kind]
    split = sources.for_training(sources.record(given.data, None, None, [], []))
    kept = hub.home() / "pictures"
    rows = [folders.read(f, config, cache=kept).rows for f in (split.train.a, split.train.b)]
    batches = folders.Batches(*rows, batch=settings.batch, seed=settings.seed, flip=True)
    training = Training(config, settings, given.device)
    if last.exists():
        training.restore(last)
    # A line is written before its state is saved: what was lost then is judged again.
    lines = [line for line in lines_of(log) if line["step"] <= training.step]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    spent = lines[-1]["minutes"] if lines else 0.0
    most = min(settings.steps, given.steps or settings.steps)
    while not (lines and is_good(lines[-1])) and training.step < most and spent < limit:
        began = time.process_time()
        for _ in range(min(given.every, most - training.step)):
            training.advance(*batches(training.step))
        spent += (time.process_time() - began) / 60
        line = {"kind": kind, "step": training.step, "minutes": round(spent, 3)}
        lines.append(line | judge.scores(training.averaged))
        print(json.dumps(lines[-1]), flush=True)
        with log.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        training.save(given.out / kind, "")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--data", type=Path, default=Path("avatars"), help="[%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("out/quality"), help="[%(default)s]")
    parser.add_argument("--every", type=int, default=250, help="steps between judgements")
    parser.add_argument("--pairs", type=int, default=200, help="judged each way [%(default)s]")
    parser.add_argument("--side", type=int, default=128, help="in pixels [%(default)s]")
    parser.add_argument("--steps", type=int, help="at most, of each [its defaults']")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    judge = Judge(given.pairs, given.side)
    limit, results = float("inf"), {}
    for kind in SETTINGS:
        config = ModelConfig.of("didd", kind, side=given.side)
        results[kind] = until_good(kind, config, judge, given, limit)[-1]
        limit = PATIENCE * results["compact"]["minutes"]
    ours, base = results["compact"], results["paper"]
    found = {
        "title": "Time to quality",
        "machine": machine(given.device),
        "results": results,
        "good": {kind: is_good(line) for kind, line in results.items()},
        "ratio": ours["minutes"] / base["minutes"],
    }
    if given.json:
        print(json.dumps(found))
        return
    print(f"### Time to quality\n\n{found['machine']}\n")
    print("| | CPU min | steps | good | to A: target, guide | to B: target, guide |")
    print("|---|---:|---:|---|---|---|")
    for kind, line in results.items():
        ways = (f"{line[f'target_{p}']:.1%}, {line[f'guide_{p}']:.1%}" for p in "ab")
        good = "yes" if found["good"][kind] else "not yet"
        print(
            f"| `{kind}` | {line['minutes']:.1f} | {line['step']} | {good} | {' | '.join(ways)} |"
        )
    print(f"\ncompact over paper: **{found['ratio']:.3g}**")


if __name__ == "__main__":
    main()
