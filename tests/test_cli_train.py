"""dida train: recipes, people's own pictures, what a run leaves, resumes, dry runs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY, Result, write_picture
from PIL import Image
from trained import recipe_for

from dida_cli import checkpoint, hub, images, locks, recipe
from dida_cli import run as runs
from dida_cli import train as core
from dida_cli.cli import begin, costs, finish, trainer
from dida_cli.codes import transfer
from dida_cli.config import read_config
from dida_cli.data import avatars
from dida_cli.distributed import ALONE
from dida_cli.evaluate import attributes, validation
from dida_cli.players import Batch, Network, Sides
from dida_cli.training import Training

Dida = Callable[..., Result]
NARROW = ["--set", "settings.width=16", "--set", "settings.common=8"]
TINY_RUN = ["--side", 32, "--batch", 4, "--set", "training.save_every=2", *NARROW]
RETOUCH = [f"--set=settings.{name}=4" for name in ("code", "width", "encoder_width")]
FACES = ["--side", 32, "--batch", 4, "--steps", 2, *RETOUCH]
SMALLEST = f"""
method = "didd"
data = "{{data}}"
[parts.a]
name = "a"
with = "trainA"
without = "trainB"
[parts.b]
name = "b"
with = "trainB"
without = "trainA"
[[stages]]
side = 32
steps = 2
batch = 4
[training]
precision = "float32"
score_every = 0
[settings]
{"".join(f"{name} = {value}" + chr(10) for name, value in SMALL.items())}
"""


@pytest.fixture
def small(domains: Path, tmp_path: Path) -> Path:
    """A recipe of a training on two folders that takes no time."""
    path = tmp_path / "small.toml"
    path.write_text(SMALLEST.format(data=domains))
    return path


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawn faces, with their labels."""
    root = tmp_path_factory.mktemp("drawn") / "faces"
    avatars.write_set(root, count=60, seed=1, side=32, workers=1)
    return root


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(run: Path) -> dict[str, Any]:
    """What a run's recipe says."""
    return tomllib.loads((run / "recipe.toml").read_text())


# What is trained


def test_list_tells_each_recipe_on_a_line(dida: Dida) -> None:
    result = dida("train", "--list")
    assert result.code == 0
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert list(lines) == recipe.names() and "avatars-smile-glasses" in lines
    assert lines["avatars-beard"] == recipe.values_of("avatars-beard")["about"]


def test_pictures_of_ones_own_are_not_taken_for_drawings(
    dida: Dida, domains: Path, tmp_path: Path
) -> None:
    assert recipe.values_of("avatars-beard")["fit"] == "drawing"
    options = ["--method", "retouch", "--name-b", "none", "--data", domains]
    sizes = ["--side", 32, "--steps", 1, "--batch", 2, "--set", "settings.width=4"]
    result = dida("train", *options, *sizes, "-o", tmp_path / "run")
    assert result.code == 0, result.err
    assert written(tmp_path / "run")["fit"] == "crop"


def test_where_a_recipe_says_how_parts_are_put_into_its_pictures_there_are_pairs(
    dida: Dida, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "PAIRS", 6)
    options = ["avatars-smile-glasses", "--data", faces, "--side", 32, "--steps", 2, "--batch", 2]
    for setting in (
        "settings.width=4",
        "settings.code=0",
        "training.log_every=1",
        "parts.a.region=[0.5, 0.8, 0.25, 0.16]",
        "parts.b.drawn=true",
    ):
        options += ["--set", setting]
    run = tmp_path / "run"
    result = dida("train", *options, "-o", run)
    assert result.code == 0, result.err
    parts = written(run)["parts"]
    assert parts["a"]["region"] == [0.5, 0.8, 0.25, 0.16] and parts["b"]["drawn"]
    assert all(line["drawn"] > 0 for line in runs.read_log(run))


def test_a_recipe_gives_way_to_options_and_these_to_set(
    dida: Dida, small: Path, tmp_path: Path
) -> None:
    small.write_text(small.read_text().replace("[[st", "[training]\nflip = false\n[[st", 1))
    small.write_text(small.read_text().replace('[training]\nprecision = "float32"\n', "", 1))
    run = tmp_path / "run"
    options = ["--name-a", "stripes", "--batch", 3, "--seed", 6, "--steps", 9]
    sets = ["--set", "stages.steps=1", "--set", "settings.confusion=0.4"]
    small.write_text(small.read_text().replace("score_every = 0\n", ""))
    result = dida("train", small, *options, *sets, "-o", run)
    assert result.code == 0, result.err
    found = written(run)
    assert [part["name"] for part in found["parts"].values()] == ["stripes", "b"]
    assert found["stages"] == [{"steps": 1, "side": 32, "batch": 3}]
    assert (found["seed"], found["training"]["flip"], found["fit"]) == (6, False, "crop")
    settings = found["settings"]
    assert (settings["confusion"], settings["width"], settings["rate"]) == (0.4, 16, 0.001)
    assert read_config(run / "model" / "config.json").domains.a == "stripes"


def test_a_runs_recipe_repeats_it_to_the_bit(dida: Dida, small: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--seed", 3, "--name-a", 'a "b"', "--set", "training.log_every=1"]
    assert dida("train", small, *options, "-o", first).code == 0
    result = dida("train", first / "recipe.toml", "-o", second)
    assert result.code == 0, result.err
    for name in ("recipe.toml", "model/model.safetensors", "last/state.safetensors", "log.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_what_cannot_be_trained_is_refused_in_one_line(
    dida: Dida, domains: Path, small: Path, faces: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def refused(*arguments: object) -> str:
        result = dida("train", *arguments, "-o", run)
        assert result.code in (1, 2) and result.out == "" and result.err.count("\n") == 1
        assert not run.exists()
        return result.err

    assert "fewer than the batch of 16; add pictures or use --batch 8" in refused(
        small, "--batch", 16
    )
    assert "neither trainA and trainB" in refused("--data", tmp_path)
    assert "side 100" in refused(small, "--side", 100)
    assert "rate must lie between 0 and 1" in refused(small, "--set", "settings.rate=2")
    assert "unknown setting 'rates'" in refused(small, "--set", "settings.rates=0")
    assert "name its parts with --name-a" in refused("--data", domains, "--a", "Smiling")
    assert "no attribute 'Hat'" in refused("--data", faces, "--a", "Hat")
    assert "no recipe 'smal'" in refused("smal")
    assert "no method 'magic'" in refused("--data", domains, "--method", "magic")
    assert "drop RECIPE or --method" in refused(small, "--method", "mask")
    assert "there is but one part" in refused("--data", faces, "--a", "Beard", "--name-b", "x")
    assert "celeba: holds neither" in refused("celeba-smile")
    assert "--override goes with --resume" in refused("--override")
    assert "lack just it" in refused("--data", domains, "--method", "retouch")
    (domains / "trainB" / "0.png").unlink()
    (domains / "trainB" / "0.png").symlink_to(domains / "trainA" / "3.png")
    assert "both with and without part a" in refused(small)
    for file in (domains / "trainB").iterdir():
        file.unlink()
    assert "trainB: holds no pictures" in refused(small)


def test_a_run_is_never_written_over(dida: Dida, small: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("x")
    result = dida("train", small, "-o", tmp_path / "run")
    assert result.code == 1 and "is not empty" in result.err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious"]


def test_runs_are_named_after_the_parts_and_numbered(
    dida: Dida, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("a-b", "a-b-2"):
        result = dida("train", small, "--steps", 1)
        assert result.out == f"{os.path.join('runs', expected)}\n"


# People's own pictures


def test_two_folders_are_learned_by_layers(dida: Dida, domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = dida("train", "--data", domains, *TINY_RUN, "--steps", 1, "-o", run)
    assert result.code == 0, result.err
    found, bundled = written(run), recipe.values_of("avatars-smile-glasses-folders")
    assert (found["method"], found["data"]) == ("layers", str(domains))
    assert found["parts"] == {
        "a": {"name": "a", "with": "trainA", "without": "trainB"},
        "b": {"name": "b", "with": "trainB", "without": "trainA"},
    }
    said = bundled.get("settings", {}).items()
    assert said <= found["settings"].items() and len(found["stages"]) == len(bundled["stages"])


def test_two_folders_of_which_one_has_a_part_are_retouched(
    dida: Dida, domains: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    names = ["--name-a", "stripes", "--name-b", "none"]
    result = dida("train", "--data", domains, *FACES, *names, "-o", run)
    assert result.code == 0, result.err
    found = written(run)
    assert found["method"] == "retouch"
    assert found["parts"] == {"a": {"name": "stripes", "with": "trainA", "without": "trainB"}}


def parts_of(dida: Dida, run: Path, *arguments: object) -> dict[str, Any]:
    """The parts of a recipe that a command writes."""
    shutil.rmtree(run, ignore_errors=True)
    result = dida("train", *arguments, "-o", run)
    assert result.code == 0, result.err
    found: dict[str, Any] = written(run)["parts"]
    return found


def test_parts_are_chosen_by_labels(
    dida: Dida, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "go", lambda *_: None)

    def told(*arguments: object) -> dict[str, Any]:
        return parts_of(dida, tmp_path / "run", "--data", faces, *arguments)

    default = recipe.values_of("avatars-smile-glasses")
    recipe.unplaced(default)  # where parts lie is known of its own pictures alone
    both = default["parts"]
    assert told(*FACES) == both
    assert told(*FACES, "--a", "Smiling", "--b", "Eyeglasses", "--name-b", "specs") == {
        "a": both["a"],
        "b": both["b"] | {"name": "specs"},
    }
    beard = {"name": "beard", "with": "Beard", "without": "not Beard"}
    assert told(*FACES, "--a", "Beard") == {"a": beard}
    assert told(*FACES, "--name-b", "none") == {"a": both["a"]}
    assert told(*FACES, "--a", "Beard", "--with", "Smiling", "--without", "Eyeglasses") == {
        "a": beard
        | {
            "with": "Beard and Smiling and not Eyeglasses",
            "without": "Smiling and not Beard and not Eyeglasses",
        }
    }
    didd = told("--method", "didd", "--a", "Smiling", "--b", "Beard", *TINY_RUN, "--steps", 1)
    assert didd["a"]["with"] == didd["b"]["without"] == "Smiling and not Beard"
    assert didd["b"]["with"] == didd["a"]["without"] == "Beard and not Smiling"
    bundled = parts_of(
        dida, tmp_path / "run", "avatars-beard", "--data", faces, "--with", "Smiling", *FACES
    )
    assert bundled["a"]["without"] == "(not Beard) and Smiling"


def test_a_recipe_trains_on_two_folders_too(
    dida: Dida, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "go", lambda *_: None)
    narrow = ["--set", "settings.width=32", "--set", "settings.common=8"]
    arguments = ["celeba-hair-colour", "--data", domains, "--side", 32, "--batch", 4, *narrow]
    assert parts_of(dida, tmp_path / "run", *arguments) == {
        "a": {"name": "black", "with": "trainA", "without": "trainB"}
    }
    assert written(tmp_path / "run")["fit"] == "squash"
    runs_recipe = tmp_path / "moved.toml"
    (tmp_path / "run" / "recipe.toml").rename(runs_recipe)
    moved = domains.rename(domains.with_name("moved"))
    told = parts_of(dida, tmp_path / "run", runs_recipe, "--data", moved)
    assert told["a"]["with"] == "trainA" and written(tmp_path / "run")["data"] == str(moved)


# What a run leaves


def test_a_run_leaves_a_model_with_its_card_and_examples(
    dida: Dida, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    names = ["--name-a", "stripes", "--name-b", "spots"]
    result = dida("train", "--data", domains, *TINY_RUN, *names, "--steps", 5, "-o", run)
    assert (result.code, result.out) == (0, f"{run}\n"), result.err
    made = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert {"recipe.toml", "log.jsonl", "curves.png", "last/state.safetensors"} <= made
    assert {f"sheets/step-00000{n}.png" for n in (2, 4, 5)} <= made
    assert {p for p in made if p.startswith("model/")} == {
        f"model/{name}"
        for name in ("config.json", "model.safetensors", "README.md", "examples/edits.png")
    }
    card = (run / "model" / "README.md").read_text()
    for words in (
        "Moves the stripes or the spots of one picture",
        "| steps | 5 of 5 at 32 px, 4 pictures of each set |",
        "8 pictures with stripes, 8 without; 8 pictures with spots, 8 without |",
        "command | `dida train --data",
        "Not measured: scores need 10 test pictures of each domain, not 2.",
        "![edits of the first held-out pictures](examples/edits.png)",
        recipe.load(str(run / "recipe.toml")).placeless.to_toml(),
    ):
        assert words in card
    assert "license:" not in card and "Not measured yet" in (run / "last/README.md").read_text()
    assert checkpoint.load(run / "model").config == checkpoint.load(run / "last").config
    weights = [(run / name / "model.safetensors").read_bytes() for name in ("model", "last")]
    assert weights[0] == weights[1]
    assert hub.resolve(str(run)) == run / "model"
    edited, picture = tmp_path / "edited.png", domains / "testA" / "0.png"
    done = dida("transfer", "-m", run, "-c", picture, "--guide-b", picture, "-o", edited)
    assert (done.code, done.out) == (0, f"{edited}\n") and edited.exists()


def test_enough_test_pictures_are_judged(
    dida: Dida, small: Path, domains: Path, tmp_path: Path
) -> None:
    counts = {"testA": 12, "testB": 12, "trainA": 20, "trainB": 20}
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_picture(domains / name / f"{index}.png", seed=50 * number + index)
    run = tmp_path / "run"
    result = dida("train", small, "-o", run)
    assert result.code == 0 and "told apart (real from real)" in result.err, result.err
    card = (run / "model" / "README.md").read_text()
    assert "12 unseen pairs each way" in card and "given to the target domain" in card
    shown = {p.name for p in (run / "model" / "examples").iterdir()}
    assert shown == {"part-a.png", "part-b.png"}
    assert all(f"](examples/{name})" in card for name in shown)


def test_drawn_faces_are_judged_by_their_factors(
    dida: Dida, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "PAIRS", 3)
    monkeypatch.setattr(finish, "PAIRS", 6)
    run = tmp_path / "run"
    arguments = ["--data", faces, *FACES, "--set", "training.score_every=1"]
    result = dida("train", *arguments, "-o", run)
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"score", "target_a", "guide_a", "kept_a", "kept_b"} <= lines[0].keys()
    assert not (run / "judge").exists() and (run / "best").exists()
    card = (run / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    for words in (
        "60 faces of `dida data avatars`, seed 1, side 32",
        "Pablo Stanley",
        "the guide's own kind",
        "best score",
    ):
        assert words in card
    shown = {p.name for p in (run / "model" / "examples").iterdir()}
    assert shown == {"part-a.png", "part-b.png", "worst.png"}


def test_the_judge_is_made_by_its_recipe(dida: Dida, faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["--steps", 2, "--batch", 8]
    result = dida("train", "avatars-factors", "--data", faces, *small, "-o", run)
    assert (result.code, result.out) == (0, f"{run}\n"), result.err
    attributes.load(run / "model")
    card = (run / "model" / "README.md").read_text()
    assert "2 steps of 8 pictures" in card and re.search(r"\| glasses \| \d+\.\d % \|", card)
    assert (run / "recipe.toml").read_text() in card
    again = tmp_path / "again"
    assert dida("train", run / "recipe.toml", "-o", again).code == 0
    weights = [(r / "model" / "model.safetensors").read_bytes() for r in (run, again)]
    assert weights[0] == weights[1]
    refused = dida("train", "avatars-factors", "--data", faces, "--a", "Beard")
    assert refused.code == 2 and "this recipe has no parts" in refused.err


def test_faces_that_are_yet_to_be_drawn_have_labels(
    dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ([], ["--a", "Smiling", "--b", "Eyeglasses"]):
        # settings that retouch alone has
        result = dida("train", "--data", "avatars", *given, "--dry-run", *FACES)
        assert result.code == 0, result.err
        assert "which are drawn first" in result.out and not list(tmp_path.iterdir())


def test_drawn_faces_are_drawn_when_they_are_not_there(
    dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(begin, "AVATAR_COUNT", 40)
    monkeypatch.setattr(trainer, "go", lambda *_: None)
    result = dida("train", "avatars-beard", *FACES)
    assert result.code == 0 and "drawing 40 avatars into avatars first" in result.err, result.err
    assert len(list(Path("avatars/images").iterdir())) == 40
    assert written(Path("runs/avatars-beard"))["data"] == "avatars"


def test_a_sheet_shows_edits_of_the_contents_themselves() -> None:
    network = Training(recipe_for(TINY)).network
    random = np.random.default_rng(0).integers(0, 255, (4, 3, 32, 32), dtype=np.uint8)
    pictures = images.to_unit(torch.from_numpy(random))
    guides, contents = pictures[:2], pictures[2:]
    moved = transfer(network.encode(contents[:1]), guide_a=network.encode(guides[:1]))
    edited = network.compose(moved, contents[:1]).image
    shown = np.asarray(finish.sheet(network, {"a": Sides(guides, contents)}))
    cell = np.asarray(images.to_pictures(edited)[0].resize((128, 128), Image.Resampling.NEAREST))
    left, top = 6 + 134, 6 + 2 * 134  # second column, third row
    assert (shown[top : top + 128, left : left + 128] == cell).all()


# Scores


def test_any_pictures_are_scored_by_a_judge_that_the_run_keeps(
    dida: Dida, small: Path, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("trainA", "trainB"):  # of which a tenth is held out
        for index in range(9, 100):
            write_picture(domains / part / f"{index:02}.png", seed=ord(part[-1]) * 100 + index)
    shutil.rmtree(domains / "testA")
    shutil.rmtree(domains / "testB")
    run = tmp_path / "run"
    arguments = ["--steps", 5, "--set", "training.score_every=2"]
    result = dida("train", small, *arguments, "-o", run)
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["score"] for line in lines}
    assert scores.keys() == {2, 4, 5}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert f"best score {scores[best]:.3f} at step {best}" in result.err
    assert f"dida transfer -m {run / 'best'}" in result.err
    kept = (run / "judge" / "model.safetensors").read_bytes()
    monkeypatch.setattr(attributes, "train_on_parts", lambda *_, **__: pytest.fail("trains anew"))
    more = ["--steps", 6, "--set", "training.patience=9"]
    result = dida("train", "--resume", run, "--override", *more)
    assert result.code == 0, result.err
    assert (run / "judge" / "model.safetensors").read_bytes() == kept


@pytest.mark.filterwarnings("default")
def test_a_training_without_better_scores_ends_early_and_tells_what_it_kept(
    dida: Dida, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scored(trainer.Watching):
        def score(self, network: Network) -> dict[str, float]:
            return {"score": 0.5}

    monkeypatch.setattr(trainer, "Watching", Scored)
    monkeypatch.setattr(runs, "critic_state", lambda log: "critic wins" if len(log) > 1 else None)
    run = tmp_path / "run"
    sets = ["--set", "training.score_every=1", "--set", "training.patience=2"]
    result = dida("train", small, "--steps", 9, *sets, "-o", run)
    assert result.code == 0, result.err
    assert "ended early at step 3: 2 scores without a better one" in result.err
    assert f"best score 0.500 at step 1; it is kept: dida transfer -m {run / 'best'}" in result.err
    words = "step 2: the critic was right of 95% of the codes"
    assert result.err.count(f"dida: warning: {words}") == 1
    assert result.err.count(f"dida: {words}") == 1  # at the end, again


def test_too_few_pictures_for_a_score_are_told_and_trained_on(
    dida: Dida, small: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = dida("train", small, "--set", "training.score_every=1", "-o", run)
    assert result.code == 0 and "no scores, and no best: scores need 10 held-out" in result.err
    assert not (run / "best").exists() and not (run / "judge").exists()


@pytest.mark.filterwarnings("default")
def test_a_bad_batch_is_told_by_its_files(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Training.advance

    def fails(self: Training, batch: Batch) -> Any:
        if self.step:
            raise core.NotFiniteError("step 1: the zero is not finite")
        return advance(self, batch)

    monkeypatch.setattr(Training, "advance", fails)
    taken: list[str] = []
    files = begin.Source.batches

    def noted(self: begin.Source, stage: recipe.Stage) -> Any:
        batches = files(self, stage)
        taken[:] = [Path(name).name for name in batches.files(1)]
        return batches

    monkeypatch.setattr(begin.Source, "batches", noted)
    run = tmp_path / "run"
    (domains / "trainA" / "0.png").write_bytes(b"")  # is skipped, with a warning that names it
    for number in range(8, 24):
        write_picture(domains / "trainA" / f"{number:02}.png", seed=number)
    result = dida("train", small, "-o", run)
    assert result.code == 1 and "step 1: the zero is not finite (" in result.err
    named = re.findall(r"trainA/(\d+\.png)", result.err)
    assert named == ["0.png", *taken[:4]] and " more)" in result.err


# Going on


def test_resume_reaches_the_end_and_keeps_its_recipe(
    dida: Dida, small: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["--steps", 6, "--set", "training.save_every=2"]
    assert dida("train", small, *arguments, "-o", whole).code == 0
    # What a kill leaves: the run of 6 steps with its state of step 4.
    assert dida("train", small, *arguments, "-o", parts).code == 0
    shutil.rmtree(parts / "last")
    shutil.rmtree(parts / "model")
    (parts / "last-1").rename(parts / "last")
    assert json.loads((parts / "last" / "progress.json").read_text())["step"] == 4
    assert dida("train", "--resume", parts).code == 0
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]
    card = (parts / "model" / "README.md").read_text()
    assert f"command | `dida train {small}" in card  # not the resume's
    done = dida("train", "--resume", parts)
    assert done.code == 0 and "already at step" in done.err and "--override --steps N" in done.err
    for option in (["--steps", 9], ["--set", "seed=9"], ["--without", "Beard"]):
        refused = dida("train", "--resume", parts, *option)
        assert refused.code == 2 and f"drop {option[0]}, or add --override" in refused.err
    for option in (["--dry-run"], ["-o", tmp_path / "new"], ["--method", "didd"], ["x"]):
        word = {"-o": "--out", "x": "RECIPE"}.get(str(option[0]), option[0])
        refused = dida("train", "--resume", parts, "--override", *option)
        assert refused.code == 2 and f"drop {word}." in refused.err


def test_two_stages_see_their_own_sides_and_go_on_from_the_boundary(
    dida: Dida, domains: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["--data", domains, "--name-b", "none", *FACES, "--set", "training.save_every=2"]
    assert dida("train", *arguments, "-o", whole).code == 0
    two = written(whole)["stages"] + [{"side": 48, "steps": 4, "batch": 2}]
    values = recipe.values_of(str(whole / "recipe.toml")) | {"stages": two}
    (tmp_path / "two.toml").write_text(recipe.parse(values, "two").to_toml())
    shutil.rmtree(whole)
    for run in (whole, parts):
        result = dida("train", tmp_path / "two.toml", "-o", run)
        assert result.code == 0, result.err
    progress = parts / "last-1" / "progress.json"
    assert (
        json.loads(progress.read_text())["stage"],
        read_config(parts / "model/config.json").side,
    ) == (1, 48)
    # What a kill leaves right after the first stage.
    dida("train", tmp_path / "two.toml", "-o", tmp_path / "first", "--set", "stages.steps=2")
    shutil.rmtree(parts / "last")
    shutil.rmtree(parts / "last-1")
    shutil.rmtree(parts / "model")
    shutil.copytree(tmp_path / "first" / "last-1", parts / "last")
    assert json.loads((parts / "last" / "progress.json").read_text())["stage"] == 0
    assert dida("train", "--resume", parts).code == 0
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]
    card = (parts / "model" / "README.md").read_text()
    assert "2 of 2 at 32 px, 4 pictures of each set; then 4 of 4 at 48 px, 2 pictures" in card


def test_a_run_that_is_over_is_not_judged_anew(
    dida: Dida, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert dida("train", small, "-o", run).code == 0
    monkeypatch.setattr(finish, "write", lambda *_: pytest.fail("judges anew"))
    assert dida("train", "--resume", run).code == 0


@pytest.fixture
def run(dida: Dida, small: Path, tmp_path: Path) -> Path:
    """A run of two steps on the eight and eight pictures of `domains`."""
    path = tmp_path / "run"
    assert dida("train", small, "-o", path).code == 0
    return path


def test_override_goes_on_by_other_settings_and_records_them(dida: Dida, run: Path) -> None:
    sets = ["--set", "settings.rate=0.0005", "--name-a", "stripes"]
    result = dida("train", "--resume", run, "--override", "--steps", 5, *sets)
    assert (result.code, result.out) == (0, f"{run}\n"), result.err
    assert "dida: override: stages.1.steps: 2 -> 5\n" in result.err
    assert "dida: override: settings.rate: 0.001 -> 0.0005\n" in result.err
    assert 'dida: override: parts.a.name: "a" -> "stripes"\n' in result.err
    assert result.err.count("override: ") == 3
    found = written(run)
    assert (found["stages"][0]["steps"], found["settings"]["rate"]) == (5, 0.0005)
    assert json.loads((run / "last" / "progress.json").read_text())["step"] == 5
    assert "| steps | 5 of 5" in (run / "model" / "README.md").read_text()
    assert runs.recorded(run)[1].command.endswith(
        f"dida train --resume {run} --override --steps 5 {' '.join(sets)}"
    )
    again = dida("train", "--resume", run)  # by the new settings, with nothing to tell of
    assert again.code == 0 and "override: " not in again.err


def test_override_refuses_another_network(dida: Dida, run: Path) -> None:
    before = everything_in(run)

    def refused(*arguments: object) -> str:
        result = dida("train", "--resume", run, "--override", *arguments)
        assert result.code in (1, 2) and result.out == "" and result.err.count("\n") == 1
        assert everything_in(run) == before
        return result.err

    words = refused("--set", "settings.width=32")
    assert "has shape" in words and "not by settings.width: 16 -> 32" in words
    assert "steps must be 1 or more" in refused("--steps", 0)
    assert "unknown setting 'mask'" in refused("--set", "settings.mask=1")


def test_pictures_that_changed_are_refused_and_accepted_by_override(
    dida: Dida, domains: Path, run: Path
) -> None:
    before = everything_in(run)
    (domains / "trainA" / "7.png").rename(domains / "trainA" / "75.png")
    (domains / "trainB" / "7.png").unlink()
    result = dida("train", "--resume", run)
    assert result.code == 1 and result.err.count("\n") == 1 and everything_in(run) == before
    assert "its pictures have changed (pictures with a: 8 files -> other names or" in result.err
    assert "; pictures without a: 8 files -> 7;" in result.err and "add --override" in result.err
    result = dida("train", "--resume", run, "--override")
    assert result.code == 0 and "override: pictures with b: 8 files -> 7\n" in result.err
    assert runs.recorded(run)[1].fingerprint["with b"]["files"] == 7
    assert dida("train", "--resume", run).code == 0


def test_pictures_that_moved_are_found_by_override(dida: Dida, domains: Path, run: Path) -> None:
    moved = domains.rename(domains.with_name("moved"))
    assert dida("train", "--resume", run).code == 1
    result = dida("train", "--resume", run, "--override", "--data", moved)
    assert result.code == 0 and result.err.count("override: ") == 1  # the same pictures elsewhere
    assert f'override: data: "{domains}" -> "{moved}"' in result.err
    assert runs.recorded(run)[1].root == written(run)["data"] == str(moved)


def test_ctrl_c_saves_and_leaves_with_130(small: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [small, "--steps", 100_000, "--set", "training.save_every=2", "-o", run]
    command = [sys.executable, "-m", "dida_cli", "train", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (run / "last").exists() and process.poll() is None:
            assert time.monotonic() < deadline, "no save within two minutes"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err and f"--resume {run}" in err
    step = json.loads((run / "last" / "progress.json").read_text())["step"]
    assert f"stopped at step {step}" in err
    checkpoint.load(run / "last")
    assert not (run / "model").exists()


# Dry runs


def test_a_dry_run_tells_the_costs_and_writes_nothing(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (domains / "trainB" / "7.png").unlink()
    before = everything_in(tmp_path)
    result = dida("train", small, "--dry-run", "--steps", 10**6)
    assert result.code == 0, result.err
    assert everything_in(tmp_path) == before
    told = result.out
    assert "8 with a, 7 without a, 7 with b, 8 without b (a, b)" in told
    critic = (8 * 4 * 4 + 1) * 512 + 512 + 1
    assert f"critic {critic:,} weights" in told
    (speed, days, hours) = re.findall(
        r"1,000,000 steps at 32 px, 4 .* ([\d.]+) steps/s, (?:(\d+) d )?(\d+) h", told
    )[0]
    assert 24 * int(days or 0) + int(hours) == pytest.approx(10**6 / float(speed) / 3600, abs=1.1)
    wanted = recipe.load(str(small))
    state = checkpoint.state_of(Training(wanted)._parts())
    network = checkpoint.blank(wanted.model(wanted.stages[0])).state_dict()
    sizes = [sum(t.nbytes for t in part.values()) for part in (state, network)]
    (in_run,) = re.findall(r"disk +([\d.]+) MB in the run, 0\.0 MB decoded", told)
    assert float(in_run) == pytest.approx((2 * sizes[0] + 4 * sizes[1]) / 1e6, rel=0.02)
    (memory,) = re.findall(r"memory +about ([\d,.]+) MB at most, on", told)
    assert 100 < float(memory.replace(",", "")) < 20_000


def test_a_dry_run_draws_no_faces(
    dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(avatars, "write_set", lambda *_, **__: pytest.fail("draws"))
    for name in ("avatars-beard", "avatars-factors"):
        result = dida("train", name, "--dry-run", *FACES[:4], *(RETOUCH if "b" in name[8] else []))
        assert result.code == 0, result.err
        assert "24,000 faces, which are drawn first" in result.out
        assert "steps/s" in result.out and not list(tmp_path.iterdir())


def test_a_dry_run_refuses_what_the_training_would(dida: Dida, small: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").write_text("x")
    assert "is not empty" in dida("train", small, "--dry-run", "-o", tmp_path / "taken").err
    assert "fewer than the batch of 9" in dida("train", small, "--dry-run", "--batch", 9).err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "1 min"), (59 * 60, "59 min"), (3600, "1 h 0 min"), (86_399, "1 d 0 h"), (2e5, "2 d 7 h")],
)
def test_durations_are_told_by_the_two_largest_units(seconds: float, words: str) -> None:
    assert costs.duration(seconds) == words


def test_a_recipe_of_a_table_trains_each_part_and_shows_what_may_be_shown(
    dida: Dida, tmp_path: Path
) -> None:
    lines = ["file,smile,glasses,person,kind,source,licence"]
    for index in range(160):
        write_picture(tmp_path / f"{index}.png", seed=index)
        kind = "made,me,CC0" if index % 5 else "official,House,CC BY"
        lines.append(f"{index}.png,{index % 2},{index // 2 % 2},p{index},{kind}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    small = ["--steps", "2", "--batch", "4", "--side", "32", "--split-by", "person"]
    sets = ["--set", "training.score_every=0", "--set", "shown=kind=made"]
    sets += [f"--set=settings.{n}=4" for n in ("code", "width", "encoder_width", "critic_width")]
    parts = ["--data", tmp_path, "--a", "smile", "--b", "glasses", "--set", "balance=kind"]
    run = tmp_path / "run"
    result = dida("train", *parts, *small, *sets, "--out", run)
    assert result.code == 0, result.err
    card = (run / "model" / "README.md").read_text()
    assert "glasses taken off" in card and "the judge right on these real pictures" in card
    assert "edits of the first held-out pictures" in card and "| kind=made |" in card
    assert re.search(r"\| data \| .*: \d+ me: CC0; \d+ House: CC BY \|", card)
    assert "license:" not in card
    wanted = recipe.load(str(run / "recipe.toml"))
    source = begin.Source(wanted, "", tmp_path, ALONE)
    names = {Path(f.name).stem for f in source.split.validation.files}
    made = {name for name in names if int(name) % 5}
    shown, every = source.to_show(32), source.held_out(32)
    assert made < names
    assert sum(len(s) for s in shown["a"]) == len(made) < sum(len(s) for s in every["a"])
    told = dida("evaluate", "-m", run, "--data", tmp_path, "--json")  # by the run's expressions
    assert told.code == 0 and "glasses taken off" in json.loads(told.out)["directions"]


def test_a_run_is_worked_in_by_one_at_a_time(dida: Dida, small: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert dida("train", small, "--out", run).code == 0
    with locks.alone(run):
        refused = dida("train", "--resume", run)
        assert refused.code == 1 and "another dida is at work there" in refused.err
    assert dida("train", "--resume", run).code == 0
    with locks.alone(tmp_path / "new"):
        refused = dida("train", small, "--out", tmp_path / "new")
        assert refused.code == 1 and "another dida is at work there" in refused.err
    assert dida("train", small, "--out", tmp_path / "new").code == 0
