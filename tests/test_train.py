import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Result
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from dida_cli import checkpoint, hub, images
from dida_cli import train as core
from dida_cli.cli.train import sheet
from dida_cli.codes import transfer
from dida_cli.config import WEIGHTS, ModelConfig, TrainConfig, Weights
from dida_cli.errors import DidaError

SETTINGS = TrainConfig(steps=12, batch=4, critic_start=3, log_every=2, save_every=5, ema=0.9)
SMALL = ["--side", 32, "--width", 16, "--common", 8, "--batch", 4, "--save-every", 2]


def batches(step: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(step)
    return torch.rand(4, 3, 32, 32, generator=random), -torch.rand(4, 3, 32, 32, generator=random)


def fit(run: Path, steps: int, model: ModelConfig = TINY) -> core.Training:
    """Train in `run` up to a step, going on from whatever is saved there."""
    settings = replace(SETTINGS, weights=WEIGHTS[model.method])
    training = core.Training(model, settings)
    if (run / "last").exists():
        training.restore(run / "last")
    else:
        core.start(run, model, settings, {})
    card = "card"
    core.fit(
        training, batches, run, card=lambda t: card, should_stop=lambda: training.step >= steps
    )
    return training


PAPER = ModelConfig.of("didd", "paper", side=32, width=32, common=8, separate_a=3, separate_b=3)
LAYERS = replace(TINY, method="layers")
ONE_SIDED = replace(LAYERS, separate_b=0)
MASK = ModelConfig.of("mask", "paper", side=32, width=32, common=8, separate_a=3)


@pytest.mark.parametrize(
    "model",
    [TINY, PAPER, LAYERS, ONE_SIDED, MASK],
    ids=["compact", "paper", "layers", "one-sided layers", "mask"],
)
def test_a_stopped_and_resumed_training_is_the_one_that_never_stopped(
    tmp_path: Path, model: ModelConfig
) -> None:
    fit(tmp_path / "whole", 12, model)
    for stop in (3, 6, 7, 12):  # in the middle of what a log line sums up, and at its end
        fit(tmp_path / "parts", stop, model)
    for name in ("state.safetensors", "model.safetensors"):
        whole, parts = (load_file(tmp_path / run / "last" / name) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    for name in ("last/model.safetensors", "log.jsonl"):
        assert len({(tmp_path / run / name).read_bytes() for run in ("whole", "parts")}) == 1
    steps = [line["step"] for line in core.read_log(tmp_path / "whole")]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_other_batches_give_another_model(tmp_path: Path) -> None:
    one = fit(tmp_path / "one", 2)
    other = core.Training(TINY, SETTINGS)
    for step in (5, 6):
        other.advance(*batches(step))
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_lines_logged_after_the_saved_state_are_not_kept_twice(tmp_path: Path) -> None:
    fit(tmp_path / "run", 6)
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(log.read_text() + json.dumps({"step": 8}) + "\n")  # killed after logging 8
    fit(tmp_path / "run", 12)
    steps = [line["step"] for line in core.read_log(tmp_path / "run")]
    assert steps == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("model", [TINY, LAYERS, MASK], ids=["didd", "layers", "mask"])
def test_training_makes_the_reconstruction_better(model: ModelConfig) -> None:
    settings = replace(SETTINGS, steps=60, learning_rate=3e-3, weights=WEIGHTS[model.method])
    training = core.Training(model, settings)
    a, b = batches(0)
    first = training.advance(a, b)["reconstruction_a"]
    for _ in range(59):
        last = training.advance(a, b)["reconstruction_a"]
    assert last < 0.6 * first


def test_the_running_mean_follows_the_weights() -> None:
    training = core.Training(TINY, SETTINGS)
    name, weight = next(iter(training.model.named_parameters()))
    expected = None
    for step in range(3):
        training.advance(*batches(step))
        now = weight.detach().clone()
        expected = now if expected is None else 0.9 * expected + 0.1 * now
    averaged = dict(training.averaged.named_parameters())[name]
    assert expected is not None and torch.allclose(averaged, expected, atol=1e-6)


def test_the_kept_model_has_batch_norms_statistics() -> None:
    training = core.Training(MASK, SETTINGS)
    for step in range(3):
        training.advance(*batches(step))
    seen = {n: b for n, b in training.model.named_buffers() if "running_mean" in n}
    kept = dict(training.averaged.named_buffers())
    assert seen and all(b.any() and torch.equal(kept[n], b) for n, b in seen.items())


@pytest.mark.parametrize("model", [TINY, LAYERS, MASK], ids=["didd", "layers", "mask"])
def test_no_usual_weight_is_of_a_loss_that_its_method_lacks(model: ModelConfig) -> None:
    terms = core.Training(model, SETTINGS).advance(*batches(0))
    usual = {name for name, value in WEIGHTS[model.method].to_json().items() if value}
    assert usual - {"mask_late"} <= terms.keys()  # what `mask` becomes, no loss of its own


def test_the_critic_counts_only_after_its_start() -> None:
    first = core.Training(TINY, replace(SETTINGS, critic_start=1))
    never = core.Training(TINY, replace(SETTINGS, critic_start=100))

    def same() -> bool:
        pairs = zip(first.model.parameters(), never.model.parameters(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    for training in (first, never):
        training.advance(*batches(0))
    assert same()
    for training in (first, never):
        training.advance(*batches(1))
    assert not same()


def test_repaint_and_mask_rise_slowly() -> None:
    full = Weights(zero=1, common=1, repaint_a=0.2, repaint_b=0.3, mask=0.1, mask_late=0.5)
    training = core.Training(LAYERS, replace(SETTINGS, steps=8000, weights=full))
    risen, pressure = [], []
    for training.step in (0, 800, 1200, 1600, 4000, 5000, 6000, 8000):
        weights = training.weights()
        risen.append(weights.repaint_a / 0.2)
        pressure.append(weights.mask)
        assert weights.repaint_b / 0.3 == pytest.approx(risen[-1])
    assert risen == pytest.approx([0, 0, 0.5, 1, 1, 1, 1, 1])
    assert pressure == pytest.approx([0, 0, 0.05, 0.1, 0.1, 0.3, 0.5, 0.5])


def test_the_published_weights_do_not_move_but_for_the_critics_start() -> None:
    training = core.Training(MASK, replace(SETTINGS, weights=WEIGHTS["mask"]))
    assert training.weights() == replace(WEIGHTS["mask"], common=0.0)
    training.step = SETTINGS.critic_start
    assert training.weights() == WEIGHTS["mask"]


def test_a_training_begins_from_what_another_model_has_learned() -> None:
    torch.manual_seed(1)
    plain = checkpoint.build(replace(TINY, separate_a=2))
    training = core.Training(replace(LAYERS, separate_a=2), SETTINGS)
    fresh = training.begin_from(plain)
    last = f"decoder.{len(list(plain.get_submodule('decoder').children())) - 1}"
    assert fresh == [f"{last}.bias[3:]", f"{last}.weight[3:]"]
    untouched = core.Training(replace(LAYERS, separate_a=2), SETTINGS).model.state_dict()
    for model in (training.model, training.averaged):
        taken, known = model.state_dict(), plain.state_dict()
        for name, tensor in known.items():
            assert torch.equal(taken[name][: len(tensor)], tensor), name
            assert torch.equal(taken[name][len(tensor) :], untouched[name][len(tensor) :]), name


def test_a_published_model_begins_from_one_like_it_whole() -> None:
    torch.manual_seed(1)
    known, training = checkpoint.build(MASK), core.Training(MASK, SETTINGS)
    known.encode(batches(0)[0])  # so that batch norm has something to hand on
    assert training.begin_from(known) == []
    for model in (training.model, training.averaged):
        taken = model.state_dict()
        assert all(torch.equal(taken[n], tensor) for n, tensor in known.state_dict().items())


def test_a_model_to_begin_from_must_have_something_in_common() -> None:
    training = core.Training(LAYERS, SETTINGS)
    stranger = ModelConfig.of("mask", "paper", side=32, width=256, common=33)
    with pytest.raises(DidaError, match="no tensor in common"):
        training.begin_from(checkpoint.build(stranger))


def test_init_is_told_and_trains_on(
    dida: Callable[..., Result], domains: Path, model_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("--data", domains, *SMALL, "--steps", 2, "--init", model_folder, "-o", run)
    result = dida("train", "--method", "layers", *arguments)
    assert result.code == 0 and f"begun from {model_folder}; fresh: " in result.err
    refused = dida("train", *arguments[:-1], tmp_path / "other", "--init", tmp_path / "nowhere")
    assert refused.code == 1 and not (tmp_path / "other").exists()


def test_the_rate_falls_to_a_twentieth() -> None:
    training = core.Training(TINY, SETTINGS)
    rates = []
    for training.step in (0, 6, 12):
        rates.append(training.rate() / SETTINGS.learning_rate)
    assert rates == pytest.approx([1, 0.525, 0.05])


def test_a_loss_that_is_not_finite_stops_naming_step_and_term(tmp_path: Path) -> None:
    training = core.Training(TINY, SETTINGS)
    a, b = batches(0)
    before = [p.detach().clone() for p in training.model.parameters()]
    with pytest.raises(DidaError, match="step 0: the reconstruction_b is not finite"):
        training.advance(a, b * float("nan"))
    after = training.model.parameters()
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "run", 2)
    other = core.Training(replace(TINY, common=9), SETTINGS)
    with pytest.raises(DidaError, match="has shape"):
        other.restore(tmp_path / "run" / "last")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_like_the_cpu() -> None:
    on_cpu, on_cuda = core.Training(TINY, SETTINGS), core.Training(TINY, SETTINGS, "cuda")
    for step in range(3):
        terms, cuda_terms = (t.advance(*batches(step)) for t in (on_cpu, on_cuda))
    for name, term in terms.items():
        assert cuda_terms[name].item() == pytest.approx(term.item(), rel=1e-2, abs=1e-3)


def test_train_makes_a_run_that_transfer_accepts(
    dida: Callable[..., Result], domains: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    names = ["--name-a", "stripes", "--name-b", "spots"]
    result = dida("train", "--data", domains, *SMALL, *names, "--steps", 5, "-o", run)
    assert (result.code, result.out) == (0, f"{run}\n")
    made = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert {"train.json", "log.jsonl", "curves.png", "last/model.safetensors"} <= made
    assert {"sheets/step-000002.png", "sheets/step-000004.png", "sheets/step-000005.png"} <= made
    card = (run / "last" / "README.md").read_text()
    assert "5 of 5" in card and "stripes" in card and "dida train" in card
    edited = tmp_path / "edited.png"
    picture = domains / "testA" / "0.png"
    done = dida("transfer", "-m", run, "-c", picture, "--guide-b", picture, "-o", edited)
    assert (done.code, done.out) == (0, f"{edited}\n") and edited.exists()
    assert hub.resolve(str(run)) == run / "last"


def test_a_sheet_shows_edits_of_the_contents_themselves() -> None:
    """A mask model's edits are painted onto the content: kept where the mask is closed."""
    model = core.Training(LAYERS, SETTINGS).averaged
    a, b = (x[:2] for x in batches(0))
    edited = model.compose(transfer(model.encode(b[:1]), guide_a=model.encode(a[:1])), b[:1]).image
    shown = np.asarray(sheet(model, a, b))
    cell = np.asarray(images.to_pictures(edited)[0].resize((128, 128), Image.Resampling.NEAREST))
    left, top = 6 + 134, 6 + 134  # second column, second row
    assert (shown[top : top + 128, left : left + 128] == cell).all()


def test_resume_reaches_the_end_and_keeps_its_settings(
    dida: Callable[..., Result], domains: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert dida("train", "--data", domains, *SMALL, "--steps", 6, "-o", whole).code == 0
    # What a kill leaves: the run of 6 steps with its state of step 4.
    assert dida("train", "--data", domains, *SMALL, "--steps", 6, "-o", parts).code == 0
    shutil.rmtree(parts / "last")
    (parts / "last-1").rename(parts / "last")
    assert json.loads((parts / "last" / "progress.json").read_text())["step"] == 4
    assert dida("train", "--resume", parts).code == 0
    weights = [(run / "last" / "model.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]
    refused = dida("train", "--resume", parts, "--steps", 9)
    assert refused.code == 2 and "drop --steps" in refused.err
    refused = dida("train", "--resume", parts, "--without", "Beard")
    assert refused.code == 2 and "drop --without" in refused.err


def test_ctrl_c_saves_and_leaves_with_130(domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--data", domains, *SMALL, "--steps", 100_000, "-o", run]
    command = [sys.executable, "-m", "dida_cli", "train", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (run / "last").exists() and process.poll() is None:
            assert time.monotonic() < deadline, "no save within a minute"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err and f"--resume {run}" in err
    step = json.loads((run / "last" / "progress.json").read_text())["step"]
    assert f"stopped at step {step}" in err
    checkpoint.load(run / "last")


def test_what_cannot_be_trained_is_refused_in_one_line(
    dida: Callable[..., Result], domains: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def refused(*arguments: object) -> str:
        result = dida("train", "-o", run, *arguments)
        assert result.code in (1, 2) and result.out == "" and result.err.count("\n") == 1
        assert not run.exists()
        return result.err

    assert "fewer than the batch of 16; add pictures or use --batch 8" in refused("--data", domains)
    assert "neither trainA and trainB" in refused("--data", tmp_path)
    assert "side 100" in refused("--data", domains, "--side", 100)
    assert "learning_rate" in refused("--data", domains, "--learning-rate", 2)
    assert "learning_rate" in refused("--data", domains, "--learning-rate", 0)
    assert "name its parts with --name-a" in refused("--data", domains, "--a", "Smiling")
    (domains / "trainB" / "0.png").unlink()
    (domains / "trainB" / "0.png").symlink_to(domains / "trainA" / "3.png")
    assert "in both domains" in refused("--data", domains, *SMALL)
    for file in (domains / "trainB").iterdir():
        file.unlink()
    assert "trainB: holds no pictures" in refused("--data", domains, *SMALL)


def test_a_run_is_never_written_over(
    dida: Callable[..., Result], domains: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("x")
    result = dida("train", "--data", domains, *SMALL, "-o", tmp_path / "run")
    assert result.code == 1 and "is not empty" in result.err
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["precious"]


def test_runs_are_named_after_the_domains_and_numbered(
    dida: Callable[..., Result], domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("a-b", "a-b-2"):
        result = dida("train", "--data", domains, *SMALL, "--steps", 1)
        assert result.out == f"{os.path.join('runs', expected)}\n"
