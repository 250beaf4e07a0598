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
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Result
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from dida_cli import checkpoint, hub, images, mask, nets, render, runs
from dida_cli import train as core
from dida_cli.cli.trainer import sheet
from dida_cli.codes import transfer
from dida_cli.config import TERMS, WEIGHTS, ModelConfig, TrainConfig, Weights
from dida_cli.data import folders
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, validation

SETTINGS = TrainConfig(steps=12, batch=4, critic_start=3, log_every=2, save_every=5, ema=0.9)
SMALL = ["--side", 32, "--width", 16, "--common", 8, "--batch", 4, "--save-every", 2]


def batches(step: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(step)
    return torch.rand(4, 3, 32, 32, generator=random), -torch.rand(4, 3, 32, 32, generator=random)


def fit(
    run: Path, steps: int, model: ModelConfig = TINY, settings: TrainConfig = SETTINGS
) -> core.Training:
    """Train in `run` up to a step, going on from whatever is saved there."""
    if settings is SETTINGS:
        settings = replace(SETTINGS, weights=WEIGHTS[model.method])
    training = core.Training(model, settings)
    if (run / "last").exists():
        training.restore(run / "last")
    else:
        runs.start(run, model, settings, {})
    card = "card"
    core.fit(
        training, batches, run, card=lambda t: card, should_stop=lambda: training.step >= steps
    )
    return training


PAPER = ModelConfig.of("didd", "paper", side=32, width=32, common=8, separate_a=3, separate_b=3)
LAYERS = replace(TINY, method="layers")
ONE_SIDED = replace(LAYERS, separate_b=0)
MASK = ModelConfig.of("mask", "paper", side=32, width=32, common=8, separate_a=3)


# lookalikes of the last two steps and a half, and a weight that asks for them from the first step
HIDES = replace(
    SETTINGS,
    lookalikes=10,
    hides=True,
    rise=False,
    weights=replace(WEIGHTS["layers"], exchange=1.0, paint=1.0, claim=0.1),
)


REFINES = replace(
    SETTINGS, refine="glass", rise=False, weights=Weights(cycle=1.0, cycle_common=0.2)
)
BENEATH = replace(
    SETTINGS, refine="beneath", lookalikes=10, rise=False, weights=Weights(claim=1.0, cover=1.0)
)
PLACE = replace(BENEATH, refine="place", weights=Weights(claim=1.0, exchange=1.0))


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (TINY, SETTINGS),
        (PAPER, SETTINGS),
        (LAYERS, SETTINGS),
        (ONE_SIDED, SETTINGS),
        (ONE_SIDED, HIDES),
        (replace(LAYERS, glass="b"), REFINES),
        (replace(LAYERS, glass="b"), BENEATH),
        (ONE_SIDED, PLACE),
        (MASK, SETTINGS),
    ],
    ids="compact paper layers one-sided lookalikes refine beneath place mask".split(),
)
def test_a_stopped_and_resumed_training_is_the_one_that_never_stopped(
    tmp_path: Path, model: ModelConfig, settings: TrainConfig
) -> None:
    fit(tmp_path / "whole", 12, model, settings)
    for stop in (3, 6, 7, 12):  # in the middle of what a log line sums up, and at its end
        fit(tmp_path / "parts", stop, model, settings)
    for name in ("state.safetensors", "model.safetensors"):
        whole, parts = (load_file(tmp_path / run / "last" / name) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    for name in ("last/model.safetensors", "log.jsonl"):
        assert len({(tmp_path / run / name).read_bytes() for run in ("whole", "parts")}) == 1
    steps = [line["step"] for line in runs.read_log(tmp_path / "whole")]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_lookalikes_are_of_the_pictures_of_the_last_steps() -> None:
    training = core.Training(LAYERS, HIDES)
    for step in range(4):
        training.advance(*batches(step))
    assert training.lookalikes
    for domain, held in zip(range(2), training.lookalikes.pictures, strict=True):
        last = torch.cat([batches(step)[domain] for step in (3, 2, 1)])
        assert torch.equal(torch.stack(held), last[:10])
    resumed = core.Training(LAYERS, HIDES)
    resumed.step = 4
    resumed.recall(batches)
    assert resumed.lookalikes
    pairs = zip(training.lookalikes.pictures, resumed.lookalikes.pictures, strict=True)
    assert all(torch.equal(torch.stack(one), torch.stack(other)) for one, other in pairs)


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
    steps = [line["step"] for line in runs.read_log(tmp_path / "run")]
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


def test_the_running_mean_follows_the_weights_at_first_closely() -> None:
    training = core.Training(TINY, replace(SETTINGS, ema=0.2))
    name, weight = next(iter(training.model.named_parameters()))
    expected = None
    for step, decay in enumerate([0, 2 / 11, 0.2, 0.2]):
        training.advance(*batches(step))
        now = weight.detach().clone()
        expected = now if expected is None else decay * expected + (1 - decay) * now
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
    weighed = terms.keys() - {"critic", "critic_right", "critic_gradient"}
    # mask_late is what `mask` becomes, no loss of its own
    assert set(TERMS[model.method]) - {"mask_late"} == weighed
    usual = {name for name, value in WEIGHTS[model.method].to_json().items() if value}
    assert usual <= set(TERMS[model.method])


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


def test_repaint_mask_and_exchange_rise_slowly() -> None:
    full = Weights(
        zero=1,
        common=1,
        repaint_a=0.2,
        repaint_b=0.3,
        mask=0.1,
        mask_late=0.5,
        exchange=2,
        open=4,
        alike=6,
        paint=0.4,
        claim=0.6,
        cover=0.7,
        blind=0.9,
        smooth=1.1,
        information=0.8,
        cycle_common=1.2,
        cycle_separate=1.4,
        cycle=1.6,
        domain=1.8,
    )
    training = core.Training(LAYERS, replace(SETTINGS, steps=8000, weights=full))
    risen, pressure, exchanged = [], [], []
    for training.step in (0, 1500, 2000, 2500, 4000, 5000, 6000, 8000):
        weights = training.weights()
        risen.append(weights.repaint_a / 0.2)
        pressure.append(weights.mask)
        assert weights.repaint_b / 0.3 == pytest.approx(risen[-1])
        for name in mask.CYCLED:
            assert getattr(weights, name) / getattr(full, name) == pytest.approx(risen[-1])
    assert risen == pytest.approx([0, 0, 0.5, 1, 1, 1, 1, 1])
    assert pressure == pytest.approx([0, 0, 0.05, 0.1, 0.1, 0.3, 0.5, 0.5])
    for training.step in (0, 100, 250, 400, 8000):
        weights = training.weights()
        exchanged.append(weights.exchange)
        for name in "open alike paint claim cover blind smooth information".split():
            share = getattr(weights, name) / getattr(full, name)
            assert share == pytest.approx(weights.exchange / full.exchange)
    assert exchanged == pytest.approx([0, 0, 1, 2, 2])
    begun = core.Training(LAYERS, replace(training.settings, rise=False))
    begun.step = SETTINGS.critic_start
    assert begun.weights() == replace(full, mask=0.1)  # but for what is late


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


def test_tensors_to_begin_from_are_taken_whole_or_not_at_all() -> None:
    """Of transposed convolutions the first dimension is the input: half a weight is no weight."""
    torch.manual_seed(1)
    wider = replace(TINY, common=9)
    known, training = checkpoint.build(TINY), core.Training(wider, SETTINGS)
    before = {n: t.clone() for n, t in training.model.state_dict().items()}
    fresh = training.begin_from(known)
    assert {"decoder.0.weight", "encoders.common.9.bias"} <= set(fresh)
    assert not any("[" in name for name in fresh)
    for name in fresh:
        assert torch.equal(training.model.state_dict()[name], before[name]), name


def test_narrower_separate_codes_go_on_saying_what_is_loudest() -> None:
    torch.manual_seed(1)
    known, narrow = checkpoint.build(TINY).eval(), replace(TINY, separate_a=2)
    last = known.get_submodule(f"encoders.separate_a.{3 * TINY.stages}")
    assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.weight[2] = last.weight[0] - 2 * last.weight[1]  # three channels that say two things
        last.bias[2] = last.bias[0] - 2 * last.bias[1]
        picture = batches(0)[0]
        codes = known.encode(picture)
        wanted = [known.compose(given).image for given in (codes, codes.without("a"))]
        training = core.Training(narrow, SETTINGS)
        assert training.begin_from(known) == []
        model = training.averaged
        codes = model.encode(picture)
        assert codes.a.shape[1] == 2
        for expected, given in zip(wanted, (codes, codes.without("a")), strict=True):
            assert torch.allclose(model.compose(given).image, expected, atol=1e-4)


def test_wider_separate_codes_say_nothing_new_at_first() -> None:
    torch.manual_seed(1)
    known, wide = checkpoint.build(TINY).eval(), replace(TINY, separate_a=5)
    with torch.no_grad():
        picture = batches(0)[0]
        training = core.Training(wide, SETTINGS)
        assert training.begin_from(known) == []
        before, after = known.encode(picture), training.averaged.encode(picture)
        assert (
            torch.equal(after.a[:, :3], before.a) and after.a[:, 3:].abs().amin(dim=(0, 2, 3)).all()
        )
        expected = known.compose(before).image
        assert torch.allclose(training.averaged.compose(after).image, expected, atol=1e-5)
    training.advance(*batches(0))
    assert training.model.get_parameter("decoder.0.weight")[before.common.shape[1] + 4].any()


def test_a_model_of_half_the_side_begins_one_of_twice_the_side() -> None:
    torch.manual_seed(1)
    known = checkpoint.build(LAYERS)
    for config in (replace(LAYERS, side=64), replace(LAYERS, side=64, separate_b=0)):
        training = core.Training(config, replace(SETTINGS, weights=WEIGHTS["layers"]))
        fresh = training.begin_from(known)
        taken, old = training.averaged.state_dict(), known.state_dict()
        assert {n.rpartition(".")[0] for n in fresh if "encoders.common" in n} == {
            "encoders.common.0",  # the convolution that sees the picture, and its norm
            "encoders.common.1",
            "encoders.common.3",
        }
        assert all(
            n.startswith(("encoders", "decoder.9", "decoder.10", "decoder.12")) for n in fresh
        )
        for stage in (6, 9, 12):
            new, before = f"encoders.common.{stage}.weight", f"encoders.common.{stage - 3}.weight"
            assert torch.equal(taken[new], old[before])
        codes = config.channels
        assert torch.equal(taken["decoder.0.weight"], old["decoder.0.weight"][:codes])
        assert torch.equal(taken["decoder.6.weight"], old["decoder.6.weight"])


def test_a_model_of_twice_the_side_begins_one_of_half_of_it() -> None:
    torch.manual_seed(1)
    known = checkpoint.build(replace(LAYERS, side=64))
    training = core.Training(LAYERS, replace(SETTINGS, weights=WEIGHTS["layers"]))
    fresh = training.begin_from(known)
    taken, old = training.averaged.state_dict(), known.state_dict()
    assert "encoders.common.0.weight" in fresh and "decoder.9.weight" in fresh
    assert torch.equal(taken["encoders.common.6.weight"], old["encoders.common.9.weight"])


def test_a_model_whose_encoders_see_half_the_side_keeps_its_codes_when_it_grows() -> None:
    torch.manual_seed(1)
    known = checkpoint.build(LAYERS)
    config = replace(LAYERS, side=64, encoder_side=32)
    weights = replace(WEIGHTS["layers"], alike=0.1, exchange=1.0)
    training = core.Training(config, replace(SETTINGS, rise=False, weights=weights))
    fresh = training.begin_from(known)
    assert fresh and all(n.startswith(("decoder.9", "decoder.10", "decoder.12")) for n in fresh)
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    halved = torch.nn.functional.avg_pool2d(picture, 2)
    with torch.no_grad():
        for mine, wanted in zip(
            training.averaged.encode(picture), known.encode(halved), strict=True
        ):
            assert torch.equal(mine, wanted)
        assert training.averaged.compose(known.encode(halved)).image.shape == (2, 3, 64, 64)
    assert "base_critic" in training.advance(picture, picture)  # which sees them halved, too


def test_weights_that_are_held_stand_still_until_the_others_fit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    settings = replace(SETTINGS, hold=3, save_every=2, weights=WEIGHTS["layers"])
    unbroken, broken = (core.Training(LAYERS, settings) for _ in range(2))
    plain = checkpoint.build(TINY)
    for training in (unbroken, broken):
        training.begin_from(plain)

    def moved(training: core.Training) -> set[str]:
        before = plain.state_dict()
        now = training.model.state_dict()
        return {n for n, t in before.items() if not torch.equal(now[n][: len(t)], t)}

    for step in range(2):
        for training in (unbroken, broken):
            training.advance(*batches(step))
    assert moved(unbroken) == {"decoder.9.weight", "decoder.9.bias"}
    broken.save(tmp_path, "")
    broken = core.Training(LAYERS, settings)
    broken.restore(tmp_path / "last")
    for step in (2, 3, 4):
        for training in (unbroken, broken):
            training.advance(*batches(step))
        assert (len(moved(unbroken)) > 2) == (step >= 3)
    for one, other in zip(unbroken.model.parameters(), broken.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_with_spectral_norms_are_held_or_free_by_their_plain_names() -> None:
    known = checkpoint.build(replace(PAPER, common=9))
    training = core.Training(PAPER, replace(SETTINGS, hold=3))
    fresh = training.begin_from(known)
    held = {checkpoint.plain_name(name) for name in training.held}
    assert held and held.isdisjoint(fresh)
    assert len(held) + len(fresh) == len(list(training.model.named_parameters()))


@pytest.mark.parametrize("held", ["decoder", ["no.such.weight"], [1]])
def test_a_state_that_holds_what_is_not_there_is_refused(tmp_path: Path, held: object) -> None:
    training = core.Training(TINY, SETTINGS)
    training.save(tmp_path, "")
    path = tmp_path / "last" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"held": held}))
    with pytest.raises(DidaError, match=r"progress\.json: held"):
        training.restore(tmp_path / "last")


def test_a_training_with_a_critic_of_pictures_resumes_exactly(tmp_path: Path) -> None:
    weights = replace(
        WEIGHTS["layers"], exchange=1.0, alike=0.1, information=1e-3, cycle_common=0.1, domain=0.1
    )
    settings = replace(SETTINGS, rise=False, weights=weights)
    unbroken, broken = (core.Training(LAYERS, settings) for _ in range(2))
    start = [p.clone() for p in unbroken.critic.parameters()]
    for step in range(2):
        terms = unbroken.advance(*batches(step))
        broken.advance(*batches(step))
    assert {"alike", "base_critic", "real_critic_right", "cycle_common", "domain"} <= set(terms)
    moved = [
        not torch.equal(p, q) for p, q in zip(unbroken.critic.parameters(), start, strict=True)
    ]
    assert all(moved) and len(moved) > 6
    broken.save(tmp_path, "")
    broken = core.Training(LAYERS, settings)
    broken.restore(tmp_path / "last")
    for training in (unbroken, broken):
        training.advance(*batches(2))
    for one, other in zip(unbroken._parameters(), broken._parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_last_layer_begins_whole_when_its_bias_does_not_fit() -> None:
    training = core.Training(LAYERS, SETTINGS)
    known = checkpoint.build(TINY)
    last = known.get_submodule(f"decoder.{len(known.get_submodule('decoder')) - 1}")  # type: ignore
    last.bias = torch.nn.Parameter(torch.zeros(5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "baked", lambda model: model)
        fresh = training.begin_from(known)
    assert fresh == ["decoder.9.bias", "decoder.9.weight"]


def test_spectral_norms_settle_on_the_weights_that_are_taken_over() -> None:
    torch.manual_seed(1)
    known = checkpoint.build(PAPER)
    for parameter in known.parameters():
        parameter.data *= 3  # so that the norms a fresh network has found are wrong for it
    nets.settle_spectral(known)
    training = core.Training(PAPER, SETTINGS)
    assert training.begin_from(checkpoint.baked(known)) == []
    picture = batches(0)[0]
    with torch.no_grad():
        wanted = known.eval().compose(known.encode(picture)).image
        for model in (training.model.eval(), training.averaged):
            assert torch.allclose(model.compose(model.encode(picture)).image, wanted, atol=1e-3)


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


def test_a_critic_that_fails_leaves_both_players_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = core.Training(TINY, SETTINGS)
    training.advance(*batches(0))
    before = checkpoint.state_of(training._parts())
    played = core.losses.critic

    def fails(*turn: Any) -> core.losses.Losses:
        loss = played(*turn)
        return loss._replace(total=loss.total * float("inf"))

    monkeypatch.setattr(core.losses, "critic", fails)
    with pytest.raises(DidaError, match="step 1: the gradient is not finite"):
        training.advance(*batches(1))
    after = checkpoint.state_of(training._parts())
    assert all(torch.equal(before[name], after[name]) for name in before)


def stop_at(run: Path, step: int, bad: list[int]) -> str:
    """What a training says whose batch of a step has bad pictures at these places of A."""

    def spoiled(at: int) -> tuple[Tensor, Tensor]:
        a, b = batches(at)
        if at == step:
            a[bad] = float("inf")
        return a, b

    training = core.Training(TINY, SETTINGS)
    with pytest.raises(DidaError) as stopped:
        core.fit(
            training,
            spoiled,
            run,
            card=lambda t: "",
            files=lambda at: ([f"a{at}-{i}.png" for i in range(4)], ["b0", "b1", "b2", "b3"]),
        )
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


def test_a_loss_that_is_not_finite_names_the_pictures_it_comes_from(tmp_path: Path) -> None:
    said = stop_at(tmp_path, 7, [1, 3])
    assert said.startswith("step 7: the ") and "(a7-1.png, a7-3.png); the last saved" in said
    assert "--override and a lower --learning-rate" in said
    assert json.loads((tmp_path / "last" / "progress.json").read_text())["step"] == 5
    checkpoint.load(tmp_path / "last")


def test_of_many_pictures_the_first_are_named_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: core.Training, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        raise core.NotFiniteError("step 0: the gradient is not finite")

    monkeypatch.setattr(core.Training, "advance", fails)  # of pictures that alone are all fine
    assert "(a0-0.png, a0-1.png, a0-2.png, a0-3.png, 4 more)" in stop_at(tmp_path, 0, [])
    assert not (tmp_path / "last").exists()


# The critic


def critic_log(right: float, gradient: float, count: int = 50) -> list[core.Line]:
    figures = {"critic_right": right, "critic_gradient": gradient}
    return [{"step": 100 + i, **figures} for i in range(count)]


def test_a_critic_has_won_or_died_only_after_many_lines_that_say_so() -> None:
    def state(log: list[core.Line]) -> str | None:
        return runs.critic_state(log, SETTINGS)

    assert state(critic_log(0.97, 0.5)) == "critic wins"
    assert state(critic_log(0.5, 1e-5)) == "critic dead"
    assert state(critic_log(0.5, 0.5)) is None  # what the encoder wants
    assert state(critic_log(0.85, 1e-5)) is None
    assert state(critic_log(0.97, 0.5, count=49)) is None
    assert state([*critic_log(0.97, 0.5, count=49), {"step": 200, "score": 0.5}]) is None
    assert state([*critic_log(0.97, 0.5), *critic_log(0.9, 0.5, count=1)]) is None
    assert runs.critic_state(critic_log(0.97, 0.5), replace(SETTINGS, critic_start=100)) is None
    alone = replace(SETTINGS, weights=replace(SETTINGS.weights, common=0.0))
    assert runs.critic_state(critic_log(0.97, 0.5), alone) is None


def test_a_critic_that_wins_is_logged_and_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WINDOW", 2)
    monkeypatch.setattr(runs, "WON", 0.0)
    with pytest.warns(UserWarning, match="step 6: the critic was right") as told:
        fit(tmp_path, 8)
        fit(tmp_path, 12)
    assert len(told) == 1
    warned = [line["step"] for line in runs.read_log(tmp_path) if "warning" in line]
    assert warned == [6]  # lines 4 and 6 are the first after the critic's start


# Scores


def scored(run: Path, scores: dict[int, float], stop: int = 12, **given: int) -> core.Training:
    """Train up to a step with scores every two steps, that are as told."""
    training = core.Training(TINY, replace(SETTINGS, score_every=2, **given))
    if (run / "last").exists():
        training.restore(run / "last")
    core.fit(
        training,
        batches,
        run,
        card=lambda t: core.card(t, {"root": "x"}, "dida"),
        score=lambda model: {"score": scores[training.step], "other": 1.0},
        should_stop=lambda: training.step >= stop,
    )
    return training


def test_the_best_score_is_kept_as_a_model(tmp_path: Path) -> None:
    scores = {2: 0.1, 4: 0.4, 6: 0.4, 8: 0.2, 10: 0.3, 12: 0.0}
    scored(tmp_path / "run", scores, stop=7)
    training = scored(tmp_path / "run", scores)
    assert training.best == (4, 0.4, 4)  # not the second of the same score
    whole = scored(tmp_path / "until", scores, stop=4)
    kept = checkpoint.load(hub.resolve(str(tmp_path / "run" / "best")))
    wanted = checkpoint.baked(whole.averaged).state_dict()
    assert all(torch.equal(tensor, wanted[n]) for n, tensor in kept.state_dict().items())
    assert "0.400 on held-out pictures" in (tmp_path / "run" / "best" / "README.md").read_text()
    assert hub.resolve(str(tmp_path / "run")) == tmp_path / "run" / "last"
    logged = {line["step"]: line["score"] for line in runs.read_log(tmp_path / "run")}
    assert logged == scores


def test_scores_between_log_lines_have_lines_of_their_own(tmp_path: Path) -> None:
    scored(tmp_path, dict.fromkeys(range(13), 0.5), log_every=3)
    lines = runs.read_log(tmp_path)
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [n["step"] for n in lines if "critic" in n] == [3, 6, 9, 12]
    render.curves(lines, tmp_path / "curves.png")


def test_patience_ends_a_training_for_good(tmp_path: Path) -> None:
    scores = {2: 0.5, 4: 0.1, 6: 0.6, 8: 0.1, 10: 0.2, 12: 0.9}
    assert scored(tmp_path, scores, patience=2).step == 10
    assert scored(tmp_path, scores, patience=2).step == 10
    assert scored(tmp_path, scores, patience=0).step == 12


def test_a_score_is_saved_with_the_state_that_remembers_it(tmp_path: Path) -> None:
    scored(tmp_path, {2: 0.5}, stop=3, save_every=100)
    assert json.loads((tmp_path / "last-1" / "progress.json").read_text())["best"] == {
        "step": 2,
        "score": 0.5,
        "since": 0,
    }


def test_scoring_and_three_stops_change_nothing(domains: Path, tmp_path: Path) -> None:
    """Across epochs and with flips: the state, the models, the log and the sheets, to the byte."""
    split = folders.from_folders(domains)
    files = (split.train.a, split.train.b)
    rows = [folders.load(of_domain, TINY) for of_domain in files]  # 8 pictures: 3 steps an epoch
    torch.manual_seed(3)
    judge = attributes.FactorClassifier(attributes.DOMAIN).eval()
    held_out = validation.held_out(*(batch.repeat(3, 1, 1, 1) for batch in batches(77)))
    validate = validation.Validation(judge, held_out)

    def go(run: Path, *stops: int, score: bool = True) -> None:
        run.mkdir()
        for stop in stops:
            settings = replace(SETTINGS, score_every=4, save_every=3)
            training = core.Training(TINY, settings)
            if (run / "last").exists():
                training.restore(run / "last")
            source = folders.Batches(*rows, batch=3, seed=settings.seed, flip=True)
            core.fit(
                training,
                source,
                run,
                card=lambda t: "",
                score=(lambda model: validate(checkpoint.baked(model))) if score else None,
                on_save=lambda t: images.write(
                    sheet(t.averaged, *batches(77)), run / "sheets" / f"{t.step}.png"
                ),
                should_stop=lambda stop=stop, t=training: t.step >= stop,  # type: ignore[misc]
            )

    whole, parts, plain = (tmp_path / name for name in ("whole", "parts", "plain"))
    go(whole, 12)
    go(parts, 2, 5, 8, 12)
    go(plain, 12, score=False)
    made = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert {Path("best/model.safetensors"), Path("sheets/8.png")} <= made
    for name in made - {Path("last/progress.json"), Path("last-1/progress.json")}:
        if not name.is_relative_to("last-1"):
            assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    weights = [(run / "last" / core.STATE).read_bytes() for run in (whole, plain)]
    assert weights[0] == weights[1]


# Resuming from files that are not as they were


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": "5"}, "step must be of type int"),
        ({"step": True}, "step must be of type int"),
        ({"step": -1}, "step must be 0 or more"),
        ({"seconds": float("nan")}, "seconds must be 0 or more"),
        ({"sums": []}, "sums must be an object"),
        ({"sums": {"zero": "x"}}, r"sums\.zero must be of type float"),
        ({"summed": None}, "summed must be of type int"),
        ({"best": [1]}, "best must hold step, score, since"),
        ({"best": {"step": 1, "score": 2}}, "best must hold"),
        ({"best": {"step": 1, "score": "x", "since": 0}}, r"best\.score must be of type float"),
    ],
)
def test_a_progress_that_is_not_as_it_was_written_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    training = core.Training(TINY, SETTINGS)
    training.save(tmp_path, "")
    path = tmp_path / "last" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DidaError, match=rf"progress\.json: {said}"):
        training.restore(tmp_path / "last")
    assert training.step == 0


def test_a_progress_that_lacks_something_is_refused(tmp_path: Path) -> None:
    training = core.Training(TINY, SETTINGS)
    training.save(tmp_path, "")
    path = tmp_path / "last" / "progress.json"
    for text in ('{"step": 3}', "[]", "3"):
        path.write_text(text)
        with pytest.raises(DidaError, match=r"progress\.json: must hold step, seconds and sums"):
            training.restore(tmp_path / "last")


def test_a_state_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    fit(tmp_path, 3)
    path = tmp_path / "last" / "progress.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({name: saved[name] for name in ("step", "seconds", "sums")}))
    fit(tmp_path, 12)
    fit(tmp_path / "whole", 12)
    logs = [(run / runs.LOG).read_bytes() for run in (tmp_path, tmp_path / "whole")]
    assert logs[0] == logs[1]


def test_a_torn_last_line_of_a_log_is_dropped(tmp_path: Path) -> None:
    fit(tmp_path, 5)
    log = tmp_path / runs.LOG
    for torn in (b'{"step": 6, "learn', b"{", b"\0\0\0", b"\xff", b"7"):
        log.write_bytes(log.read_bytes() + torn)
        fit(tmp_path, 5)
        assert [line["step"] for line in runs.read_log(tmp_path)] == [2, 4]
    fit(tmp_path, 12)
    assert [line["step"] for line in runs.read_log(tmp_path)] == [2, 4, 6, 8, 10, 12]


def test_a_log_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    fit(tmp_path, 5)
    log = tmp_path / runs.LOG
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(DidaError, match=r"log\.jsonl, line 1: no line of a log"):
        fit(tmp_path, 12)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_that_does_not_fit_on_the_disk_is_told_in_one_line() -> None:
    with pytest.raises(DidaError, match=r"/dev/full: cannot be written \(No space .*--resume"):
        runs.append(Path("/dev/full"), {"step": 1})


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
    assert refused.code == 2 and "drop --without, or add --override" in refused.err


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

    assert "fewer than the batch of 16; add pictures or use --batch 8" in refused(
        "--data", domains, "--batch", 16
    )
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
