"""What people see while they wait. Data goes to stdout; everything here to stderr."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from dida_cli.errors import DidaError, PassedOverWarning, reading

for_the_end: list[str] = []  # lines that a command says last
silent = False  # of several processes that do one thing, one speaks


class Report(Protocol):
    """Told how much of the work is done, and words to show beside it."""

    def __call__(self, done: int, total: int, words: str = "") -> None: ...


def plain(text: str) -> str:
    """Words from anywhere, fit for a terminal: what does not print is told by its code."""
    return "".join(c if c.isprintable() or c == "\t" else _code(c) for c in text)


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode()


def out(line: str) -> None:
    """One line of data on stdout. Raises DidaError when it cannot be written."""
    if not silent:
        stream = _stdout()
        shown = plain(line) if stream.isatty() else line
        known = shown.encode(stream.encoding or "utf-8", "backslashreplace")
        with _told():
            print(known.decode(stream.encoding or "utf-8"), file=stream, flush=True)


def out_bytes(contents: bytes) -> None:
    """A file on stdout. Raises DidaError when it cannot be written."""
    stream = _stdout()
    with _told():
        stream.buffer.write(contents)
        stream.flush()


def out_json(value: dict[str, Any]) -> None:
    """One JSON object on a line of stdout, in ASCII."""
    out(json.dumps(value))


def note(line: str) -> None:
    """One line for people on stderr, if there is one."""
    if not silent and sys.stderr:
        with suppress(OSError):
            print(f"dida: {plain(line)}", file=sys.stderr, flush=True)


def _stdout() -> Any:
    if sys.stdout is None:
        raise DidaError("standard output is closed; give a file with -o, or leave it open")
    return sys.stdout


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DidaError(f"standard output cannot be written ({error.strerror})") from None


def show_warnings_as_notes() -> None:
    """Let warnings of ours and of libraries take one line, without a source line."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        name = reading.get()
        about = f"{name}: " if name and name not in str(message) else ""
        line = f"warning: {about}{message}"
        if isinstance(message, PassedOverWarning):
            for_the_end.append(line)
        else:
            note(line)

    warnings.showwarning = show


def end() -> None:
    """Say what was kept for the end."""
    while for_the_end:
        note(for_the_end.pop(0))


@contextmanager
def progress(task: str, unit: str) -> Iterator[Report]:
    """A bar with speed and time left on a terminal, nothing elsewhere: report(done, total)."""
    if silent or not (sys.stderr and sys.stderr.isatty()):
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
