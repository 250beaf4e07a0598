"""How a training step and the editing of a folder grow, plotted with the law they should follow.

Each step is measured in a process of its own, so that the memory is its own: seconds (median of
the rounds) and the peak above that of the imports. A dashed line is the law through the largest
point: of time the FLOPs of the step, of memory the pixels or channels, of a folder its count.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import folder
from benchmarks.paired import machine, options, seconds
from dida_cli.config import ModelConfig, TrainConfig
from dida_cli.train import Training

LINEAR, SQUARE = 1, 2
# What varies, over which values, and the power of it that memory should follow.
VARIED: dict[str, tuple[Sequence[int], int]] = {
    "side": ((32, 64, 128, 256), SQUARE),
    "batch": ((4, 8, 16, 32), LINEAR),
    "width": ((64, 96, 192, 384), LINEAR),
}
COUNTS = (125, 250, 500, 1000)


@dataclass(frozen=True)
class Point:
    """One measurement and what the law says of it, up to a factor."""

    value: int
    seconds: float
    bytes: float
    time_law: float
    memory_law: float


def measure(varied: str, value: int, power: int, given: argparse.Namespace) -> Point:
    """A compact step with one thing varied."""
    if given.threads:
        torch.set_num_threads(given.threads)
    config, settings = ModelConfig(side=given.side), TrainConfig(batch=given.batch)
    if varied == "batch":
        settings = replace(settings, batch=value)
    else:
        config = replace(config, **{varied: value})
    before = peak(given.device)
    a, b = torch.rand(2, settings.batch, 3, config.side, config.side) * 2 - 1
    training = Training(config, settings, given.device)
    with FlopCounterMode(display=False) as counter:
        training.advance(a, b)
    times = [seconds(lambda: training.advance(a, b), given.device) for _ in range(given.rounds)]
    used = peak(given.device) - before
    return Point(value, median(times), used, counter.get_total_flops(), value**power)


def peak(device: str) -> int:
    """The most bytes held so far: by this process, or on the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage begins at the peak of the process that has started this one
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_folder(counts: Sequence[int], device: str) -> list[Point]:
    """The command on folders, as whole processes."""
    points = []
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            folder.draw(Path(place) / "in", count, 128)
            run = folder.edit(Path(place) / "in", Path(place) / "out", device)
        points.append(Point(count, run.seconds, run.peak, count, 1))
    return points


def plot(found: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Time above, memory below, a column for each thing varied."""
    figure, axes = pyplot.subplots(2, len(found), figsize=(3.2 * len(found), 5.6), squeeze=False)
    for column, (name, points) in enumerate(found.items()):
        for row, (unit, own, law) in enumerate(
            (("seconds", "seconds", "time_law"), ("MB", "bytes", "memory_law"))
        ):
            axis, scale = axes[row][column], 1e6 if unit == "MB" else 1
            values = [point.value for point in points]
            measured = [getattr(point, own) / scale for point in points]
            laws = [getattr(point, law) for point in points]
            axis.plot(values, measured, "o-", label="measured")
            expected = [measured[-1] * one / laws[-1] for one in laws]
            axis.plot(values, expected, "--", color="grey", label="law")
            axis.set(xscale="log", yscale="log", xlabel=name, ylabel=unit)
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
            low, high = min(measured + expected), max(measured + expected)
            axis.set_ylim(min(low, high / 10) / 1.2, high * 1.2)  # a decade: no growth looks flat
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--side", type=int, default=128, help="where it is not varied")
    parser.add_argument("--batch", type=int, default=TrainConfig.batch, help="likewise")
    parser.add_argument("--varied", nargs="+", choices=VARIED, default=list(VARIED))
    parser.add_argument("--values", type=int, help="only so many of each thing, the smallest")
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS, help="of folders")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("growth.png"))
    given = parser.parse_args(arguments)
    found: dict[str, list[Point]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for name in given.varied:
            values, power = VARIED[name]
            chosen = values[: given.values]
            jobs = [pool.submit(measure, name, value, power, given) for value in chosen]
            found[name] = [job.result() for job in jobs]
    if given.counts:
        found["pictures in a folder"] = measure_folder(given.counts, given.device)
    plot(found, given.out)
    where = machine(given.device)
    if given.json:
        points = {name: [asdict(point) for point in of] for name, of in found.items()}
        print(json.dumps({"title": "Growth", "machine": where, "points": points}))
        return
    print(f"### Growth\n\n{where}; plotted in {given.out.name}\n")
    print(
        "| varied | value | seconds | MB | seconds, law | MB, law |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, points in found.items():
        last = points[-1]
        for one in points:
            time = last.seconds * one.time_law / last.time_law
            memory = last.bytes * one.memory_law / last.memory_law / 1e6
            told = f"{one.seconds:.3g} | {one.bytes / 1e6:.0f} | {time:.3g} | {memory:.0f}"
            print(f"| {name} | {one.value} | {told} |")


if __name__ == "__main__":
    main()
