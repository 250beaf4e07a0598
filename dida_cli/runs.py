"""A run's folder: what a training records there, and what a resume reads.

train.json          what is trained, and on what
log.jsonl           a JSON object a line: step, the terms' means since the last line, scores
last/, last-1/      a model folder each, with all that a resume needs
best/               the model folder of the best score so far
"""

import json
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dida_cli.config import ModelConfig, TrainConfig, read_json
from dida_cli.errors import DidaError
from dida_cli.images import write_bytes

SETTINGS, LOG, BEST = "train.json", "log.jsonl", "best"
# What runs that earlier versions have begun do not say.
EARLIER = {
    "rise": True,
    "hold": 0,
    "lookalikes": 0,
    "hides": False,
    "refine": "none",
    "score_every": 0,
    "patience": 0,
    "accumulate": 1,
    "precision": "float32",
    "compile": False,
}
EARLIER_WEIGHTS = dict.fromkeys(
    "base exchange open alike paint claim information cycle domain cover blind smooth".split(),
    0.0,
)

# When the game with the critic counts as over: every one of so many log lines says so.
WINDOW = 50  # log lines
WON = 0.95  # share of codes that the critic gets right
CHANCE = (0.4, 0.6)  # shares that are as good as a guess
STILL = 1e-3  # norm of the critic's gradient; about 1 where it plays
CRITIC = {
    "critic wins": f"the critic was right of {WON:.0%} of the codes or more in {WINDOW} log lines: "
    "the common code keeps what tells A from B; raise training.weights.common",
    "critic dead": f"the critic guessed in {WINDOW} log lines, and its gradient was nothing: "
    "common codes no longer differ between pictures; lower training.weights.common",
}

Line = dict[str, Any]  # of a log: "step", figures, and "warning", a key of `CRITIC`


def refuse_taken(run: Path) -> None:
    """Raises DidaError when a new run cannot have this folder."""
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise DidaError(
            f"{run}: is not empty; go on with --resume {shlex.quote(str(run))} or choose --out"
        )


def start(run: Path, model: ModelConfig, settings: TrainConfig, data: dict[str, Any]) -> None:
    """Make a run folder that records what is trained, and on what. DidaError if it is taken."""
    refuse_taken(run)
    record(run, model, settings, data)


def record(run: Path, model: ModelConfig, settings: TrainConfig, data: dict[str, Any]) -> None:
    """Write what is trained, and on what, over what was recorded."""
    found = {"model": model.to_json(), "training": settings.to_json(), "data": data}
    write_bytes((json.dumps(found, indent=2) + "\n").encode(), run / SETTINGS)


def refuse_other_network(before: ModelConfig, now: ModelConfig) -> None:
    """Raises DidaError when a saved state does not fit a changed config."""
    if name := before.differs_in(now, free=("domains", "fit", "segment_from", "glass")):
        raise DidaError(
            f"model.{name}: {getattr(before, name)} -> {getattr(now, name)} is another network; "
            "start a new run, with --init to begin from this one"
        )


def settings_of(run: Path) -> tuple[ModelConfig, TrainConfig, dict[str, Any]]:
    """What `start` recorded. Raises DidaError when the folder is no run."""
    path = run / SETTINGS
    if not path.exists():
        raise DidaError(f"{run}: holds no {SETTINGS}; give the folder of a run")
    record = read_json(path)
    if not isinstance(record, dict) or set(record) != {"model", "training", "data"}:
        raise DidaError(f"{path}: not the settings of a training; give the folder of a run")
    training = record["training"]
    if isinstance(training, dict):
        training = EARLIER | training
        if isinstance(weights := training.get("weights"), dict):
            training["weights"] = EARLIER_WEIGHTS | weights
    return (
        ModelConfig.from_json(record["model"], f"{path}: model"),
        TrainConfig.from_json(training, f"{path}: training"),
        record["data"],
    )


def read_log(run: Path) -> list[Line]:
    """The lines of a run's log, oldest first; what a kill has left of a last one is left out.

    Raises DidaError naming the first line that is not one.
    """
    path = run / LOG
    lines: list[Line] = []
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return lines
    except OSError as error:
        raise DidaError(f"{path}: cannot be read ({error.strerror})") from None
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
        elif number < len(texts):
            raise DidaError(f"{path}, line {number}: no line of a log; take it out")
    return lines


def append(log: Path, line: Line) -> None:
    """Write a line at a log's end. Raises DidaError when it cannot be written."""
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise DidaError(
            f"{log}: cannot be written ({error.strerror}); the last saved state is kept, make room "
            f"and go on: dida train --resume {shlex.quote(str(log.parent))}"
        ) from None


def log_until(run: Path, step: int, *, writes: bool) -> list[Line]:
    """The log of a run, without what was logged after the state that is gone on from."""
    kept = [line for line in read_log(run) if line["step"] <= step]
    if (run / LOG).exists() and writes:
        write_bytes("".join(f"{json.dumps(line)}\n" for line in kept).encode(), run / LOG)
    return kept


def critic_state(log: Sequence[Line], settings: TrainConfig) -> str | None:
    """What the last 50 log lines say of the game with the critic: a key of `CRITIC`, or None.

    It wins where it was right of 95 % of the codes in every line. It is dead where it was at
    chance and its gradient's norm below 0.001: being at chance alone is what the encoder wants, and
    a critic that plays then still follows the noise of every batch. Lines before `critic_start`
    do not count, nor do those that only tell scores. Where `common` weighs nothing is no game.
    """
    if not settings.weights.common:
        return None
    lines = [n for n in log if "critic_gradient" in n and n["step"] > settings.critic_start]
    last = lines[-WINDOW:]
    if len(last) < WINDOW:
        return None
    if all(line["critic_right"] >= WON for line in last):
        return "critic wins"
    low, high = CHANCE
    if all(low <= n["critic_right"] <= high and n["critic_gradient"] < STILL for n in last):
        return "critic dead"
    return None


def watch_critic(log: list[Line], settings: TrainConfig) -> None:
    """Write into the last line, once, that the game with the critic is over, and warn of it."""
    state = critic_state(log, settings)
    if state and all(line.get("warning") != state for line in log):
        log[-1]["warning"] = state
        warnings.warn(f"step {log[-1]['step']}: {CRITIC[state]}", stacklevel=3)
