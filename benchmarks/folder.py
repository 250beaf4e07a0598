"""Editing a folder with `dida transfer` over the bare forward of its model, in batches.

The forward is encode and compose of pictures that are tensors already, in the batch that is
fastest, on all cores: nothing is read, resized, blended or written. The command is timed as a
whole process at N / 4 and at N pictures: what it takes for a further picture is the difference,
what it takes to start is apart. Peak memory is that of the process, at both.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.paired import Pair, in_turns, options, seconds, tell
from dida_cli import checkpoint, hub, images
from dida_cli.codes import transfer
from dida_cli.config import DEFAULT_MODEL
from dida_cli.data import avatars

EXAMPLES = Path(__file__).parents[1] / "examples"
BATCHES = (1, 4, 16, 32)
SEED = 1
# Runs a command and tells its seconds and peak bytes. A process of its own, and a small one, for
# a command's peak begins at that of the process which starts it.
WATCH = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
taken = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([taken, peak * (1 if sys.platform == "darwin" else 1024)]))
"""


class Run(NamedTuple):
    """A whole process."""

    seconds: float
    peak: int  # bytes


def draw(folder: Path, count: int, side: int) -> None:
    """`count` faces as PNG files."""
    folder.mkdir()
    for index in range(count):
        avatars.draw(avatars.factors_at(SEED, index), side).save(folder / avatars.file_name(index))


def edit(folder: Path, out: Path, device: str) -> Run:
    """The command on a folder, as a process of its own."""
    options = ["--content", folder, "--guide-a", EXAMPLES / "smile.png", "-o", out]
    command = [sys.executable, "-P", "-m", "dida_cli", "transfer", "--device", device, *options]
    watched = [sys.executable, "-c", WATCH, *map(str, command)]
    told = subprocess.run(watched, check=True, capture_output=True, text=True).stdout
    return Run(*json.loads(told))


def forward(files: Sequence[Path], device: str) -> Callable[[], float]:
    """Measures the pictures/s of the bare forward, in the batch found to be fastest."""
    model = checkpoint.load(hub.BUNDLED / DEFAULT_MODEL, device)
    pictures = images.to_tensor([images.read(file) for file in files], model.config).to(device)
    with torch.inference_mode():
        guide = model.encode(pictures[:1])

    def pass_over(batch: int) -> float:
        def work() -> None:
            with torch.inference_mode():
                for first in range(0, len(pictures), batch):
                    some = pictures[first : first + batch]
                    own = model.encode(some)
                    model.compose(transfer(own, guide_a=guide), some, own)

        return len(pictures) / seconds(work, device)

    for batch in BATCHES:
        pass_over(batch)
    fastest = max(BATCHES, key=pass_over)
    return lambda: pass_over(fastest)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--count", type=int, default=1000, help="pictures, N [%(default)s]")
    parser.add_argument("--side", type=int, default=128, help="of them, in pixels [%(default)s]")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    few = given.count // 4
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        draw(place / "some", few, given.side)
        draw(place / "all", given.count, given.side)
        runs: list[tuple[Run, Run]] = []

        def command() -> float:
            some, every = (
                edit(place / part, place / f"{part}-out", given.device) for part in ("some", "all")
            )
            runs.append((some, every))
            return (given.count - few) / (every.seconds - some.seconds)

        files = images.pictures_in(place / "some")[:128]
        times = in_turns(command, forward(files, given.device), rounds=given.rounds)
    pair = Pair("dida transfer, a further picture", "bare forward", "pictures/s", *times)
    counted = zip(runs[-given.rounds :], times[0], strict=True)
    start = [some.seconds - few / speed for (some, _), speed in counted]
    memory = {
        f"{count} pictures": f"{median(run[i].peak for run in runs) / 1e6:.0f} MB"
        for i, count in enumerate((few, given.count))
    }
    more = {"seconds_to_start": round(median(start), 2), "peak_memory_of_the_command": memory}
    tell(f"A folder of {given.count} pictures", [pair], given, **more)


if __name__ == "__main__":
    main()
