"""Who works in a folder works alone, and a lock ends with its process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dida_cli import locks
from dida_cli.data import avatars
from dida_cli.errors import DidaError

HOLD = """
import sys, time
from pathlib import Path
from dida_cli import locks
lock = locks.taken(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process at work in a folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_is_worked_in_by_one_until_its_process_ends(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(DidaError, match="another dida is at work there"):
        locks.taken(tmp_path)
    with pytest.raises(DidaError, match="another dida is at work there"):
        avatars.write_set(tmp_path, count=1, seed=0)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locks.alone(tmp_path), pytest.raises(DidaError, match="another dida"):
        locks.taken(tmp_path)
    locks.taken(tmp_path).release()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DidaError, match="cannot be written"):
        locks.taken(tmp_path / "file" / "run")
