"""One process at a time in a folder, by a lock that ends with its process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from dida_cli.errors import DidaError

LOCK = ".lock"


def taken(folder: Path) -> BaseFileLock:
    """The lock of a folder, which is made; to be kept as long as it is worked in.

    Raises DidaError when another process is at work there, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise DidaError(f"{folder}: another dida is at work there; wait until it is done") from None
    except OSError as error:
        raise DidaError(f"{folder}: cannot be written ({error.strerror})") from None
    return lock


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else works in a folder meanwhile."""
    lock = taken(folder)
    try:
        yield
    finally:
        lock.release()
