"""Files, names and streams as they come: one bad thing never ends a folder's run, and no name of a
file reaches a terminal as it is."""

import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result, write_picture
from PIL import Image, TiffImagePlugin

from dida_cli import images
from dida_cli.cli import console
from dida_cli.cli import editor as cli_editor
from dida_cli.data import folders

Dida = Callable[..., Result]


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A folder of three pictures."""
    for index in range(3):
        write_picture(tmp_path / "some" / f"{index}.png", seed=index)
    return tmp_path / "some"


def run(
    *arguments: object, tail: str = "", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """dida in a process of its own, by a shell, which closes its streams as `tail` says."""
    command = [sys.executable, "-m", "dida_cli", *map(str, arguments)]
    words = subprocess.list2cmdline(command)
    return subprocess.run(
        f"{words} {tail}", shell=True, capture_output=True, env={**os.environ, **environment}
    )


def two_pages(path: Path, tag: int, value: int) -> Path:
    """A TIFF of two pages whose second says something else in one of its tags."""
    pages = [Image.new("RGB", (24, 20), color) for color in ("red", "blue")]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    contents = bytearray(path.read_bytes())
    first = int.from_bytes(contents[4:8], "little")
    count = int.from_bytes(contents[first : first + 2], "little")
    second = int.from_bytes(contents[first + 2 + 12 * count :][:4], "little")
    for entry in range(second + 2, second + 2 + 12 * count, 12):
        if int.from_bytes(contents[entry : entry + 2], "little") == tag:
            contents[entry + 8 : entry + 10] = value.to_bytes(2, "little")
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("photometric", [9999, 3])
def test_a_damaged_second_page_is_not_looked_at(tmp_path: Path, photometric: int) -> None:
    page = two_pages(
        tmp_path / "pages.tif", TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, photometric
    )
    with Image.open(page) as damaged, pytest.raises((KeyError, SyntaxError, OSError)):
        damaged.seek(1)
        damaged.load()
    with pytest.warns(UserWarning, match="several frames"):
        assert images.read(page).size == (24, 20)


def test_frames_are_never_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = two_pages(tmp_path / "pages.tif", 0, 0)

    def counted(self: object) -> int:
        raise AssertionError("all frames were gone through")

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "n_frames", property(counted))
    with pytest.warns(UserWarning, match="several frames"):
        images.read(page)


def test_what_is_no_file_is_named_and_passed_over(
    dida: Dida, model_folder: Path, some: Path, tmp_path: Path
) -> None:
    (some / "loop.png").symlink_to("loop.png")
    os.mkfifo(some / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(some)  # a socket's path must be short
        listening.bind("socket.png")
        result = dida("remove-attribute", "-m", model_folder, some, "-o", tmp_path / "out")
        alone = dida("remove-attribute", "-m", model_folder, some / "pipe.png")
    assert result.code == 1 and len(list((tmp_path / "out").iterdir())) == 3
    for name in ("loop", "pipe", "socket"):
        assert f"{some / name}.png: " in result.err
    assert "3 of 6 pictures were passed over" in result.err
    assert alone.code == 1 and alone.err.count("\n") == 1 and "is a pipe or a device" in alone.err


def test_a_training_set_passes_over_the_same(some: Path) -> None:
    (some / "loop.png").symlink_to("loop.png")
    os.mkfifo(some / "pipe.png")
    pictures = folders.read(images.pictures_in(some), 32)
    assert len(pictures.rows) == 3 and len(pictures.unreadable) == 2


def test_any_exception_stays_with_its_file(
    dida: Dida, model_folder: Path, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = images.encode

    def sometimes(picture: images.Picture, *more: str, **named: str) -> bytes:
        if images.name_of(picture).endswith("1.png") or sometimes.count:  # type: ignore[attr-defined]
            return encode(picture, *more, **named)
        sometimes.count += 1  # type: ignore[attr-defined]
        raise ZeroDivisionError("of a library")

    sometimes.count = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(images, "encode", sometimes)
    result = dida("remove-attribute", "-m", model_folder, some, "-o", tmp_path / "out")
    assert result.code == 1 and len(list((tmp_path / "out").iterdir())) == 2
    assert "ZeroDivisionError('of a library'); passed over" in result.err
    assert "1 of 3 pictures were passed over" in result.err


@pytest.mark.parametrize("encoding", ["utf-8:strict", "cp1252:strict", "ascii:strict"])
def test_names_that_standard_output_cannot_hold_are_escaped(
    model_folder: Path, some: Path, tmp_path: Path, encoding: str
) -> None:
    for name in (b"\xff\xfe.png", "пять.png".encode()):
        write_picture(some / "0.png", 0).rename(os.fsdecode(os.fsencode(some) + b"/" + name))
    write_picture(some / "0.png", 0)
    out = tmp_path / "out"
    arguments = ["remove-attribute", "-m", model_folder, some, "-o", out]
    told = run(*arguments, PYTHONIOENCODING=encoding)
    assert told.returncode == 0 and told.stderr == b""
    assert len(told.stdout.splitlines()) == len(list(out.iterdir())) == 5
    assert rb"\udcff\udcfe.png" in told.stdout
    lines = run(*arguments, "--json", PYTHONIOENCODING=encoding).stdout.splitlines()
    assert len(lines) == 5 and all(line.isascii() for line in lines)
    assert {Path(json.loads(line)["output"]) for line in lines} == set(out.iterdir())


HOSTILE = "a\x1b[31mred\n\x9b31m\u202egnp"


def test_no_name_reaches_a_terminal_raw(dida: Dida, model_folder: Path) -> None:
    result = dida("remove-attribute", "-m", model_folder, f"{HOSTILE}.png")
    assert result.code == 1 and result.err.count("\n") == 1
    assert r"a\x1b[31mred\n\x9b31m\u202egnp.png: no such file" in result.err
    result = dida("transfer", "-c", "x.png", "--guide-a", "y.png", "-m", HOSTILE)
    assert result.code == 1 and result.err.count("\n") == 1 and result.err[:-1].isprintable()


def test_data_on_a_terminal_is_escaped_and_in_a_pipe_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.out(HOSTILE)
    assert capsys.readouterr().out == f"{HOSTILE}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console.out(HOSTILE)
    assert capsys.readouterr().out == "a\\x1b[31mred\\n\\x9b31m\\u202egnp\n"


@pytest.mark.parametrize(
    ("arguments", "tail", "words"),
    [
        (["models", "list"], ">&-", "standard output is closed"),
        (["models", "list"], ">/dev/full", "standard output cannot be written (No space left"),
        (["remove-attribute", "-", "-m", "MODEL"], "<&-", "standard input is closed"),
        (["remove-attribute", "PICTURE", "-m", "MODEL", "-o", "-"], ">/dev/full", "No space left"),
        (["remove-attribute", "PICTURE", "-m", "MODEL", "-o", "-"], ">&-", "output is closed"),
    ],
)
def test_closed_and_full_streams_are_one_line(
    model_folder: Path, picture: Path, arguments: Sequence[str], tail: str, words: str
) -> None:
    known = {"MODEL": model_folder, "PICTURE": picture}
    done = run(*(known.get(one, one) for one in arguments), tail=tail)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert words in done.stderr.decode()


def test_nobody_to_hear_complaints_changes_nothing(model_folder: Path, picture: Path) -> None:
    for tail in ("2>&-", "2>/dev/full"):
        done = run("remove-attribute", picture, "-m", model_folder, "-o", "-", tail=tail)
        assert done.returncode == 0 and done.stdout.startswith(b"\x89PNG")
        assert run("remove-attribute", "none.png", tail=tail).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["remove-attribute", "LONG"],
        ["remove-attribute", "PICTURE", "-o", "LONG.png"],
        ["remove-attribute", "PICTURE", "-m", "LONG"],
        ["remove-attribute", "PICTURE", "-m", "org/LONG"],
        ["transfer", "-c", "PICTURE", "--guide-a", "LONG"],
        ["train", "--data", "LONG"],
        ["train", "LONG.toml"],
        ["data", "check", "LONG"],
        ["evaluate", "--data", "LONG"],
    ],
)
def test_paths_that_are_too_long_are_one_line(
    dida: Dida, picture: Path, arguments: Sequence[str]
) -> None:
    long = "x" * 300
    words = [one.replace("LONG", long).replace("PICTURE", str(picture)) for one in arguments]
    result = dida("--offline", *words)
    assert result.code in (1, 2) and result.err.count("\n") == 1, result.err


def test_an_interrupted_folder_says_what_was_written(
    dida: Dida, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(30):
        write_picture(tmp_path / "many" / f"{index:02d}.png", seed=index)
    said: list[str] = []

    def interrupted(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(console, "out", interrupted)
    out = tmp_path / "out"
    result = dida("remove-attribute", "-m", model_folder, tmp_path / "many", "-o", out)
    written = list(out.iterdir())
    assert result.code == 130 and 3 <= len(written) < 30
    assert f"interrupted; {len(written)} of 30 pictures are written, each whole" in result.err
    for path in written:
        with Image.open(path) as whole:
            assert np.asarray(whole).shape == (32, 32, 3)


def test_what_a_library_warns_of_comes_with_the_files_name(
    dida: Dida, model_folder: Path, tmp_path: Path
) -> None:
    paletted = Image.new("P", (40, 40))
    paletted.info["transparency"] = b"\x00\x80"
    paletted.save(tmp_path / "p.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "r.tif")
    contents = (tmp_path / "r.tif").read_bytes()
    (tmp_path / "r.tif").write_bytes(contents[:-2] + b"\xff\xff")
    for name in ("p.png", "r.tif"):
        out = tmp_path / "out.png"
        result = dida("remove-attribute", "-m", model_folder, tmp_path / name, "-o", out)
        for line in result.err.splitlines():
            assert name in line


def test_outputs_of_one_place_are_refused_before_work(
    dida: Dida, masked_folder: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.png").symlink_to("o.png")
    edit = ("remove-attribute", "-m", masked_folder, picture, "-o", tmp_path / "o.png")
    for option in ("--sheet", "--mask-out"):
        for other in (tmp_path / "o.png", tmp_path / "x" / ".." / "o.png", tmp_path / "link.png"):
            result = dida(*edit, option, other)
            assert result.code == 1 and "would be written twice" in result.err
    both = ("--sheet", tmp_path / "s.png", "--mask-out", tmp_path / "s.png")
    assert "would be written twice" in dida(*edit, *both).err
    assert not (tmp_path / "o.png").exists() and not (tmp_path / "s.png").exists()
    assert dida(*edit, "--sheet", tmp_path / "s.png", "--mask-out", tmp_path / "m.png").code == 0


def test_several_pictures_go_to_a_folder_not_to_a_name_of_one(
    dida: Dida, model_folder: Path, some: Path, tmp_path: Path
) -> None:
    edit = ("remove-attribute", "-m", model_folder)
    for inputs in ([some], [some / "0.png", some / "1.png"]):
        result = dida(*edit, *inputs, "-o", tmp_path / "both.png")
        assert result.code == 1 and "is the name of one picture; give a folder" in result.err
    assert not (tmp_path / "both.png").exists()


@pytest.mark.parametrize("here", [".", "..", "./", "../some"])
def test_outputs_are_named_after_the_folder_that_a_dot_means(
    dida: Dida, model_folder: Path, some: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(some / "inner" if here == ".." and not (some / "inner").mkdir() else some)
    assert dida("remove-attribute", "-m", model_folder, here).code == 0
    made = Path("some.removed")
    assert made.is_dir() and len(list(made.iterdir())) == 3


def test_an_empty_argument_is_refused(dida: Dida, picture: Path) -> None:
    for arguments in (("remove-attribute", ""), ("transfer", "-c", picture, "--guide-a", "")):
        result = dida(*arguments)
        assert result.code == 1 and "an argument is empty" in result.err


def test_folders_are_read_by_content_and_say_what_is_passed_over(
    dida: Dida, model_folder: Path, some: Path, tmp_path: Path
) -> None:
    with Image.open(some / "0.png") as one:
        for suffix, kind in (
            (".jfif", "JPEG"),
            (".JPE", "JPEG"),
            (".ppm", "PPM"),
            (".avif", "AVIF"),
        ):
            if kind in Image.SAVE:
                one.save(some / f"x{suffix}", kind)
    readable = len(list(some.iterdir()))
    assert readable >= 6
    for name in ("a.heic", "b.HEIC", "c.jxl", "notes.txt"):
        (some / name).write_bytes(b"whatever")
    (some / "bad.png").write_bytes(b"whatever")
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = dida("remove-attribute", "-m", model_folder, some, "-o", out)
    assert result.code == 1 and len(list(out.iterdir())) == readable
    named, failed, last = result.err.splitlines()
    assert named.startswith(f"dida: {some / 'bad.png'}: ")
    assert failed.startswith(f"dida: 1 of {readable + 1} pictures were passed over")
    assert last == f"dida: warning: {some}: 3 files passed over: .heic, .jxl (not read here)"
    for name in sorted(some.iterdir()):
        if name.suffix.lower() in images.SUFFIXES:
            name.unlink()
    result = dida("remove-attribute", "-m", model_folder, some, "-o", tmp_path / "none")
    assert result.code == 1 and "holds no pictures (3 files passed over" in result.err


def test_the_only_picture_of_a_domain_is_said_to_be_held_out(
    dida: Dida, domains: Path, tmp_path: Path
) -> None:
    for path in sorted((domains / "trainA").iterdir())[1:]:
        path.unlink()
    result = dida("data", "check", domains, "--side", 32, "--batch", 1)
    assert result.code == 1 and "no picture to learn from in 'trainA' (" in result.err
    assert "held out); add pictures" in result.err


def test_large_pictures_take_turns(
    dida: Dida, model_folder: Path, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3, 8):
        write_picture(some / f"{index}.png", seed=index)
    together, most = 0, []
    encode = images.encode

    def counted(*given: Any, **named: Any) -> bytes:
        nonlocal together
        together += 1
        most.append(together)
        time.sleep(0.02)
        together -= 1
        return encode(*given, **named)

    monkeypatch.setattr(images, "encode", counted)
    monkeypatch.setattr(cli_editor.os, "cpu_count", lambda: 4)
    edit = ("remove-attribute", "-m", model_folder, some)
    assert dida(*edit, "-o", tmp_path / "small").code == 0
    assert max(most) > 1
    most.clear()
    monkeypatch.setattr(cli_editor, "LARGE", 48 * 40 - 1)
    assert dida(*edit, "-o", tmp_path / "large").code == 0
    assert max(most) == 1 and len(most) == 8
