"""dida train by config files and single settings, its record of them, and its dry run."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Result, write_picture
from safetensors.torch import load_file
from torch import Tensor

from dida_cli import checkpoint, runs, settings
from dida_cli import train as core
from dida_cli.cli import trainer
from dida_cli.cli.trainer import _duration
from dida_cli.config import Domains, ModelConfig
from dida_cli.data import avatars, folders, sources
from dida_cli.evaluate import attributes, validation

Dida = Callable[..., Result]
SMALL = """
[model]
side = 32
width = 16
common = 8
separate_a = 3
separate_b = 2

[training]
steps = 2
batch = 4
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A config file of a training that takes no time."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def record(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "train.json").read_text())
    return found


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_gives_way_to_options_and_these_to_set(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    with small.open("a") as file:
        file.write("learning_rate = 0.002\nflip = false\nseed = 5\n[training.weights]\nzero = 3\n")
    run = tmp_path / "run"
    options = ["--data", domains, "--name-a", "stripes", "--batch", 3, "--seed", 6, "--steps", 9]
    sets = ["--set", "training.steps=1", "--set", "training.weights.common=0.4"]
    result = dida("train", "--config", small, *options, *sets, "-o", run)
    assert result.code == 0, result.err
    found = record(run)
    assert found["model"]["domains"] == {"a": "stripes", "b": "b"}
    assert [found["model"][key] for key in ("side", "separate_a", "fit")] == [32, 3, "crop"]
    training = found["training"]
    assert (training["batch"], training["seed"], training["steps"]) == (3, 6, 1)
    assert (training["learning_rate"], training["flip"]) == (0.002, False)
    weights = training["weights"]
    assert (weights["zero"], weights["common"], weights["reconstruction_a"]) == (3, 0.4, 1)


def test_no_flip_and_a_seed_of_zero_win_over_the_file(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    small.write_text(f"{SMALL}flip = true\nseed = 5\n")
    run = tmp_path / "run"
    arguments = ["--data", domains, "--no-flip", "--seed", 0, "-o", run]
    assert dida("train", "--config", small, *arguments).code == 0
    training = record(run)["training"]
    assert (training["flip"], training["seed"]) == (False, 0)


def test_the_written_config_gives_the_same_training(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    begun, first, second = (tmp_path / name for name in ("begun", "first", "second"))
    assert dida("train", "--config", small, "--data", domains, "-o", begun).code == 0
    options = ["--data", domains, "--init", begun, "--seed", 3, "--critic-target", "paper"]
    names = ["--name-a", 'a "b"', "--set", "training.clip=1"]
    assert dida("train", "--config", small, *options, *names, "-o", first).code == 0
    result = dida("train", "--config", first / "config.toml", "-o", second)
    assert result.code == 0, result.err
    assert f"begun from {begun}" in result.err
    assert record(first) == record(second)
    for name in ("config.toml", "last/model.safetensors", "log.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_written_config_keeps_what_an_attribute_list_is_asked_for(
    dida: Dida, small: Path, tmp_path: Path
) -> None:
    avatars.write_set(tmp_path / "faces", count=60, seed=1, side=32, workers=1)
    chosen = ["--a", "Smiling", "--b", "not Smiling", "--without", "Beard"]
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ["--config", small, "--data", tmp_path / "faces", "--steps", 1]
    assert dida("train", *arguments, *chosen, "-o", first).code == 0
    assert dida("train", "--config", first / "config.toml", "-o", second).code == 0
    data = record(second)["data"]
    assert data == record(first)["data"]
    assert (data["b"], data["having"], data["lacking"]) == ("not Smiling", [], ["Beard"])
    assert record(second)["model"]["domains"] == {"a": "smile", "b": "not smiling"}


def test_a_preset_trains_on_two_folders_too(dida: Dida, domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sets = ["--set", "model.width=32", "--set", "model.common=8", "--set", "model.separate_a=3"]
    small = ["--side", 32, "--batch", 4, "--steps", 1]
    result = dida("train", "--config", "hair-colour", "--data", domains, *small, *sets, "-o", run)
    assert result.code == 0, result.err
    found = record(run)
    assert found["data"].keys() == {"root", "fingerprint"}
    assert found["data"]["root"] == str(domains)
    assert found["model"]["domains"] == {"a": "black", "b": "blond"}
    assert (found["model"]["method"], found["model"]["fit"]) == ("mask", "squash")
    assert found["training"]["weights"]["cycle_separate"] == 0.04
    refused = dida("train", "--config", "hair-colour", "--data", domains, "--set", "data.a=Male")
    assert refused.code == 2 and "name its parts with --name-a" in refused.err


@pytest.mark.parametrize(
    ("preset", "learns"),
    [("refine", "encoders.common."), ("beneath", "decoder."), ("place", "decoder.")],
)
def test_a_model_is_refined_as_it_is(
    preset: str, learns: str, dida: Dida, domains: Path, tmp_path: Path
) -> None:
    model, run = tmp_path / "model", tmp_path / "run"
    config = ModelConfig.of("layers", "compact", side=64, encoder_side=32, width=16, common=8)
    config = replace(config, domains=Domains(a="hats", b="scarfs"), glass="b", segment_from=0.3)
    if preset == "place":
        config = replace(config, separate_b=0, glass="none")
    files = checkpoint.model_files(checkpoint.baked(checkpoint.build(config)), "# card\n")
    checkpoint.write_folder(model, files)
    arguments = ["train", "--config", preset, "--data", domains, "--batch", 4, "--steps", 2]
    if preset != "refine":
        arguments += ["--set", "training.lookalikes=8"]
    refused = dida(*arguments, "-o", run)
    assert refused.code == 1 and "refine goes on with a model; name it by --init" in refused.err
    assert not run.exists()
    refused = dida(*arguments, "--init", model, "--common", 9, "-o", run)
    assert refused.code == 1 and "goes on with the very network" in refused.err
    assert not run.exists()
    result = dida(*arguments, "--init", model, "-o", run)
    assert result.code == 0 and f"begun from {model}; fresh: nothing" in result.err
    assert checkpoint.load(run / "last").config == config
    assert dida("train", "--resume", run, "--override", "--steps", 3).code == 0
    refused = dida("train", "--resume", run, "--override", "--set", "training.refine=none")
    assert refused.code == 1 and "--config refine --init RUN" in refused.err
    before, after = (load_file(f / "model.safetensors") for f in (model, run / "last"))
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved and all(name.startswith(learns) for name in moved)


def test_what_cannot_be_configured_is_refused_in_one_line(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = everything_in(tmp_path)

    def refused(*arguments: object) -> str:
        result = dida("train", "--data", domains, *arguments)
        assert result.code == 1 and result.out == "" and result.err.count("\n") == 1
        return result.err

    assert "did you mean training.steps?" in refused("--set", "steps=5")
    assert "no preset 'smal'" in refused("--config", "smal")
    assert "side 48" in refused("--config", small, "--side", 48)
    assert "the weight of mask must be 0 or more" in refused("--set", "training.weights.mask=-1")
    assert "celeba: holds neither" in dida("train", "--config", "beard-smile").err
    assert everything_in(tmp_path) == before


def test_resume_takes_no_other_settings(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert dida("train", "--config", small, "--data", domains, "-o", run).code == 0
    for option in (["--config", small], ["--set", "training.steps=9"], ["--dry-run"]):
        result = dida("train", "--resume", run, *option)
        assert result.code == 2 and f"drop {option[0]}" in result.err
    (run / "config.toml").unlink()  # as a run of an earlier version
    assert dida("train", "--resume", run).code == 0


# Other settings and pictures for a run that goes on


@pytest.fixture
def run(dida: Dida, domains: Path, small: Path, tmp_path: Path) -> Path:
    """A run of two steps on the eight and eight pictures of `domains`."""
    path = tmp_path / "run"
    assert dida("train", "--config", small, "--data", domains, "-o", path).code == 0
    return path


def test_override_goes_on_by_other_settings_and_records_them(
    dida: Dida, run: Path, tmp_path: Path
) -> None:
    sets = ["--set", "training.learning_rate=0.0005", "--set", "model.domains.a=stripes"]
    result = dida("train", "--resume", run, "--override", "--steps", 5, *sets)
    assert (result.code, result.out) == (0, f"{run}\n"), result.err
    assert "dida: override: training.steps: 2 -> 5\n" in result.err
    assert "dida: override: training.learning_rate: 0.001 -> 0.0005\n" in result.err
    assert 'dida: override: model.domains.a: "a" -> "stripes"\n' in result.err
    assert result.err.count("override: ") == 3
    found = record(run)
    assert (found["training"]["steps"], found["training"]["learning_rate"]) == (5, 0.0005)
    assert json.loads((run / "last" / "progress.json").read_text())["step"] == 5
    values = settings.read(str(run / "config.toml"))
    assert (values["training.steps"], values["model.domains.a"]) == (5, "stripes")
    again = dida("train", "--resume", run)  # by the new settings, with nothing to tell of
    assert again.code == 0 and "override: " not in again.err


def test_override_refuses_another_network_and_what_a_run_has_for_good(
    dida: Dida, run: Path, tmp_path: Path
) -> None:
    before = everything_in(run)

    def refused(*arguments: object) -> str:
        result = dida("train", *arguments)
        assert result.code in (1, 2) and result.out == "" and result.err.count("\n") == 1
        assert everything_in(run) == before
        return result.err

    resume = ("--resume", run, "--override")
    assert "model.width: 16 -> 32 is another network" in refused(*resume, "--width", 32)
    assert "model.method: didd -> layers is another" in refused(*resume, "--method", "layers")
    assert "drop --init" in refused(*resume, "--init", run)
    assert "drop init" in refused(*resume, "--set", "init=x")
    assert "drop --out" in refused(*resume, "-o", tmp_path / "new")
    assert "drop --dry-run" in refused(*resume, "--dry-run")
    assert "method didd has no such loss" in refused(*resume, "--set", "training.weights.mask=1")
    assert "steps must be 1 or more" in refused(*resume, "--steps", 0)
    assert "--override goes with --resume" in refused("--override")


def test_pictures_that_changed_are_refused_and_accepted_by_override(
    dida: Dida, domains: Path, run: Path
) -> None:
    before = everything_in(run)
    (domains / "trainA" / "7.png").rename(domains / "trainA" / "75.png")
    (domains / "trainB" / "7.png").unlink()
    result = dida("train", "--resume", run)
    assert result.code == 1 and result.err.count("\n") == 1 and everything_in(run) == before
    assert "its pictures have changed (pictures of A: 8 files -> other names or sizes" in result.err
    assert "; pictures of B: 8 files -> 7)" in result.err and "add --override" in result.err
    result = dida("train", "--resume", run, "--override")
    assert result.code == 0 and "override: pictures of B: 8 files -> 7\n" in result.err
    assert record(run)["data"]["fingerprint"]["b"]["files"] == 7
    assert dida("train", "--resume", run).code == 0


def test_pictures_that_moved_are_found_by_override(dida: Dida, domains: Path, run: Path) -> None:
    moved = domains.rename(domains.with_name("moved"))
    assert dida("train", "--resume", run).code == 1
    result = dida("train", "--resume", run, "--override", "--data", moved)
    assert result.code == 0 and result.err.count("override: ") == 1  # the same pictures elsewhere
    assert f'override: data.root: "{domains}" -> "{moved}"' in result.err
    assert record(run)["data"]["root"] == str(moved)


def test_a_run_of_an_earlier_version_goes_on(dida: Dida, domains: Path, run: Path) -> None:
    found = record(run)
    del found["data"]["fingerprint"], found["training"]["patience"]
    del found["training"]["score_every"]
    for later in ("rise", "hold", "lookalikes", "hides", "refine"):
        del found["training"][later]
    later_weights = "base exchange open alike paint claim information cover blind smooth".split()
    for later in later_weights:
        del found["training"]["weights"][later]
    (run / "train.json").write_text(json.dumps(found))
    (domains / "trainA" / "7.png").unlink()  # nobody could know
    assert dida("train", "--resume", run).code == 0
    result = dida("train", "--resume", run, "--override", "--steps", 3)
    assert result.code == 0, result.err
    assert record(run)["data"]["fingerprint"]["a"]["files"] == 7
    assert record(run)["training"]["score_every"] == 0
    assert [record(run)["training"]["weights"][n] for n in later_weights] == [0] * 10


# Scores


def test_any_pictures_are_scored_by_a_judge_that_the_run_keeps(
    dida: Dida, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes, "LEAST_STEPS", 2)
    monkeypatch.setattr(attributes, "EPOCHS", 1)
    data, run = tmp_path / "data", tmp_path / "run"
    counts = {"trainA": 100, "trainB": 100, "testA": 1, "testB": 1}  # a tenth is held out
    for number, (part, count) in enumerate(counts.items()):
        for index in range(count):
            write_picture(data / part / f"{index}.png", seed=100 * number + index)
    arguments = ["--config", small, "--data", data, "--steps", 5, "--score-every", 2]
    result = dida("train", *arguments, "-o", run)
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["score"] for line in lines}
    assert scores.keys() == {2, 4, 5}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert f"best score {scores[best]:.3f} at step {best}" in result.err
    assert f"dida transfer -m {run / 'best'}" in result.err
    picture = data / "testA" / "0.png"
    edit = ["-c", picture, "--guide-b", picture, "-o", tmp_path / "edited.png"]
    assert dida("transfer", "-m", run / "best", *edit).code == 0
    kept = (run / "judge" / "model.safetensors").read_bytes()
    monkeypatch.setattr(attributes, "tell_apart", lambda *_, **__: pytest.fail("trains anew"))
    result = dida("train", "--resume", run, "--override", "--steps", 6, "--patience", 9)
    assert result.code == 0, result.err
    assert (run / "judge" / "model.safetensors").read_bytes() == kept


@pytest.mark.filterwarnings("default")
def test_a_training_without_better_scores_ends_early_and_tells_what_it_kept(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_validation", lambda *_: lambda model: {"score": 0.5})
    monkeypatch.setattr(
        runs, "critic_state", lambda log, _: "critic wins" if len(log) > 1 else None
    )
    run = tmp_path / "run"
    arguments = ["--config", small, "--data", domains, "--steps", 9, "--score-every", 1]
    result = dida("train", *arguments, "--patience", 2, "-o", run)
    assert result.code == 0, result.err
    assert "ended early at step 3: 2 scores without a better one" in result.err
    assert f"best score 0.500 at step 1; it is kept: dida transfer -m {run / 'best'}" in result.err
    words = "step 2: the critic was right of 95% of the codes"
    assert result.err.count(f"dida: warning: {words}") == 1
    assert result.err.count(f"dida: {words}") == 1  # at the end, again


@pytest.mark.filterwarnings("default")
def test_a_bad_batch_is_told_by_its_files(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = core.Training.advance

    def fails(self: core.Training, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        if self.step:
            raise core.NotFiniteError("step 1: the zero is not finite")
        return advance(self, a, b)

    monkeypatch.setattr(core.Training, "advance", fails)
    run = tmp_path / "run"
    (domains / "trainA" / "0.png").write_bytes(b"")  # is skipped, with a warning that names it
    for number in range(8, 24):
        write_picture(domains / "trainA" / f"{number:02}.png", seed=number)
    result = dida("train", "--config", small, "--data", domains, "--no-flip", "-o", run)
    assert result.code == 1 and "step 1: the zero is not finite (" in result.err
    named = re.findall(r"trainA/(\d+\.png)", result.err)
    train = sources.for_training(sources.record(domains, None, None, [], [])).train
    files = [file for file in train.a if file.name != "0.png"]
    learned = torch.empty(len(files), 0), torch.empty(8, 0)
    rows = folders.Batches(*learned, batch=4, seed=0, flip=False).rows(0, 1)
    assert named == ["0.png", *(files[row].name for row in rows)] and "4 more)" in result.err


def test_too_few_pictures_for_a_score_are_told_and_trained_on(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = dida(
        "train", "--config", small, "--data", domains, "--set", "training.score_every=1", "-o", run
    )
    assert result.code == 0 and "no scores, and no best: scores need 10 held-out" in result.err
    assert not (run / "best").exists() and not (run / "judge").exists()


def test_drawn_faces_are_scored_by_the_bundled_judge(
    dida: Dida, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "PAIRS", 3)
    avatars.write_set(tmp_path / "faces", count=60, seed=1, side=32, workers=1)
    run = tmp_path / "run"
    arguments = ["--config", small, "--data", tmp_path / "faces", "--score-every", 1]
    result = dida("train", *arguments, "--patience", 1, "--set", "training.ema=0", "-o", run)
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"score", "target_a", "guide_a", "kept_a", "kept_b"} <= lines[0].keys()
    assert not (run / "judge").exists() and (run / "best").exists()


def test_list_presets_tells_each_on_a_line(dida: Dida) -> None:
    result = dida("train", "--list-presets")
    assert result.code == 0
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert lines == settings.presets() and "beard-glasses" in lines


# Dry runs


def test_a_dry_run_tells_the_costs_and_writes_nothing(
    dida: Dida, domains: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (domains / "trainB" / "7.png").unlink()
    before = everything_in(tmp_path)
    result = dida("train", "--config", small, "--data", domains, "--dry-run", "--steps", 10**6)
    assert result.code == 0, result.err
    assert everything_in(tmp_path) == before
    told = result.out
    assert "A 8, B 7 (a, b)" in told
    counts = {n: int(c.replace(",", "")) for n, c in re.findall(r"  (.*?) +([\d,]+) par", told)}
    together = counts.pop("together")
    assert sum(counts.values()) == together
    assert list(counts) == [
        "encoder common",
        "encoder separate_a",
        "encoder separate_b",
        "decoder",
        "critic",
    ]
    assert counts["critic"] == (8 * 4 * 4 + 1) * 512 + 512 + 1
    # Four bytes of each number: five of every weight, four of the critic's, which has no mean.
    state = 4 * (5 * together - counts["critic"]) / 1e6
    assert f"{state:,.1f} MB, twice in a save" in told
    assert f"pictures             {15 * 3 * 32 * 32 / 1e6:,.1f} MB" in told
    (speed,) = re.findall(r"([\d.]+) steps/s at 4 \+ 4", told)
    (days, hours) = re.findall(r"time +(?:(\d+) d )?(\d+) h .*for 1000000 steps", told)[0]
    assert 24 * int(days or 0) + int(hours) == pytest.approx(10**6 / float(speed) / 3600, abs=1.1)


def test_the_peak_is_what_was_measured_and_a_save(dida: Dida, domains: Path, small: Path) -> None:
    told = dida("train", "--config", small, "--data", domains, "--dry-run").out
    peak, state, measured = (
        float(re.findall(f"{word} +(?:about )?([\\d,.]+) MB", told)[0].replace(",", ""))
        for word in ("memory", "Adam", "measured")
    )
    assert peak == pytest.approx(measured + state, abs=0.11)
    assert 100 < measured < 20_000


def test_a_dry_run_draws_no_avatars(
    dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(avatars, "write_set", lambda *_, **__: pytest.fail("draws"))
    result = dida("train", "--dry-run")
    assert result.code == 1 and "avatars: not drawn yet; type dida data avatars" in result.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_refuses_what_the_training_would(
    dida: Dida, domains: Path, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").write_text("x")
    arguments = ["train", "--config", small, "--data", domains, "--dry-run"]
    assert "is not empty" in dida(*arguments, "-o", tmp_path / "taken").err
    assert "fewer than the batch of 9" in dida(*arguments, "--batch", 9).err
    assert "no model 'nobody'" in dida(*arguments, "--init", "nobody").err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "1 min"), (59 * 60, "59 min"), (3600, "1 h 0 min"), (86_399, "1 d 0 h"), (2e5, "2 d 7 h")],
)
def test_durations_are_told_by_the_two_largest_units(seconds: float, words: str) -> None:
    assert _duration(seconds) == words
