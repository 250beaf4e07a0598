"""How long commands take as whole processes, over the imports that nobody gets around.

`dida --help` over `import typer, rich`; `dida transfer` on one picture over `import torch`, by
torch and by onnxruntime. Both sides run from bytecode, as pip leaves it.
"""

import compileall
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import dida_cli
from benchmarks.paired import Pair, in_turns, options, seconds, tell
from dida_cli.config import DEFAULT_MODEL

EXAMPLES = Path(__file__).parents[1] / "examples"
DIDA = [sys.executable, "-P", "-m", "dida_cli"]


def python(code: str) -> list[str]:
    return [sys.executable, "-P", "-c", code]


def run(command: Sequence[str]) -> str:
    """What a command prints, a line of any length; raises CalledProcessError when it fails."""
    wide = os.environ | {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=wide).stdout


def compared(ours: str, command: Sequence[str], code: str, rounds: int) -> Pair:
    """Wall seconds of a command over those of a line of Python, in turns."""
    times = in_turns(
        lambda: seconds(lambda: run(command), "cpu"),
        lambda: seconds(lambda: run(python(code)), "cpu"),
        rounds=rounds,
    )
    return Pair(ours, f"python -c '{code}'", "s", *times)


def main(arguments: Sequence[str] | None = None) -> None:
    given = options(__doc__, rounds=10).parse_args(arguments)
    rounds = given.rounds
    compileall.compile_dir(Path(dida_cli.__file__).parent, quiet=1)
    pairs = [compared("dida --help", [*DIDA, "--help"], "import typer, rich", rounds)]
    with tempfile.TemporaryDirectory() as place:
        files = ["--content", EXAMPLES / "glasses.png", "--guide-a", EXAMPLES / "smile.png"]
        edit = [*DIDA, "transfer", *map(str, files), "-o", f"{place}/result.png"]
        by_torch = [*edit, "--device", given.device]
        pairs.append(compared("dida transfer", by_torch, "import torch", rounds))
        exported = f"{place}/exported"
        run([*DIDA, "export", DEFAULT_MODEL, "--format", "onnx", "-o", exported])
        by_onnx = [*edit, "-m", exported, "--runtime", "onnx"]
        pairs.append(compared("dida transfer --runtime onnx", by_onnx, "import torch", rounds))
    tell("Starting", pairs, given)


if __name__ == "__main__":
    main()
