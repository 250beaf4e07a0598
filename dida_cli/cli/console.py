"""What people see while they wait. Data goes to stdout; everything here to stderr."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

silent = False  # of several processes that do one thing, one speaks


class Report(Protocol):
    """Told how much of the work is done, and words to show beside it."""

    def __call__(self, done: int, total: int, words: str = "") -> None: ...


def out(line: str) -> None:
    """One line of data on stdout."""
    if not silent:
        print(line, flush=True)


def out_json(value: dict[str, Any]) -> None:
    """One JSON object on a line of stdout."""
    out(json.dumps(value, ensure_ascii=False))


def note(line: str) -> None:
    """One line for people on stderr."""
    if not silent:
        print(f"dida: {line}", file=sys.stderr, flush=True)


def show_warnings_as_notes() -> None:
    """Let warnings of ours and of libraries take one line, without a source line."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        note(f"warning: {message}")

    warnings.showwarning = show


@contextmanager
def progress(task: str, unit: str) -> Iterator[Report]:
    """A bar with speed and time left on a terminal, nothing elsewhere: report(done, total)."""
    if silent or not sys.stderr.isatty():
        yield lambda done, total, words="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task(task, total=None, speed="", words="")

        def report(done: int, total: int, words: str = "") -> None:
            speed = bar.tasks[row].speed
            shown = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(row, completed=done, total=total, speed=shown)
            if words:
                bar.update(row, words=words)

        yield report
