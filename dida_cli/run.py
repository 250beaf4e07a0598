"""A run's folder: what a training keeps there, and what a resume reads.

recipe.toml         what is trained, whole: dida train RUN/recipe.toml repeats it
begun.json          by which command, where the pictures lay, and what tells them from others
log.jsonl           a JSON object a line: step, the terms' means since the last line, scores
last/, last-1/      a model folder each, with all that a resume needs
best/               the model folder of the best score so far
model/              what the training has made: the model, its card with all scores, examples
"""

import json
import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dida_cli import recipe
from dida_cli.config import Json, checked, in_one_line, read_json
from dida_cli.errors import DidaError
from dida_cli.images import write_bytes
from dida_cli.locks import LOCK
from dida_cli.recipe import Recipe

RECIPE, BEGUN, LOG, BEST, MODEL = "recipe.toml", "begun.json", "log.jsonl", "best", "model"
STATE, PROGRESS = "state.safetensors", "progress.json"

# When the game with a critic counts as over: every one of so many log lines says so.
WINDOW = 50  # log lines
WON = 0.95  # share of codes that the critic gets right
CHANCE = 0.1  # so far from a half a share is as good as a guess
STILL = 1e-3  # norm of the critic's gradient; about 1 where it plays
CRITIC = {
    "critic wins": f"the critic was right of {WON:.0%} of the codes or more in {WINDOW} log lines: "
    "the common code keeps what tells A from B; raise settings.confusion",
    "critic dead": f"the critic guessed in {WINDOW} log lines, and its gradient was nothing: "
    "common codes no longer differ between pictures; lower settings.confusion",
}

Line = dict[str, Any]  # of a log: "step", figures, and "warning", a key of `CRITIC`


class Best(NamedTuple):
    """The best score so far, and how many were made since."""

    step: int
    score: float
    since: int


@dataclass(frozen=True, kw_only=True)
class Progress(Json):
    """How far a training is, beside the tensors of its state."""

    stage: int
    step: int
    seconds: float
    sums: dict[str, Any]
    summed: int
    best: dict[str, Any]  # of a `Best`, or empty
    scale: dict[str, Any]  # of float16's scaler, or empty
    cpu_seconds: float = 0.0  # 0 where it was saved by a dida that did not count it

    def __post_init__(self) -> None:
        if self.best and set(self.best) != set(Best._fields):
            raise DidaError(f"best must hold {', '.join(Best._fields)}")
        counts: dict[str, Any] = {n: getattr(self, n) for n in ("stage", "step", "summed")}
        counts |= {f"best.{name}": n for name, n in self.best.items() if name != "score"}
        numbers = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        numbers |= {f"sums.{name}": n for name, n in self.sums.items()}
        numbers |= {f"best.{name}": n for name, n in self.best.items() if name == "score"}
        for name, value in counts.items():
            if checked(int, value, name) < 0:
                raise DidaError(f"{name} must be 0 or more, not {value}")
        for name, value in numbers.items():
            if not math.isfinite(checked(float, value, name)):
                raise DidaError(f"{name} must be a number, not {value}")


def read_progress(path: Path) -> Progress:
    """What a save wrote beside the state. Raises DidaError naming what is wrong."""
    try:
        return Progress.from_json(read_json(path), str(path), partial=True)
    except DidaError as error:
        raise DidaError(f"{error}; delete its folder to go on from last-1") from None


def refuse_taken(run: Path) -> None:
    """Raises DidaError when a new run cannot have this folder."""
    if run.exists() and (not run.is_dir() or any(path.name != LOCK for path in run.iterdir())):
        raise DidaError(
            f"{run}: is not empty; go on with --resume {shlex.quote(str(run))} or choose --out"
        )


@dataclass(frozen=True)
class Begun(Json):
    """How a run was begun, beside its recipe."""

    command: str  # as it was typed; that of a resume that changed something comes after it
    root: str  # of the pictures
    fingerprint: dict[str, Any]  # `data.sources.fingerprint`


def start(run: Path, wanted: Recipe, begun: Begun) -> None:
    """Make a run folder that records what is trained, and on what. DidaError if it is taken."""
    refuse_taken(run)
    record(run, wanted, begun)


def record(run: Path, wanted: Recipe, begun: Begun) -> None:
    """Write what is trained, and on what, over what was recorded."""
    for name, contents in files(wanted, begun).items():
        write_bytes(contents, run / name)


def files(wanted: Recipe, begun: Begun) -> dict[str, bytes]:
    """What a run records of what is trained, and on what, by file name."""
    told = json.dumps(begun.to_json(), indent=2) + "\n"
    return {RECIPE: wanted.to_toml().encode(), BEGUN: told.encode()}


def recorded(run: Path) -> tuple[Recipe, Begun]:
    """What `record` wrote. Raises DidaError when the folder is no run."""
    wanted = recipe.load(str(recipe_in(run)))
    return wanted, Begun.from_json(read_json(run / BEGUN), str(run / BEGUN))


def recipe_in(run: Path) -> Path:
    """The recipe of a run. Raises DidaError when the folder is none."""
    if not (run / RECIPE).exists():
        raise DidaError(f"{run}: holds no {RECIPE}; give the folder of a run")
    return run / RECIPE


def last_of(run: Path) -> Path:
    """The folder of the last state that was saved. Raises DidaError when there is none."""
    for name in ("last", "last-1"):
        if (run / name / STATE).exists():
            return run / name
    raise DidaError(f"{run}: was stopped before its first save; start it anew")


def read_log(run: Path) -> list[Line]:
    """The lines of a run's log, oldest first; what a kill has left of a last one is left out.

    Raises DidaError naming the first line that is not one.
    """
    path = run / LOG
    lines: list[Line] = []
    if not path.exists():
        return lines
    with in_one_line(path, "a readable log"):
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        match line:
            case {"step": int()}:
                lines.append(line)
            case _ if number < len(texts):
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


def critic_state(log: Sequence[Line]) -> str | None:
    """What the last 50 log lines say of the game with a critic of codes: of `CRITIC`, or None.

    It wins where it was right of 95 % of the codes in every line. Being at chance alone is what the
    encoder wants: it is dead where its gradient's norm was below 0.001 too. Only lines count in
    which the encoder answers to it (`confusion`), and that tell how often it was right.
    """
    lines = [line for line in log if "critic_right" in line and line.get("confusion")]
    last = lines[-WINDOW:]
    if len(last) < WINDOW:
        return None
    if all(line["critic_right"] >= WON for line in last):
        return "critic wins"
    guesses = all(abs(line["critic_right"] - 0.5) <= CHANCE for line in last)
    return "critic dead" if guesses and all(n["critic_gradient"] < STILL for n in last) else None


def watch_critic(log: list[Line]) -> None:
    """Write into the last line, once, that the game with the critic is over, and warn of it."""
    state = critic_state(log)
    if state and all(line.get("warning") != state for line in log):
        log[-1]["warning"] = state
        warnings.warn(f"step {log[-1]['step']}: {CRITIC[state]}", stacklevel=3)
