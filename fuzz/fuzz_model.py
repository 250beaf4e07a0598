"""Coverage-guided fuzzing of what is read from a model folder: its config and its weights.

    python fuzz/fuzz_model.py -runs=100000

Takes libFuzzer's options. The first byte of an input says which file the rest is; a finding is
anything but a whole result or a DidaError of one printable line.
"""

import struct
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dida_cli"]):
    from dida_cli import checkpoint
    from dida_cli.config import Domains, ModelConfig, read_config
    from dida_cli.errors import DidaError

import torch
from safetensors.torch import save

IS_CONFIG, IS_WEIGHTS = b"C", b"W"
TENSORS = {  # few and small: the reader is the same for any
    "decoder.0.weight": torch.zeros(2, 1, 2, 2),
    "decoder.0.bias": torch.ones(2),
    "count": torch.tensor(3),
}
EXPECTED = {name: (tensor.shape, tensor.dtype) for name, tensor in TENSORS.items()}
SMALL = ModelConfig(
    method="didd",
    domains=Domains(a="smile", b="glasses"),
    side=32,
    settings={"grid": 8, "width": 2, "common": 1, "separate": 1},
)
LONGEST = 1000  # characters of a message

scratch = Path(tempfile.mkdtemp())


def seeds() -> list[bytes]:
    """Files that are whole, for the fuzzer to begin from."""
    folder = scratch / "seeds"
    checkpoint.write_folder(folder, checkpoint.model_files(checkpoint.build(SMALL), ""))
    config = (folder / checkpoint.CONFIG).read_bytes()
    return [IS_CONFIG + config, IS_WEIGHTS + save(TENSORS), IS_WEIGHTS + save(TENSORS, {"a": "b"})]


def one_input(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    path = scratch / "file"
    path.write_bytes(content)
    try:
        if kind == IS_WEIGHTS:
            tensors = checkpoint.read_tensors(path, TENSORS)
            found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
            assert found == EXPECTED
            assert all(tensor.isfinite().all() for tensor in tensors.values())
        else:
            checkpoint.blank(read_config(path), str(path))
    except DidaError as error:
        line = str(error)
        assert line.startswith(str(path)) and line.isprintable() and len(line) < LONGEST, line


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Any change, but every other one keeps a header's length right, to come further than it."""
    if data[:1] != IS_WEIGHTS or len(data) < 10 or seed % 2:
        return bytes(atheris.Mutate(data, most))
    size = min(struct.unpack("<Q", data[1:9])[0], len(data) - 9)
    header, body = data[9 : 9 + size], data[9 + size :]
    header = bytes(atheris.Mutate(header, max(size, most - 9 - len(body))))
    return IS_WEIGHTS + struct.pack("<Q", len(header)) + header + body


def main() -> None:
    torch.set_num_threads(1)
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([*sys.argv, str(corpus)], one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
