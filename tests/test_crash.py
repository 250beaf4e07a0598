"""Nothing is lost: a save that is killed at any moment, or finds the disk full.

Run as a script, this file does what the tests are about: it imports torch once, and forks what is
killed.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from trained import Nobody, Noise, recipe_for

from dida_cli import checkpoint, hub, methods
from dida_cli import run as runs
from dida_cli import train as core
from dida_cli.config import Domains, ModelConfig
from dida_cli.errors import DidaError
from dida_cli.recipe import Recipe
from dida_cli.training import Training, resumed

KILLS = 50  # at random moments
SEED = 0
SMALLEST = {"grid": 8, "width": 2, "common": 1, "separate": 1}
# Python's audit events before a call that changes a folder.
CHANGES = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "tempfile.mkdtemp"}


def recipe() -> Recipe:
    """That of the smallest training."""
    settings = methods.complete("didd", SMALLEST)
    model = ModelConfig(method="didd", domains=Domains(a="a", b="b"), side=32, settings=settings)
    return recipe_for(model, steps=2, batch=2)


def players(training: Training) -> list[torch.nn.Module]:
    return [*training.players.modules.values(), training.mean]


def fill(training: Training, step: int) -> None:
    """Every number that a save holds becomes the step's."""
    training.step = step
    for module in players(training):
        for value in module.state_dict().values():
            value.fill_(step)
    for adam in training.players.adam.values():
        for moments in adam.state.values():
            for value in moments.values():
                value.fill_(step)


def save(training: Training, run: Path, step: int) -> None:
    fill(training, step)
    training.save(run, "card")


def saved_step(training: Training, run: Path) -> int:
    """The step that a resume goes on from. Fails unless all of it is there, and of one save."""
    folder = runs.last_of(run)
    assert hub.resolve(str(run)) == folder
    fill(training, 0)
    training.restore(folder)
    parts = (*players(training), checkpoint.load(folder))
    values = [value for part in parts for value in part.state_dict().values()]
    for adam in training.players.adam.values():
        values += [value for moments in adam.state.values() for value in moments.values()]
    assert all((value == training.step).all() for value in values)
    return training.step


def forked(act: Callable[[], object]) -> int:
    """Start `act` in a process of its own, which ends with it; the process's id."""
    if child := os.fork():
        return child
    try:
        act()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def ended(child: int) -> int:
    """How a process has ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_random(training: Training, run: Path) -> dict[str, int]:
    """Kill savers some time after they began to write; none of what they reported may be lost."""
    moment = random.Random(SEED)
    save(training, run, 1)
    began = time.perf_counter()
    save(training, run, 2)
    longest = time.perf_counter() - began
    step, unfinished = 2, 0
    for _ in range(KILLS):
        reader, writer = os.pipe()

        def go_on(begin: int = step, writer: int = writer) -> None:
            def tell(event: str, _: object) -> None:
                if event == "tempfile.mkdtemp":
                    os.write(writer, b"writing\n")

            sys.addaudithook(tell)
            for number in range(begin + 1, begin + 1000):
                save(training, run, number)
                os.write(writer, b"%d\n" % number)

        child = forked(go_on)
        os.close(writer)
        with open(reader, "rb", buffering=0) as pipe:
            said = [pipe.read(100) for _ in range(moment.randint(1, 2))]
            time.sleep(moment.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            assert ended(child) == -signal.SIGKILL
            said.append(pipe.read())
        lines = b"".join(said).split()
        reported = max([step, *(int(line) for line in lines if line.isdigit())])
        unfinished += any(run.glob(".last.*"))
        step = saved_step(training, run)
        assert reported <= step <= reported + 1
    save(training, run, step + 1)
    assert sorted(path.name for path in run.iterdir()) == ["last", "last-1"]
    return {"kills": KILLS, "unfinished": unfinished}


def kill_at(nth: int, act: Callable[[], None]) -> bool:
    """Kill a process right before its n-th change of a folder; False if it makes fewer."""

    def run() -> None:
        left = nth

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in CHANGES:
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(count)
        act()

    code = ended(forked(run))
    assert code in (0, -signal.SIGKILL)
    return code != 0


def kill_at_every_change(training: Training, run: Path) -> dict[str, int]:
    """Kill a saver before each of its changes, where both folders are there, and one."""
    step, kills = 0, {}
    for start in ("last and last-1", "last-1"):
        nth = 0
        while True:
            shutil.rmtree(run, ignore_errors=True)
            for _ in start.split(" and "):
                save(training, run, step := step + 1)
            if start == "last-1":
                (run / "last").rename(run / "last-1")
            if not kill_at(nth, partial(save, training, run, step + 1)):
                break
            assert saved_step(training, run) in (step, step + 1)
            save(training, run, step := step + 2)
            assert sorted(path.name for path in run.iterdir()) == ["last", "last-1"]
            nth += 1
        kills[start] = nth
    return kills


def kill_a_replacement(training: Training, run: Path) -> dict[str, int]:
    """Where the old folder is not kept: what a kill leaves is the old or the new, once mended."""
    folder, nth = run / "model", 0
    old, new = ({"number": text, "examples/number": text} for text in (b"old", b"new"))
    while True:
        shutil.rmtree(run, ignore_errors=True)
        checkpoint.write_folder(folder, old)
        if not kill_at(nth, partial(checkpoint.write_folder, folder, new)):
            break
        with suppress(DidaError):  # the disk is full when somebody tries again
            checkpoint.write_folder(folder, {"n" * 300: b""})  # longer than a name may be
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {str(p.relative_to(folder)): p.read_bytes() for p in files} in (old, new)
        assert [path.name for path in run.iterdir()] == ["model"]
        nth += 1
    return {"kills": nth}


def fill_the_disk(training: Training, run: Path) -> dict[str, int]:
    """A save that does not fit fails in one line and leaves things as they were."""
    save(training, run, 1)
    save(training, run, 2)
    names = (checkpoint.CONFIG, checkpoint.CARD, checkpoint.WEIGHTS, runs.STATE)
    sizes = [(run / "last" / name).stat().st_size for name in names]
    refused = 0

    def refuse() -> None:
        nonlocal refused
        try:
            save(training, run, 3)
        except DidaError as error:
            assert "cannot be written" in str(error) and str(error).isprintable(), error
            refused += 1
        else:
            raise AssertionError("nothing was full")
        assert saved_step(training, run) == 2
        assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["last", "last-1"]

    if os.path.ismount(run.parent):  # a small disk of its own
        full = run / "full"
        for free in (0, 8192, sum(sizes[:3]) + 8192, sum(sizes) - 4096):
            with full.open("wb") as file:
                file.write(bytes(shutil.disk_usage(run).free - free))
            refuse()
            full.unlink()
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for largest in (0, sizes[0] - 1, sizes[2] - 1, sizes[3] - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
            refuse()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    save(training, run, 4)
    assert saved_step(training, run) == 4
    assert sorted(path.name for path in run.iterdir()) == ["last", "last-1"]
    return {"refused": refused}


Act = Callable[[Training, Path], dict[str, int]]
ACTS: tuple[Act, ...] = (kill_at_random, kill_at_every_change, kill_a_replacement, fill_the_disk)


def done(folder: Path, *acts: Act, within: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """What acts have counted, each in a folder of its own; for one that failed it is told here."""
    names = [act.__name__ for act in acts]
    command = [*within, sys.executable, __file__, str(folder), *names]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    print(process.stderr)
    found: dict[str, dict[str, int]] = json.loads(process.stdout or "{}")
    return found


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    return done(tmp_path_factory.mktemp("crash"), *ACTS)


def test_a_save_killed_at_random_loses_nothing(counted: dict[str, dict[str, int]]) -> None:
    found = counted["kill_at_random"]
    assert found["kills"] == KILLS and found["unfinished"] > 10


def test_a_save_killed_at_any_change_loses_nothing(counted: dict[str, dict[str, int]]) -> None:
    found = counted["kill_at_every_change"]
    assert len(found) == 2 and min(found.values()) >= 5


def test_a_replacement_killed_leaves_the_old_or_the_new(counted: dict[str, dict[str, int]]) -> None:
    assert counted["kill_a_replacement"]["kills"] >= 5


def test_a_file_that_may_not_grow_fails_in_one_line(counted: dict[str, dict[str, int]]) -> None:
    assert counted["fill_the_disk"] == {"refused": 4}


def test_a_full_disk_fails_in_one_line(tmp_path: Path) -> None:
    own = "unshare --map-root-user --mount".split()
    disk = f"mount -t tmpfs -o size=8m tmpfs {tmp_path}"
    try:
        subprocess.run([*own, *disk.split()], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    within = [*own, "sh", "-c", f'{disk} && exec "$@"', "sh"]
    assert done(tmp_path, fill_the_disk, within=within) == {"fill_the_disk": {"refused": 4}}


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DidaError, match="cannot be written"):
        checkpoint.write_folder(tmp_path / "file" / "model", {"n": b""})


def test_wildcards_in_a_name_take_nothing_else_away(tmp_path: Path) -> None:
    kept, stale = tmp_path / ".other.folder", tmp_path / ".*.12345678"
    for folder in (kept, stale):
        folder.mkdir()
    checkpoint.write_folder(tmp_path / "*", {"n": b""})
    assert kept.exists() and not stale.exists()


def test_a_training_stopped_before_its_first_step_goes_on(tmp_path: Path) -> None:
    wanted = recipe()

    def fit(run: Path, training: Training, stop: bool = False) -> list[torch.Tensor]:
        run.mkdir(exist_ok=True)
        core.fit(training, Noise(wanted), run, Nobody(stops=lambda: stop))
        return list(training.players.network.parameters())

    fit(tmp_path / "run", Training(wanted), stop=True)
    again = resumed(wanted, tmp_path / "run" / "last")
    pairs = zip(
        fit(tmp_path / "run", again),
        fit(tmp_path / "whole", Training(wanted)),
        strict=True,
    )
    assert all(torch.equal(*pair) for pair in pairs)


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    training = Training(recipe())
    checkpoint.state_of(training.players.adam)
    found = {}
    for act in ACTS:
        if act.__name__ in names:
            try:
                found[act.__name__] = act(training, folder / act.__name__)
            except Exception:
                traceback.print_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
