"""Paired ratios: two things timed in turns, so that whatever slows the machine slows both."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch


@dataclass(frozen=True)
class Pair:
    """One comparison: ours over base, round by round, both in `unit`."""

    ours: str
    base: str
    unit: str
    ours_values: Sequence[float]
    base_values: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours_values, self.base_values, strict=True)]

    def row(self) -> str:
        ratios = self.ratios
        return (
            f"| {self.ours} | {self.base} | {median(self.ours_values):.4g} "
            f"| {median(self.base_values):.4g} | {self.unit} | **{median(ratios):.3g}** "
            f"| {min(ratios):.3g} to {max(ratios):.3g} |"
        )

    def to_json(self) -> dict[str, object]:
        ratios = self.ratios
        summary = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
        return vars(self) | {"ratios": ratios, "ratio": summary}


HEAD = """| ours | base | ours (median) | base (median) | unit | ratio (median) | range |
|---|---|---:|---:|---|---:|---:|"""


def options(about: str, rounds: int) -> argparse.ArgumentParser:
    """What every script is asked: rounds, device, threads, and whether to answer in JSON."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="timed in turns [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [%(default)s]")
    parser.add_argument("--threads", type=int, help="torch's own [as many as it takes]")
    parser.add_argument("--json", action="store_true", help="print JSON, not a markdown table")
    return parser


def in_turns(*sides: Callable[[], float], rounds: int) -> list[list[float]]:
    """What each side measures, a list for each; one uncounted round goes before."""
    for side in sides:
        side()
    measured = [[side() for side in sides] for _ in range(rounds)]
    return [list(values) for values in zip(*measured, strict=True)]


def seconds(work: Callable[[], object], device: str) -> float:
    """How long it takes, with all that it has a GPU do."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def machine(device: str) -> str:
    """Where it was measured, in a line."""
    name = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        lines = cpus.read_text().splitlines()
        name = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), name)
    where = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    if device.startswith("cuda"):
        where += f", {torch.cuda.get_device_name(device)}"
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}"


def tell(title: str, pairs: Sequence[Pair], given: argparse.Namespace, **more: object) -> None:
    """Print the table, or everything as JSON. `more`: further figures, or tables by their name."""
    where = machine(given.device)
    if given.json:
        found = {"title": title, "machine": where, "pairs": [pair.to_json() for pair in pairs]}
        print(json.dumps(found | more))
        return
    print(f"### {title}\n\n{where}; {given.rounds} rounds\n\n{HEAD}")
    for pair in pairs:
        print(pair.row())
    for name, value in more.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            print(f"\n| {words} | |\n|---|---:|")
            print("\n".join(f"| {key} | {one} |" for key, one in value.items()))
        else:
            print(f"\n{words}: {value}")
