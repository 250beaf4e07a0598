"""The table of all methods: trained by their recipes, judged, and gone on with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from conftest import Result
from PIL import Image

from benchmarks import search
from dida_cli import recipe
from dida_cli.cli import benchmark, costs, finish
from dida_cli.data import avatars, digits
from dida_cli.evaluate import attributes, report, table1, validation
from dida_cli.evaluate import digits as digits_of

Dida = Callable[..., Result]
FONT = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "faces"
    avatars.write_set(folder, count=160, seed=3, side=64, workers=1)
    return folder


def test_every_method_has_its_recipe_of_equal_steps_batch_and_side() -> None:
    names = {path.stem for path in (recipe.RECIPES / "table1").glob("*.toml")}
    assert names == set(table1.METHODS)
    entrants = list(benchmark._entrants([], None, None))
    assert len(entrants) == 3 * (len(names) + 1)  # press takes two trainings
    assert len({(e.recipe.stages[0], e.recipe.seed, e.recipe.data) for e in entrants}) == 1
    directions = [(e.method, direction) for e in entrants for direction in e.directions]
    assert len(set(directions)) == len(directions) == 6 * len(names)
    of_press = next(e for e in entrants if e.name == "beard-smile-press-smile")
    assert of_press.recipe.expressions == {"a": ("Smiling and not Beard", "Beard and not Smiling")}


def test_methods_are_trained_judged_and_put_side_by_side(
    dida: Dida, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def here(*arguments: str) -> int:
        trained.append(arguments[-1])
        return dida(*arguments).code

    monkeypatch.setattr(benchmark, "_dida", here)
    monkeypatch.setattr(costs, "seconds", lambda *_: 60.0)
    monkeypatch.setattr(benchmark, "PAIRS", (("beard", "smile"),))
    monkeypatch.setattr(finish, "PAIRS", 6)
    monkeypatch.setattr(report, "DIVERSITY", 2)
    chosen = ["--only", "fader", "--data", faces, "--steps", 2]
    asked = ["benchmark", "table1", *chosen, "-o", tmp_path / "runs", "--report", tmp_path / "docs"]
    told = dida(*asked)
    assert told.code == 0, told.err
    assert len(trained) == 1
    page = (tmp_path / "docs" / "table1.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    found = [(row[0].strip("| "), row[1]) for row in rows[1:3]]
    assert found == [
        ("smile to beard", "Fader Networks, NIPS 2017"),
        ("beard to smile", "Fader Networks, NIPS 2017"),
    ]
    scores = json.loads((tmp_path / "runs" / "beard-smile-fader" / "scores.json").read_text())
    target = scores["directions"]["beard to smile"]["classification"]["target"]
    assert rows[2][2] == f"{100 * target:.1f} %"
    with Image.open(tmp_path / "docs" / "table1.png") as sheet:
        assert sheet.height > 4 * 128 and sheet.width > 2 * table1.SHOWN * 128
    before = (tmp_path / "docs" / "table1.png").read_bytes()
    shutil.rmtree(tmp_path / "runs" / "beard-smile-fader" / "model")
    assert dida(*asked).code == 0 and len(trained) == 1  # what is done is not done again
    assert (tmp_path / "docs" / "table1.png").read_bytes() == before


def test_settings_are_tried_on_validation_pairs_and_not_twice(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validation, "PAIRS", 2)
    monkeypatch.setattr(search, "TRIED", {"fader": ["width=16 confusion=0.5"]})
    out = tmp_path / "found.jsonl"
    asked = ["--data", str(faces), "--steps", "2", "-o", str(out)]
    for _ in range(2):
        search.main(asked)
        found = [json.loads(line) for line in out.read_text().splitlines()]
        assert [one["changed"] for one in found] == ["", "width=16 confusion=0.5"]
        told = capsys.readouterr().out
        for one in found:
            assert 0 <= one["score"] <= 1 and f"| {one['score']:.3f} |" in told
    assert found[0]["kept_a"] != found[1]["kept_a"]


def test_digits_are_trained_on_without_labels_and_read_both_ways(
    dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = np.random.default_rng(0).integers(0, 256, (100, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x=written, y=np.arange(100) % 10)
    monkeypatch.setattr(digits, "fonts", lambda: [FONT])
    assert dida("data", "digits", "--mnist", "mnist.npz").out == "digits\n"
    monkeypatch.setattr(benchmark, "_dida", lambda *arguments: dida(*arguments).code)
    monkeypatch.setattr(attributes, "LEAST_STEPS", 2)
    monkeypatch.setattr(attributes, "EPOCHS", 1)
    monkeypatch.setattr(attributes, "EPOCHS_OF_PARTS", 1)
    monkeypatch.setattr(report, "DIVERSITY", 2)
    monkeypatch.setattr(costs, "seconds", lambda *_: 60.0)
    asked = ["benchmark", "digits", "--only", "didd", "--steps", 1]
    told = dida(*asked)
    assert told.code == 0 and told.out == "runs/digits/digits.md\n", told.err
    page = Path("runs/digits/digits.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| didd: ")]
    assert [row[0] for row in rows] == ["| didd: street to mnist", "| didd: mnist to street"]
    assert all(0 <= float(cell.split(" %")[0]) <= 100 for row in rows for cell in row[1:])
    with Image.open("runs/digits/digits.png") as sheet:
        assert sheet.height > 6 * 128 and sheet.width > digits_of.SHOWN * 128
    assert "1 trainings, about 1 min" in dida(*asked, "--dry-run").err
    assert "is no .npz of pictures x" in dida("data", "digits", "--mnist", FONT, "--out", "o").err


def test_a_dry_run_starts_nothing_and_what_fails_is_told(
    dida: Dida, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "PAIRS", (("beard", "smile"),))
    asked = ["benchmark", "table1", "--only", "fader", "--data", faces, "-o", tmp_path / "runs"]
    told = dida(*asked, "--dry-run")
    assert told.code == 0 and "1 trainings" in told.err and not (tmp_path / "runs").exists()
    monkeypatch.setattr(costs, "seconds", lambda *_: 60.0)
    unknown = dida("benchmark", "table1", "--only", "magic")
    assert unknown.code == 1 and "no method 'magic' in the table; there are retouch" in unknown.err
    monkeypatch.setattr(benchmark, "_dida", lambda *_: 1)
    assert "its training ended without scores" in dida(*asked).err
    monkeypatch.setattr(benchmark, "_dida", lambda *_: 130)
    assert dida(*asked).code == 130
