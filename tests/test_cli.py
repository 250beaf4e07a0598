import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLES, RETOUCH, Result, machine_made, retouching, saved, write_picture
from PIL import Image

from dida_cli import __version__, checkpoint
from dida_cli.config import DEFAULT_MODEL

Dida = Callable[..., Result]


def values(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def test_version_and_help(dida: Dida) -> None:
    assert dida("--version") == Result(0, f"dida {__version__}\n", "")
    for arguments in ([], ["--help"]):
        result = dida(*arguments)
        assert result.code == 0 and "transfer" in result.out and result.err == ""
    for command in ("transfer", "remove-attribute", "interpolate", "train", "evaluate", "data"):
        assert dida(command, "--help").code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["transfer", "--help"], ["frob"]])
def test_nothing_heavy_is_imported_before_there_is_work(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom dida_cli.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'PIL', 'matplotlib', 'safetensors'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_edit_imports_nothing_that_it_does_not_need(
    model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    arguments = ["transfer", "-m", model_folder, "-c", picture, "--guide-a", picture]
    arguments += ["-o", tmp_path / "o.png", "--sheet", tmp_path / "s.png"]
    program = (
        "import sys\nfrom dida_cli.cli import main\n"
        f"try: main({[str(a) for a in arguments]!r})\nexcept SystemExit as e: assert not e.code\n"
        "assert 'torch' in sys.modules\n"
        "heavy = {'torch._dynamo', 'torchvision', 'sympy', 'matplotlib', 'huggingface_hub'}\n"
        "heavy |= {'onnxruntime', 'python_avatars', 'PIL.PdfImagePlugin'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_transfer_writes_the_picture_and_prints_its_path(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    out, sheet = tmp_path / "new" / "out.png", tmp_path / "sheet.png"
    options = ("-m", model_folder, "-c", picture, "--guide-a", picture, "-o", out)
    result = dida("transfer", *options, "--sheet", sheet)
    assert result == Result(0, f"{out}\n", f"dida: sheet: {sheet}\n")
    assert values(out).shape == (32, 32, 3)
    with Image.open(sheet) as made:
        assert made.width > 3 * 128 and made.height > 128  # content, guide, result


def test_same_input_same_bytes_alone_in_a_folder_and_through_a_pipe(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guide = write_picture(tmp_path / "guide.png", seed=9)
    folder = tmp_path / "folder"
    write_picture(folder / "a.png", seed=5)
    (folder / "b.png").write_bytes(picture.read_bytes())
    options = ("transfer", "-m", model_folder, "--guide-b", guide)
    assert dida(*options, "-c", picture, "-o", tmp_path / "alone.png").code == 0
    assert dida(*options, "-c", folder, "-o", tmp_path / "many").code == 0
    alone = (tmp_path / "alone.png").read_bytes()
    assert (tmp_path / "many" / "b.png").read_bytes() == alone
    command = [sys.executable, "-m", "dida_cli", *map(str, options), "-c", "-"]
    piped = subprocess.run(command, input=picture.read_bytes(), capture_output=True)
    assert (piped.returncode, piped.stderr) == (0, b"") and piped.stdout == alone


def test_the_guide_and_the_options_change_the_result(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guides = [write_picture(tmp_path / f"guide{i}.png", seed=20 + i) for i in range(2)]
    calls = {
        "one": ["--guide-a", guides[0]],
        "other": ["--guide-a", guides[1]],
        "side b": ["--guide-b", guides[0]],
        "union": ["--guide-a", guides[0], "--guide-b", guides[1]],
        "kept": ["--guide-a", guides[0], "--keep", "glasses"],
        "weak": ["--guide-a", guides[0], "--strength", 0.5],
    }
    made = {}
    for name, options in calls.items():
        out = tmp_path / f"{name}.png"
        assert dida("transfer", "-m", model_folder, "-c", picture, *options, "-o", out).code == 0
        made[name] = out.read_bytes()
    assert len(set(made.values())) == len(calls)


def test_strength_zero_is_the_models_own_reconstruction(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guide = write_picture(tmp_path / "guide.png", seed=9)
    outs = [tmp_path / "transfer.png", tmp_path / "remove.png"]
    options = ("-m", model_folder, "--no-metadata", "--strength", 0, "-o")
    dida("transfer", *options, outs[0], "-c", picture, "--guide-a", guide)
    dida("remove-attribute", *options, outs[1], picture)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_json_tells_all_about_each_output(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for index in range(3):
        write_picture(folder / "deep" / f"{index}.png", seed=index)
    out = tmp_path / "out"
    options = ("-m", model_folder, "--guide-a", picture, "--keep", "both", "--json")
    result = dida("transfer", "-c", folder, *options, "-o", out)
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0 and result.err == ""
    assert [line["output"] for line in lines] == [str(out / "deep" / f"{i}.png") for i in range(3)]
    assert lines[0]["transferred"] == ["smile"] and lines[0]["kept"] == ["glasses"]
    assert lines[0]["device"] == "cpu" and len(lines[0]["model_sha256"]) == 64
    assert lines[0]["guide_a"] == str(picture) and lines[0]["content"].endswith("0.png")


def test_a_bad_picture_is_refused_alone_and_passed_over_in_a_folder(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for index in range(2):
        write_picture(folder / f"{index}.png", seed=index)
    bad = folder / "bad.png"
    bad.write_bytes(picture.read_bytes()[:200])
    out = tmp_path / "out"
    result = dida("remove-attribute", "-m", model_folder, folder, "-o", out)
    assert result.code == 1
    assert sorted(p.name for p in out.iterdir()) == ["0.png", "1.png"]
    assert f"{bad}: damaged picture" in result.err and "1 of 3 pictures" in result.err
    alone = dida("remove-attribute", "-m", model_folder, bad, "-o", tmp_path / "x.png")
    assert alone.code == 1 and alone.out == "" and alone.err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_names_stay_distinct_and_trees_are_kept(
    dida: Dida, model_folder: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_picture(one / "a.png", seed=1)
    write_picture(one / "a.bmp", seed=2)
    write_picture(one / "sub" / "a.png", seed=3)
    write_picture(two / "a.png", seed=4)
    write_picture(two / "a.bmp", seed=5)
    out = tmp_path / "out"
    assert dida("remove-attribute", "-m", model_folder, one, "-o", out).code == 0
    made = sorted(str(p.relative_to(out)) for p in out.rglob("*.png"))
    assert made == ["a.bmp.png", "a.png.png", "sub/a.png"]
    result = dida("remove-attribute", "-m", model_folder, one, two, "-o", tmp_path / "both")
    assert result.code == 0 and len(set(result.out.splitlines())) == 5
    assert len(list((tmp_path / "both").rglob("*.png"))) == 5


def test_removal_takes_names_of_parts(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    made = []
    for attribute in ("a", "smile", "b", "glasses", "both"):
        out = tmp_path / f"{attribute}.png"
        options = ("-m", model_folder, picture, "--attribute", attribute, "-o", out, "--json")
        result = dida("remove-attribute", *options)
        made.append((json.loads(result.out)["removed"], out.read_bytes()))
    assert made[0] == made[1] and made[2] == made[3] and len({m[1] for m in made}) == 3
    assert made[4][0] == ["smile", "glasses"]


def test_interpolation_ends_where_the_transfers_are(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guides = [write_picture(tmp_path / f"guide{i}.png", seed=20 + i) for i in range(2)]
    out, frames = tmp_path / "row.png", tmp_path / "frames"
    both = [option for guide in guides for option in ("--guide-a", guide)]
    options = ("-m", model_folder, "-c", picture, *both, "--steps", 4, "-o", out, "--no-metadata")
    assert dida("interpolate", *options, "--frames", frames) == Result(0, f"{out}\n", "")
    assert sorted(p.name for p in frames.iterdir()) == [f"00-0{i}.png" for i in range(4)]
    for guide, frame in zip(guides, ("00-00", "00-03"), strict=True):
        single = tmp_path / "single.png"
        one = ("-m", model_folder, "-c", picture, "--guide-a", guide, "--no-metadata")
        dida("transfer", *one, "-o", single)
        assert single.read_bytes() == (frames / f"{frame}.png").read_bytes()


@pytest.mark.parametrize("moving", [("a", "b"), ("content", "a"), ("content", "b")])
def test_two_moving_codes_make_a_grid(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path, moving: tuple[str, str]
) -> None:
    options: list[object] = [] if "content" in moving else ["-c", picture]
    for seed, name in enumerate(moving):
        option = "--content" if name == "content" else f"--guide-{name}"
        for end in range(2):
            file = write_picture(tmp_path / f"{name}{end}.png", seed=40 + 2 * seed + end)
            options += [option, file]
    frames, out = tmp_path / "frames", tmp_path / "grid.png"
    options += ["-m", model_folder, "--steps", 3, "--frames", frames, "--json"]
    for where in ([], ["-o", out], ["-o", out, "--sheet", tmp_path / "sheet.png"]):
        refused = dida("interpolate", *options, *where)
        assert refused.code == 2 and "which makes a grid: give --sheet" in refused.err
    result = dida("interpolate", *options, "--sheet", out)
    assert result.code == 0 and json.loads(result.out)["steps"] == 3
    assert len({p.read_bytes() for p in frames.iterdir()}) == 9
    with Image.open(out) as grid:
        assert grid.height > 3 * 128 and grid.width > 3 * 128


def test_none_is_a_guide_without_the_part(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    options = ("--guide-a", "none", "--guide-a", picture, "--frames", frames, "--no-metadata")
    dida("interpolate", "-m", model_folder, "-c", picture, *options, "-o", tmp_path / "row.png")
    removed = tmp_path / "removed.png"
    silent = ("-m", model_folder, "--no-metadata")
    dida("remove-attribute", *silent, picture, "--attribute", "both", "-o", removed)
    assert (frames / "00-00.png").read_bytes() == removed.read_bytes()


def test_none_that_does_not_move_is_a_part_taken_off(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guides = [write_picture(tmp_path / f"guide{i}.png", seed=20 + i) for i in range(2)]
    moving = [option for guide in guides for option in ("--guide-b", guide)]
    made = []
    for name, options in (("none", ["--guide-a", "none", "--keep", "both"]), ("off", [])):
        frames = tmp_path / name
        options = [*options, *moving, "--frames", frames, "-o", tmp_path / "row.png"]
        assert dida("interpolate", "-m", model_folder, "-c", picture, *options).code == 0
        made.append([path.read_bytes() for path in sorted(frames.iterdir())])
    assert made[0] == made[1]


def test_what_a_model_cannot_do_names_one_that_can(
    dida: Dida, retouch_folder: Path, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.png"
    two = ("interpolate", "-c", picture, "-c", picture, "-m", retouch_folder, "-o", out)
    masks = ("segment", picture, "-m", model_folder, "-o", out)
    for arguments, said in (
        (two, "draw none between two contents; -m avatars-smile-glasses-didd can"),
        (masks, f"-m {DEFAULT_MODEL} has them"),
    ):
        result = dida(*arguments)
        assert result.code == 1 and said in result.err and result.err.count("\n") == 1, result
    assert not out.exists()


def test_without_a_common_code_guides_are_moved_between_on_the_content(
    dida: Dida, retouch_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guide, frames = write_picture(tmp_path / "guide.png", seed=9), tmp_path / "frames"
    options = ("-m", retouch_folder, "-c", picture, "--steps", 3, "--no-metadata")
    moving = ("--guide-a", "none", "--guide-a", guide, "--frames", frames)
    assert dida("interpolate", *options, *moving, "-o", tmp_path / "row.png").code == 0
    made = [path.read_bytes() for path in sorted(frames.iterdir())]
    assert len(set(made)) == 3
    single = tmp_path / "single.png"
    arguments = ("-m", retouch_folder, "-c", picture, "--guide-a", guide, "--no-metadata")
    assert dida("transfer", *arguments, "-o", single).code == 0
    assert single.read_bytes() == made[2]


def test_a_guide_that_shows_no_such_part_is_told_once(tmp_path: Path) -> None:
    """An untrained network takes nothing off, so that no picture has anything."""
    blind = saved(checkpoint.build(RETOUCH).eval(), tmp_path / "blind")
    for index in range(3):
        write_picture(tmp_path / "in" / f"{index}.png", seed=index)
    guide = write_picture(tmp_path / "guide.png", seed=9)
    command = [sys.executable, "-m", "dida_cli", "transfer", "-m", str(blind)]
    command += ["-c", str(tmp_path / "in"), "--guide-b", str(guide), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    said = f"dida: warning: {blind} sees no glasses in its guide, and gives none\n"
    assert (done.returncode, done.stderr) == (0, said) and len(done.stdout.splitlines()) == 3


def test_wrong_usage_is_one_line_and_code_two(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    m = ("-m", model_folder)
    table: list[tuple[list[object], str]] = [
        (["frob"], "No such command 'frob'"),
        (["transfer", "--frob"], "No such option"),
        (["transfer", *m], "Give a picture to edit"),
        (["transfer", *m, "-c", picture], "Give --guide-a or --guide-b"),
        (["transfer", *m, "-c", "-", "--guide-a", "-"], "Only one picture can come from stdin"),
        (["transfer", *m, "-c", picture, "--guide-a", picture, "--keep", "hat"], "not 'hat'"),
        (["transfer", *m, "-c", picture, "--guide-a", picture, "--strength", 3], "--strength"),
        (["transfer", *m, "-c", picture, "--guide-a", picture, "--device", "tpu"], "--device"),
        (["transfer", *m, "-c", picture, "--guide-a", picture, "-o", "-", "--json"], "--json"),
        (["remove-attribute", *m, picture, "--attribute", "hat"], "a (smile), b (glasses)"),
        (["remove-attribute", *m, picture, "--attribute", "none"], "removes nothing"),
        (["remove-attribute", *m, picture, picture, "-o", "-"], "Only one picture"),
        (["interpolate", *m, "-c", picture], "nothing moves"),
        (["interpolate", *m, "-c", picture, *["--guide-a", picture] * 3], "given 3 times"),
        (["data"], "Missing command"),
    ]
    for arguments, said in table:
        result = dida(*arguments)
        assert result.code == 2 and said in result.err, (arguments, result)
        assert result.out == "" and result.err.count("\n") == 1, (arguments, result)
        assert result.err.startswith("dida: ") and "--help" in result.err


def test_three_moving_codes_are_refused(dida: Dida, model_folder: Path, picture: Path) -> None:
    twice = ["-c", picture, "--guide-a", picture, "--guide-b", picture] * 2
    result = dida("interpolate", "-m", model_folder, *twice)
    assert result.code == 2 and "a grid moves two" in result.err


def test_problems_are_one_line_and_code_one(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    m = ("-m", model_folder)
    (tmp_path / "empty").mkdir()
    transfer = ("transfer", "--guide-a", picture)
    table: list[tuple[tuple[object, ...], str]] = [
        ((*transfer, *m, "-c", "none.png"), "none.png: no such file"),
        ((*transfer, *m, "-c", tmp_path / "empty"), "holds no pictures"),
        ((*transfer, *m, "-c", __file__), "not a picture"),
        ((*transfer, *m, "-c", picture, "-o", "x.xyz"), "cannot write .xyz; use .png"),
        ((*transfer, *m, "-c", picture, "-o", picture), "write to another file"),
        ((*transfer, *m, "-c", picture, "-o", picture / "x.png"), "cannot be written"),
        ((*transfer, "-m", "nope", "-c", picture), "no model 'nope'"),
        ((*transfer, "-m", tmp_path / "empty", "-c", picture), "holds no config.json"),
        (("transfer", *m, "-c", picture, "--guide-a", "none.png"), "none.png: no such file"),
    ]
    for arguments, said in table:
        result = dida(*arguments)
        assert result.code == 1 and said in result.err, (arguments, result)
        assert result.out == "" and result.err.count("\n") == 1, (arguments, result)
    assert not Path("x.xyz").exists() and values(picture).shape == (40, 48, 3)


def test_a_guide_is_never_written_over(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guide = write_picture(tmp_path / "guide.png", seed=9)
    before = guide.read_bytes()
    options = ("-m", model_folder, "-c", picture, "--guide-a", guide, "-o", guide)
    assert dida("transfer", *options).code == 1
    assert guide.read_bytes() == before


def test_warnings_take_one_line_on_stderr(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    moving = tmp_path / "moving.gif"
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    command = [sys.executable, "-m", "dida_cli", "remove-attribute", "-m", str(model_folder)]
    command += [str(moving), "-o", str(tmp_path / "o.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    expected = f"dida: warning: {moving}: has several frames; only the first is used\n"
    assert (done.returncode, done.stderr) == (0, expected)


def test_a_closed_pipe_is_no_traceback(model_folder: Path, tmp_path: Path) -> None:
    for index in range(3):
        write_picture(tmp_path / "in" / f"{index}.png", seed=index)
    command = f"{sys.executable} -m dida_cli remove-attribute -m {model_folder} {tmp_path / 'in'}"
    command += f" -o {tmp_path / 'out'} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_data_avatars_and_split_make_folders_to_train_on(dida: Dida, tmp_path: Path) -> None:
    drawn, out = tmp_path / "drawn", tmp_path / "domains"
    result = dida("data", "avatars", "--out", drawn, "--count", 60, "--seed", 3, "--side", 32)
    assert (result.code, result.out) == (0, f"{drawn}\n")
    expression = ["--a", "Smiling", "--b", "Eyeglasses", "--without", "Beard"]
    result = dida("data", "split", "--data", drawn, *expression, "--out", out)
    assert result.code == 0
    counts = {
        Path(line.split("\t")[0]).name: int(line.split("\t")[1]) for line in result.out.splitlines()
    }
    assert list(counts) == ["trainA", "trainB", "testA", "testB"]
    assert counts == {name: len(list((out / name).iterdir())) for name in counts}
    assert counts["trainA"] > 0 and counts["trainB"] > 0
    again = dida("data", "split", "--data", drawn, *expression, "--out", out)
    assert again.code == 1 and "is not empty" in again.err
    wrong = dida("data", "split", "--data", drawn, "--a", "Hat", "--out", tmp_path / "x")
    assert wrong.code == 1 and "no attribute 'Hat'" in wrong.err and "Smiling" in wrong.err


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")
def test_cuda_edits_like_the_cpu(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    made = []
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.png"
        dida("remove-attribute", "-m", model_folder, picture, "--device", device, "-o", out)
        made.append(values(out))
    assert abs(made[0] - made[1]).max() <= 1


def test_stdin_that_is_no_picture_is_named(model_folder: Path, picture: Path) -> None:
    command = [sys.executable, "-m", "dida_cli", "transfer", "-m", str(model_folder)]
    command += ["-c", "-", "--guide-a", str(picture)]
    for contents in (b"", b"no picture", io.BytesIO(picture.read_bytes()).read(100)):
        done = subprocess.run(command, input=contents, capture_output=True)
        assert done.returncode == 1 and done.stdout == b""
        assert done.stderr.startswith(b"dida: stdin: ") and done.stderr.count(b"\n") == 1


# Faces


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--face", "0"], "--face takes largest, all, or 1, 2"),
        (["--face", "small"], "--face takes largest, all, or 1, 2"),
        (["--landmarks", "1,2,3"], "--landmarks takes ten numbers"),
        (["--landmarks", "1,2,3,4,5,6,7,8,9,nan"], "--landmarks takes ten numbers"),
        (["--landmarks", "1,2,1,2,5,6,7,8,9,10"], "both eyes lie at one place"),
        (["--face", "all"], "looks for no faces; drop --face"),
        (["--strict"], "looks for no faces; drop --face"),
    ],
)
def test_faces_that_cannot_be_meant_are_usage_errors(
    dida: Dida, retouch_folder: Path, picture: Path, options: list[str], words: str
) -> None:
    said = dida("remove-attribute", picture, "-m", retouch_folder, *options)
    assert said.code == 2 and words in " ".join(said.err.replace("│", " ").split())


def test_pictures_without_a_face_are_named_and_passed_over(
    dida: Dida, tmp_path: Path, picture: Path
) -> None:
    model = saved(retouching(replace(RETOUCH, fit="face")), tmp_path / "of-faces")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "face.jpg").write_bytes(machine_made("sfhq_0000.jpg"))
    write_picture(folder / "sea.png", seed=3)
    said = dida("remove-attribute", folder, "-m", model, "-o", tmp_path / "out")
    assert said.code == 1 and f"{folder / 'sea.png'}: no face is found" in said.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["face.png"]
    told = dida(
        *("transfer", "-c", folder / "face.jpg", "--guide-a", folder / "face.jpg", "-m", model),
        *("--face", "1", "-o", tmp_path / "one.png"),
    )
    assert told.code == 0 and (tmp_path / "one.png").is_file()
    assert f"{picture}: no face" in dida("segment", picture, "-m", model).err


@pytest.mark.filterwarnings("default")
def test_a_photo_is_told_to_a_model_of_drawings(dida: Dida, tmp_path: Path) -> None:
    model = saved(retouching(replace(RETOUCH, fit="drawing")), tmp_path / "of-drawings")
    photo, out = EXAMPLES / "person.jpg", tmp_path / "out.png"
    words = f"{photo}: looks like a photo, and {model} knows drawings"
    remove = ("remove-attribute", "-m", model, "-o", out)
    told = dida(*remove, photo)
    assert told.code == 0 and out.is_file() and told.err.count(words) == 1
    guided = ("-c", EXAMPLES / "glasses.png", "--guide-a", photo)
    assert words in dida("transfer", *guided, "-m", model, "-o", out).err
    out.unlink()
    refused = dida(*remove, photo, "--strict")
    assert refused.code == 1 and not out.exists()
    assert f"{words}; -m portraits knows photos" in refused.err
    assert dida(*remove, EXAMPLES / "glasses.png", "--strict") == Result(0, f"{out}\n", "")
    faces = dida(*remove, photo, "--strict", "--face", "all")
    assert faces.code == 2 and "looks for no faces" in faces.err


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG"), (".apng", "PNG")]
)
def test_an_interpolation_is_a_moving_picture(
    dida: Dida, retouch_folder: Path, picture: Path, tmp_path: Path, suffix: str, kind: str
) -> None:
    guide, out = write_picture(tmp_path / "guide.png", seed=9), tmp_path / f"morph{suffix}"
    options = ("-m", retouch_folder, "-c", picture, "--guide-a", "none", "--guide-a", guide)
    assert dida("interpolate", *options, "--steps", 3, "-o", out) == Result(0, f"{out}\n", "")
    with Image.open(out) as moving:
        assert moving.format == kind and moving.is_animated and moving.n_frames == 4  # and back
        assert moving.size == (48, 40) and moving.info["loop"] == 0
    model = ("--size", "model", "-o", out)
    assert dida("interpolate", *options, "--steps", 3, *model).code == 0
    with Image.open(out) as moving:
        assert moving.size == (32, 32)


def test_an_interpolation_has_a_sheet_beside_it(
    dida: Dida, retouch_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guide, out = write_picture(tmp_path / "guide.png", seed=9), tmp_path / "morph.gif"
    sheet, still = tmp_path / "sheet.png", tmp_path / "morph.jpg"
    options = ("-m", retouch_folder, "-c", picture, "--guide-a", "none", "--guide-a", guide)
    options = (*options, "--steps", 3)
    made = dida("interpolate", *options, "-o", out, "--sheet", sheet)
    assert made == Result(0, f"{out}\n", "")
    with Image.open(sheet) as row:
        assert row.width > 3 * 128 > row.height and not row.is_animated
    refused = dida("interpolate", *options, "-o", still)
    assert refused.code == 1 and "does not move; give a .gif" in refused.err
    twice = dida("interpolate", *options, "-o", "-", "--sheet", "-")
    assert twice.code == 1 and "would be written twice" in twice.err and not still.exists()


def test_contents_may_stand_without_their_option(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    guide, more = (write_picture(tmp_path / f"{i}.png", seed=i) for i in (8, 9))
    silent = ("-m", model_folder, "--guide-a", guide, "--no-metadata", "-o")
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    assert dida("transfer", picture, *silent, one).code == 0
    assert dida("transfer", "-c", picture, *silent, other).code == 0
    assert one.read_bytes() == other.read_bytes()
    assert dida("transfer", picture, more, *silent, tmp_path / "both").code == 0
    assert (tmp_path / "both" / picture.name).read_bytes() == one.read_bytes()
    result = dida("transfer", *silent, one)
    assert result.code == 2 and "Give a picture to edit" in result.err
