"""Model folders from elsewhere: whatever their files hold, a load is whole or one line.

One line means a DidaError that names the file, prints on a terminal as it is, costs no memory by
what the file claims, and comes soon.
"""

import faulthandler
import io
import json
import os
import pickle
import re
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import configured
from hypothesis import given, settings
from hypothesis import strategies as st

import dida_cli
from dida_cli import checkpoint, methods
from dida_cli.config import Fit
from dida_cli.errors import DidaError

EXAMPLES = 300  # of every property test; fuzz/ goes on for as long as one likes
SECONDS = 30  # until a load counts as hanging
MEMORY = 64_000_000  # bytes that refusing any file may take
LONGEST = 700  # characters of a line, with a path of the tests in it

SMALLEST = configured("didd", grid=8, width=2, common=1, separate=1)
CONFIG = SMALLEST.to_json()
CONFIG_TEXT = json.dumps(CONFIG)


class Files(dict[str, bytes]):
    """What a whole model folder holds, by name."""

    def __repr__(self) -> str:
        return f"Files of {', '.join(self)}"  # Hypothesis shows what a test was given

    def at(self, folder: Path, **changed: bytes) -> Path:
        folder.mkdir(exist_ok=True)
        names = {"config": checkpoint.CONFIG, "weights": checkpoint.WEIGHTS}
        for name, content in (self | {names[key]: new for key, new in changed.items()}).items():
            (folder / name).write_bytes(content)
        return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whole") / "model"
    checkpoint.write_folder(folder, checkpoint.model_files(checkpoint.build(SMALLEST), ""))
    # Whatever the first load of a process takes, and torch's spectral norm, is not a file's fault.
    checkpoint.load(folder)
    for method, more in (("didd", {"architecture": "paper"}), ("mask", {}), ("retouch", {})):
        checkpoint.blank(configured(method, b="", **more))
    return Files({path.name: path.read_bytes() for path in folder.iterdir()})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "model"


@contextmanager
def soon() -> Iterator[None]:
    """Ends the whole test run with a traceback at a hang, for one in Rust hears of no signal."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def little_memory() -> Iterator[None]:
    """Where Linux tells the peak of what is resident, it grows by no more than MEMORY inside."""
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        yield
        return
    forget.write_text("5")  # the peak is now what is resident now
    before = memory("VmHWM")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # A load that fails the test should not fill the machine on its way.
    resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") + 10 * MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert memory("VmHWM") - before < MEMORY


def memory(kind: str) -> int:
    """Bytes of this process, of a kind that proc(5) names."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{kind}:\s+(\d+) kB", status)[0])


def refusal(folder: Path) -> str:
    with soon(), little_memory(), pytest.raises(DidaError) as caught:
        checkpoint.load(folder)
    assert_one_line(caught.value, folder)
    return str(caught.value)


def assert_one_line(error: DidaError, folder: Path) -> None:
    line = str(error)
    assert line.startswith(str(folder)) and line.isprintable() and len(line) < LONGEST


def changed(**values: object) -> bytes:
    return json.dumps(CONFIG | values).encode()


def of_method(**values: object) -> bytes:
    return changed(settings=CONFIG["settings"] | values)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


CONFIGS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not readable as JSON"),
    "half": (CONFIG_TEXT[:90].encode(), "not readable as JSON"),
    "a list": (b"[1, 2]", "expected an object"),
    "null": (b"null", "expected an object"),
    "a pickle": (pickle.dumps(CONFIG), "not readable as JSON"),
    "invalid UTF-8": (CONFIG_TEXT.replace("smile", "\xff").encode("latin-1"), "not readable"),
    "UTF-16": (CONFIG_TEXT.encode("utf-16"), "not readable as JSON"),
    "NUL bytes": (bytes(1000), "not readable as JSON"),
    "too many bytes": (CONFIG_TEXT.encode() + b" " * 200_000, "too large"),
    "deep lists": (b"[" * 90_000, "not readable as JSON"),
    "deep objects": (b'{"side":' * 10_000, "not readable as JSON"),
    "deep setting": (changed(side=0).replace(b": 0,", f": {nested(900)},".encode()), "config"),
    "a key twice": (CONFIG_TEXT.replace("{", '{"side": 32, ', 1).encode(), "same key twice"),
    "a domain twice": (CONFIG_TEXT.replace('{"a"', '{"a": "x", "a"').encode(), "same key twice"),
    "a key too many": (changed(weights="/etc/passwd"), "unknown setting 'weights'"),
    "a key to print": (changed(**{"\x1b[2J\n" + "x" * 5000: 1}), "unknown setting"),
    "a key too few": (json.dumps({"side": 32}).encode(), "is missing"),
    "a path as method": (changed(method="../../evil"), "no method '../../evil'; there are"),
    "a module as method": (changed(method="dida_cli.train"), "no method"),
    "a method to print": (changed(method="\x1b[2J\n" + "x" * 9000), "no method"),
    "a list as method": (changed(method=["didd"]), "method must be of type str"),
    "long words": (changed(fit="x" * 90_000), "fit must be one of"),
    "half a character": (changed(fit="\ud800"), "fit must be one of"),
    "lines in a name": (changed(domains={"a": "x\ny", "b": "z"}), "printable"),
    "a long name": (changed(domains={"a": "x" * 90_000, "b": "z"}), "printable"),
    "a name of codes": (changed(domains={"a": "\x1b]0;x\x07", "b": "z"}), "printable"),
    "names as a list": (changed(domains=["a", "b"]), "expected an object"),
    "text for a number": (changed(side="32"), "side must be of type int"),
    "true for a number": (changed(side=True), "side must be of type int"),
    "null for a number": (changed(side=None), "side must be of type int"),
    "a broken number": (changed(side=32.0), "side must be of type int"),
    "NaN": (of_method(zero=float("nan")), "zero must be 0 or more"),
    "infinity": (of_method(zero=float("inf")), "zero must be 0 or more"),
    "1e999": (CONFIG_TEXT.replace('"zero": 1.0', '"zero": 1e999').encode(), "zero must be 0"),
    "no settings": (changed(settings=None), "settings must be a table"),
    "settings as a list": (changed(settings=[1]), "settings must be a table"),
    "a setting too many": (of_method(path="/etc/passwd"), "unknown setting 'path'"),
    "a setting to print": (of_method(**{"\x1b[2J\n" + "x" * 5000: 1}), "unknown setting"),
    "deep settings": (
        of_method(zero=0).replace(b'"zero": 0', f'"zero": {nested(900)}'.encode()),
        "",
    ),
    "text in settings": (of_method(width="192"), "width must be of type int"),
    "long words in settings": (of_method(architecture="x" * 90_000), "architecture must be one of"),
    "no pixels": (changed(side=0), "side must be"),
    "a huge side": (changed(side=2**62), "side must be"),
    "a huge grid": (of_method(grid=10**4000), "side 32 does not halve"),
    "a negative grid": (of_method(grid=-(10**4000)), "grid must be"),
    "5000 digits": (CONFIG_TEXT.replace("32", "9" * 5000).encode(), "not readable as JSON"),
    "a huge width": (of_method(width=10**9), "width must be"),
    "a huge code": (of_method(common=2**64), "common must be"),
    "a network of gigabytes": (
        json.dumps(
            CONFIG | {"side": 256, "settings": {"width": 4096, "common": 4096, "grid": 2}}
        ).encode(),
        "tensor",
    ),
    "another network": (of_method(common=2), "belong together"),
    "another method": (changed(method="layers", settings={}), "tensor"),
    "a method for one part": (changed(method="mask", settings={}), "one-sided, as published"),
    "another method's settings": (changed(method="retouch"), "unknown setting"),
    "a method that went": (changed(architecture="compact"), "no longer has; train the model anew"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_hostile_configs_are_refused(whole: Files, tmp_path: Path, case: str) -> None:
    content, words = CONFIGS[case]
    assert words in refusal(whole.at(tmp_path / "m", config=content))


def header_of(weights: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", weights[:8])[0]
    return json.loads(weights[8 : 8 + size]), weights[8 + size :]


def packed(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(**values: object) -> Callable[[bytes], bytes]:
    """Changes what the header says of one tensor."""

    def change(weights: bytes) -> bytes:
        header, body = header_of(weights)
        header["decoder.0.bias"] |= values
        return packed(header, body)

    return change


def renamed(name: str) -> Callable[[bytes], bytes]:
    """Adds an empty tensor of that name."""

    def change(weights: bytes) -> bytes:
        header, body = header_of(weights)
        header[name] = {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]}
        return packed(header, body)

    return change


def in_header(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(weights: bytes) -> bytes:
        header, body = header_of(weights)
        text = json.dumps(header).encode()
        assert old in text
        return packed(text.replace(old, new, 1), body)

    return change


def without_a_tensor(weights: bytes) -> bytes:
    header, body = header_of(weights)
    del header["decoder.0.bias"]
    return packed(header, body)


def ended_by(value: float) -> Callable[[bytes], bytes]:
    return lambda weights: weights[:-4] + struct.pack("<f", value)


def zipped(weights: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"decoder.0.bias": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def arrays(weights: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(2))
    return buffer.getvalue()


BROKEN = "not a whole safetensors file"
WEIGHTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda w: b"", BROKEN),
    "seven bytes": (lambda w: w[:7], BROKEN),
    "eight bytes": (lambda w: w[:8], BROKEN),
    "half a header": (lambda w: w[:200], BROKEN),
    "a header alone": (lambda w: packed(header_of(w)[0], b""), BROKEN),
    "half the weights": (lambda w: w[: len(w) // 2], BROKEN),
    "a byte too few": (lambda w: w[:-1], BROKEN),
    "a byte too many": (lambda w: w + b"\0", BROKEN),
    "a gigabyte of zeros to come": (lambda w: struct.pack("<Q", 10**9) + w[8:], BROKEN),
    "a header of 2**64 - 1": (lambda w: b"\xff" * 8 + w[8:], BROKEN),
    "a header past the end": (lambda w: struct.pack("<Q", 400_000) + w[8:], BROKEN),
    "a long header": (lambda w: packed(b'{"__metadata__":{' + b" " * 10**7 + b"}}", b""), BROKEN),
    "a header of much": (lambda w: packed(b"[" + b"{}," * 160_000 + b"{}]", b""), BROKEN),
    "a torch.save": (zipped, BROKEN),
    "an npz": (arrays, BROKEN),
    "text": (lambda w: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", BROKEN),
    "a list": (lambda w: packed([], b""), BROKEN),
    "deep": (lambda w: packed(b'{"a":' * 50_000, b""), BROKEN),
    "invalid UTF-8": (in_header(b"decoder.0.bias", b"decoder.0.bia\xff"), BROKEN),
    "a name twice": (in_header(b"{", b'{"x": 1, "x": 1, '), "same key twice"),
    "an entry twice": (in_header(b'"dtype"', b'"dtype": "F16", "dtype"'), "same key twice"),
    "a number as tensor": (in_header(b'"decoder.0.bias": {', b'"decoder.0.bias": 1, "x": {'), "x"),
    "numbers in metadata": (in_header(b"{", b'{"__metadata__": {"a": 1}, '), BROKEN),
    "a tensor too many": (renamed("spare"), "tensor spare does not belong"),
    "a name of lines": (renamed("spare\n\x1b[2J" + "x" * 9000), "does not belong"),
    "a tensor too few": (without_a_tensor, "decoder.0.bias is missing"),
    "an empty object": (lambda w: packed({}, b""), "is missing"),
    "another shape": (entry(shape=[3]), "has shape [3]"),
    "no shape": (entry(shape=None), "no shape and type"),
    "an overflowing shape": (entry(shape=[2**62, 2**62]), "has shape"),
    "an empty huge shape": (entry(shape=[0, 2**63]), "has shape"),
    "many sides": (entry(shape=[1] * 50_000), "has shape"),
    "a deep shape": (entry(shape=json.loads(nested(900))), "decoder.0.bias"),
    "a negative shape": (entry(shape=[-16]), "has shape"),
    "a shape of floats": (entry(shape=[16.0]), BROKEN),
    "half precision": (entry(dtype="F16"), "is torch.float16, not torch.float32"),
    "whole numbers": (entry(dtype="I32"), "is I32, not torch.float32"),
    "four bits": (entry(dtype="F4"), "is F4, not torch.float32"),
    "a type of lines": (entry(dtype="F\n32" + "x" * 9000), "not torch.float32"),
    "a number as type": (entry(dtype=32), "no shape and type"),
    "offsets of another": (entry(data_offsets=[8, 16]), BROKEN),
    "offsets past the end": (entry(data_offsets=[2**40, 2**40 + 8]), BROKEN),
    "offsets backwards": (entry(data_offsets=[8, 0]), BROKEN),
    "negative offsets": (entry(data_offsets=[-8, 0]), BROKEN),
    "offsets of 2**64": (entry(data_offsets=[2**64, 2**64 + 8]), BROKEN),
    "no offsets": (entry(data_offsets=[]), BROKEN),
    "NaN": (ended_by(float("nan")), "not finite"),
    "infinity": (ended_by(float("inf")), "not finite"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_hostile_weights_are_refused(whole: Files, tmp_path: Path, case: str) -> None:
    change, words = WEIGHTS[case]
    folder = whole.at(tmp_path / "m", weights=change(whole[checkpoint.WEIGHTS]))
    assert words in refusal(folder)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_opened(whole: Files, tmp_path: Path, protocol: int) -> None:
    sprung = tmp_path / "sprung"
    bait = pickle.dumps(Trap(sprung), protocol)
    assert BROKEN in refusal(whole.at(tmp_path / "m", weights=bait))
    torch.save(Trap(sprung), tmp_path / "m" / checkpoint.WEIGHTS)
    assert BROKEN in refusal(tmp_path / "m")
    assert not sprung.exists()
    pickle.loads(bait)
    assert sprung.exists()  # so the bait was good


def test_only_a_conversion_reads_pickles() -> None:
    """And that one by torch's restricted unpickler."""
    for path in Path(dida_cli.__file__).parent.rglob("*.py"):
        code = path.read_text()
        assert not re.search(r"import pickle\b|allow_pickle=True|weights_only=False", code), path
        restricted = code.count("torch.load(") == code.count("weights_only=True")
        assert restricted if path.name == "convert.py" else "torch.load(" not in code, path


@pytest.mark.parametrize("numbers", [10**6, 10**9, 10**12])
def test_a_claim_of_any_size_costs_nothing(whole: Files, tmp_path: Path, numbers: int) -> None:
    """Files with holes, as large as they say: 4 TB at most, of which the disk holds a page."""
    weights = whole[checkpoint.WEIGHTS]
    header, body = header_of(weights)
    for name, words in (("decoder.0.bias", "has shape"), ("spare", "does not belong")):
        end = len(body) + 4 * numbers
        new = {"dtype": "F32", "shape": [numbers], "data_offsets": [len(body), end]}
        large = packed(header | {name: new}, b"")
        for content, said in ((large, words), (weights[: -len(body)], BROKEN)):
            folder = whole.at(tmp_path / "m", weights=content)
            os.truncate(folder / checkpoint.WEIGHTS, len(content) + end)
            assert said in refusal(folder)


def fifo(path: Path) -> None:
    os.mkfifo(path)


ODDITIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "is a folder, a pipe or a device"),
    "a pipe": (fifo, "is a folder, a pipe or a device"),
    "a link to zeros without end": (lambda path: path.symlink_to("/dev/zero"), "or a device"),
    "a link to the terminal": (lambda path: path.symlink_to("/dev/tty"), "or a device"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "not "),
    "a file of the kernel": (lambda path: path.symlink_to("/proc/self/status"), "not "),
}


@pytest.mark.parametrize("case", ODDITIES)
@pytest.mark.parametrize("name", [checkpoint.CONFIG, checkpoint.WEIGHTS])
def test_what_is_no_file_is_refused(whole: Files, tmp_path: Path, name: str, case: str) -> None:
    folder = whole.at(tmp_path / "m")
    (folder / name).unlink()
    make, words = ODDITIES[case]
    make(folder / name)
    line = refusal(folder)
    assert name in line and words in line


def test_a_model_stays_what_it_was_when_its_file_changes(whole: Files, tmp_path: Path) -> None:
    model = checkpoint.load(whole.at(tmp_path / "m"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole.at(tmp_path / "m", weights=bytes(len(whole[checkpoint.WEIGHTS])))  # in place
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@st.composite
def damaged(draw: st.DrawFn, content: bytes, head: int) -> bytes:
    """A file after some accidents, half of them in its first `head` bytes."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at, other = (
            draw(st.integers(0, min(head, len(data))) | st.integers(0, len(data))) for _ in "ab"
        )
        match draw(st.sampled_from(["bytes", "digits", "cut", "end", "splice", "swap"])):
            case "bytes":
                new = draw(st.binary(min_size=1, max_size=8))
                data[at : at + len(new)] = new
            case "digits":
                new = draw(st.integers(0, 2**70).map(lambda n: str(n).encode()))
                data[at : at + draw(st.integers(0, len(new)))] = new
            case "cut":
                del data[min(at, other) : max(at, other)]
            case "end":
                del data[at:]
            case "splice":
                data[at:at] = data[other : other + draw(st.integers(1, 200))]
            case "swap":
                part = data[other : other + draw(st.integers(1, 200))]
                data[at : at + len(part)] = part
    return bytes(data)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
# Values that a setting may have, so that networks of any kind are asked for.
of_codes = st.fixed_dictionaries(
    {},
    optional={
        "architecture": st.sampled_from(["compact"] * 4 + ["paper"]),  # which takes a second
        "grid": st.sampled_from([2, 4, 8, 16]),
        "width": st.integers(1, 4096),
        "common": st.integers(1, 4096),
        "separate": st.integers(1, 4),
        "zero": st.floats(0, 1),
    },
)
of_retouch = st.fixed_dictionaries(
    {}, optional={"code": st.integers(1, 256), "width": st.integers(1, 256), "realism": st.floats()}
)
usual: dict[str, st.SearchStrategy[object]] = {
    "method": st.sampled_from([*methods.MODULES]),
    "domains": st.sampled_from([{"a": "hat", "b": "beard"}, {"a": "hat", "b": ""}]),
    "side": st.sampled_from([32, 64, 128, 256]),
    "fit": st.sampled_from(get_args(Fit)),
    "settings": st.one_of(
        of_codes,
        of_codes.map(lambda some: CONFIG["settings"] | some),
        of_retouch,
        st.dictionaries(st.sampled_from([*CONFIG["settings"], "code"]), junk, max_size=2),
    ),
}
odd = st.dictionaries(st.sampled_from([*CONFIG, "more"]), junk, max_size=1)
property_test = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)


def loads_whole_or_is_refused(folder: Path, shapes: list[tuple[int, ...]]) -> None:
    with soon(), little_memory():
        try:
            model = checkpoint.load(folder)
        except DidaError as error:
            assert_one_line(error, folder)
            return
    values = model.state_dict().values()
    assert [tuple(value.shape) for value in values] == shapes
    assert all(value.isfinite().all() for value in values)


@pytest.fixture(scope="module")
def shapes() -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in checkpoint.blank(SMALLEST).state_dict().values()]


@property_test
@given(data=st.data())
def test_any_damage_to_the_config(
    whole: Files, scratch: Path, shapes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    content = whole[checkpoint.CONFIG]
    whole.at(scratch, config=data.draw(damaged(content, len(content))))
    loads_whole_or_is_refused(scratch, shapes)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # of widths below 4
@property_test
@given(values=st.fixed_dictionaries({}, optional=usual), more=odd)
def test_any_values_in_the_config(
    whole: Files,
    scratch: Path,
    shapes: list[tuple[int, ...]],
    values: dict[str, object],
    more: dict[str, object],
) -> None:
    loads_whole_or_is_refused(whole.at(scratch, config=changed(**(values | more))), shapes)


@property_test
@given(data=st.data())
def test_any_damage_to_the_weights(
    whole: Files, scratch: Path, shapes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    content = whole[checkpoint.WEIGHTS]
    head = 8 + struct.unpack("<Q", content[:8])[0]
    whole.at(scratch, weights=data.draw(damaged(content, head)))
    loads_whole_or_is_refused(scratch, shapes)
