"""The loop: exact resumes over all methods and stages, scores, and what goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MASKED, RETOUCH, SMALL, TINY, configured
from safetensors.torch import load_file
from torch import Tensor
from trained import Nobody, Noise, fit, recipe_for

from dida_cli import checkpoint, hub, methods, nets, render
from dida_cli import run as runs
from dida_cli import train as core
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError
from dida_cli.players import Batch, Pairs
from dida_cli.training import Training, precision_on, resumed

PAPER = configured("didd", **SMALL | {"architecture": "paper", "width": 32})
ONE_PART = configured("retouch", b="", **{"code": 3, "width": 4, "encoder_width": 4})
MASK = configured("mask", b="", **SMALL | {"architecture": "paper", "width": 32})
RECIPE = recipe_for(TINY, settings={"critic_start": 3})


def same(one: Path, other: Path) -> bool:
    """Whether two runs hold the same state, model and log, to the bit."""
    for name in ("state.safetensors", "model.safetensors"):
        here, there = (load_file(run / "last" / name) for run in (one, other))
        assert here.keys() == there.keys()
        if not all(torch.equal(here[key], there[key]) for key in here):
            return False
    return (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()


@pytest.mark.parametrize(
    "config",
    [TINY, PAPER, MASKED, MASK, RETOUCH, ONE_PART],
    ids="didd paper layers mask retouch one-part".split(),
)
def test_a_stopped_and_resumed_training_is_the_one_that_never_stopped(
    tmp_path: Path, config: ModelConfig
) -> None:
    wanted = recipe_for(config)
    fit(tmp_path / "whole", wanted)
    for stop in (3, 6, 7, 12):  # in the middle of what a log line sums up, and at its end
        fit(tmp_path / "parts", wanted, stop)
    assert same(tmp_path / "whole", tmp_path / "parts")
    steps = [line["step"] for line in runs.read_log(tmp_path / "whole")]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_two_stages_resume_exactly_wherever_they_are_stopped(tmp_path: Path) -> None:
    wanted = recipe_for(RETOUCH, steps=(5, 4), sides=(32, 48))
    fit(tmp_path / "whole", wanted)
    for stop in (2, 5, 5, 7, 9):  # before, at (twice) and after the boundary
        stopped = fit(tmp_path / "parts", wanted, stop)
        assert stopped.made == stop
    assert stopped.stage == 1 and stopped.step == 4 and stopped.is_over
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert [line["step"] for line in runs.read_log(tmp_path / "whole")] == [2, 4, 5, 6, 8, 9]
    assert checkpoint.load(tmp_path / "whole" / "last").config.side == 48


def test_the_second_stage_begins_from_the_weights_that_the_first_keeps() -> None:
    first = Training(recipe_for(RETOUCH, steps=(3, 4), sides=(32, 48)))
    for step in range(3):
        first.advance(Noise(first.recipe)(step))
    second = first.next_stage()
    assert (second.step, second.made, second.stage) == (0, 3, 1)
    kept = first.network.state_dict()
    for network in (second.players.network, second.network):
        assert all(torch.equal(t, kept[name]) for name, t in network.state_dict().items())
    critic = first.players.critic.state_dict()
    now = second.players.critic.state_dict()
    assert critic and all(torch.equal(t, now[name]) for name, t in critic.items())
    assert not second.players.adam["network"].state  # begins anew


def test_a_network_that_is_another_at_the_other_side_is_refused() -> None:
    first = Training(recipe_for(TINY, steps=(3, 4), sides=(32, 64)))
    with pytest.raises(DidaError, match="networks of didd are others at side 64 than at 32; use"):
        first.next_stage()


def test_two_trainings_by_one_recipe_give_equal_weights(tmp_path: Path) -> None:
    for config in (RETOUCH, TINY):
        wanted = recipe_for(config, steps=6, precision="auto")
        fit(tmp_path / config.method, wanted)
        torch.rand(7)  # whatever else is drawn at random
        fit(tmp_path / f"{config.method}-2", wanted)
        assert same(tmp_path / config.method, tmp_path / f"{config.method}-2")


def test_a_teacher_begins_a_training_that_resumes_exactly(
    masked_folder: Path, tmp_path: Path
) -> None:
    teacher = {"teacher": str(masked_folder), "lessons": 4}
    wanted = recipe_for(RETOUCH, steps=6, settings=teacher)
    whole = fit(tmp_path / "whole", wanted)
    assert whole.players.teacher is not None
    fit(tmp_path / "parts", wanted, 3)
    fit(tmp_path / "parts", wanted)
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert "taught" in runs.read_log(tmp_path / "whole")[0]
    fit(tmp_path / "alone", recipe_for(RETOUCH, steps=6))
    assert not same(tmp_path / "whole", tmp_path / "alone")


def test_a_teacher_of_other_parts_is_refused(masked_folder: Path) -> None:
    wanted = recipe_for(ONE_PART, settings={"teacher": str(masked_folder)})
    with pytest.raises(DidaError, match="knows smile and glasses, not smile; train one"):
        Training(wanted)


def test_another_seed_and_other_batches_give_another_model(tmp_path: Path) -> None:
    one = fit(tmp_path / "one", RECIPE, 2)
    seeded = Training(recipe_for(TINY, settings={"critic_start": 3}, seed=1))
    other = Training(RECIPE)
    for step in range(2):
        seeded.advance(Noise(RECIPE)(step))
        other.advance(Noise(RECIPE)(step + 5))
    for training in (seeded, other):
        pairs = zip(one.network.parameters(), training.network.parameters(), strict=True)
        assert not all(torch.equal(a, b) for a, b in pairs)


def test_lines_logged_after_the_saved_state_are_not_kept_twice(tmp_path: Path) -> None:
    fit(tmp_path / "run", RECIPE, 6)
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(log.read_text() + json.dumps({"step": 8}) + "\n")  # killed after logging 8
    fit(tmp_path / "run", RECIPE)
    steps = [line["step"] for line in runs.read_log(tmp_path / "run")]
    assert steps == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("config", [TINY, MASKED, MASK, RETOUCH], ids=lambda c: c.method)
def test_training_makes_the_pictures_better(config: ModelConfig) -> None:
    wanted = recipe_for(config, steps=200, settings={"rate": 3e-3})
    training, batch = Training(wanted), Noise(wanted)(0)
    name = {"retouch": "back", "mask": "reconstruction_a"}.get(config.method, "reconstruction")
    seen = [training.advance(batch)[name].item() for _ in range(40)]
    assert sum(seen[-5:]) < 0.8 * max(sum(seen[k : k + 5]) for k in range(35))


def test_the_running_mean_follows_the_weights_at_first_closely() -> None:
    training = Training(recipe_for(TINY, mean=0.2))
    name, weight = next(iter(training.players.network.named_parameters()))
    expected = None
    for step, decay in enumerate([0, 2 / 11, 0.2, 0.2]):
        training.advance(Noise(training.recipe)(step))
        now = weight.detach().clone()
        expected = now if expected is None else decay * expected + (1 - decay) * now
    averaged = dict(training.network.named_parameters())[name]
    assert expected is not None and torch.allclose(averaged, expected, atol=1e-6)


def test_the_kept_model_has_batch_norms_statistics() -> None:
    training = Training(recipe_for(MASK))
    for step in range(3):
        training.advance(Noise(training.recipe)(step))
    seen = {n: b for n, b in training.players.network.named_buffers() if "running_mean" in n}
    kept = dict(training.network.named_buffers())
    assert seen and all(b.any() and torch.equal(kept[n], b) for n, b in seen.items())


def test_the_rates_rise_and_fall_to_a_twentieth_in_every_stage() -> None:
    training = Training(recipe_for(TINY, steps=(1200, 1000), sides=(32, 32)))
    shares = []
    for training.step in (0, 49, 99, 600, 1200):
        shares.append(training.fall())
    assert shares == pytest.approx([0.01, 0.498, 0.984, 0.525, 0.05], abs=1e-3)
    training = Training(training.recipe, 1)
    assert training.fall() == pytest.approx(0.01)
    training.advance(Noise(training.recipe)(0))
    for name, optimizer in training.players.adam.items():
        (group,) = optimizer.param_groups
        assert group["lr"] == pytest.approx(0.01 * group["full_rate"]), name


# What goes wrong


def test_a_loss_that_is_not_finite_stops_naming_step_and_term() -> None:
    training = Training(RECIPE)
    batch = Noise(RECIPE)(0)
    bad = {"a": batch["a"], "b": batch["b"]._replace(has=batch["b"].has * float("nan"))}
    before = checkpoint.state_of(training._parts())
    with pytest.raises(DidaError, match="step 0: the reconstruction is not finite"):
        training.advance(bad)
    after = checkpoint.state_of(training._parts())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_critic_that_fails_leaves_everybody_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = Training(RECIPE)
    training.advance(Noise(RECIPE)(0))
    before = checkpoint.state_of(training._parts())
    played = nets.game

    def fails(*turn: Any) -> dict[str, Tensor]:
        terms = played(*turn)
        # a finite loss whose gradient is none
        return terms | {"critic": terms["critic"] + 0 * (terms["critic"] * 0).sqrt()}

    monkeypatch.setattr(nets, "game", fails)
    with pytest.raises(DidaError, match="step 1: the gradient is not finite"):
        training.advance(Noise(RECIPE)(1))
    after = checkpoint.state_of(training._parts())
    assert all(torch.equal(before[name], after[name]) for name in before)


def stop_at(run: Path, step: int, bad: list[int]) -> str:
    """What a training says whose batch of a step has bad pictures at these places of A."""

    class Spoiled(Noise):
        def __call__(self, at: int) -> Batch:
            batch = super().__call__(at)
            if at == step:
                batch["a"].has[bad] = float("inf")
            return batch

    with pytest.raises(DidaError) as stopped:
        core.fit(Training(RECIPE), Spoiled(RECIPE), run, Nobody())
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


def test_a_loss_that_is_not_finite_names_the_pictures_it_comes_from(tmp_path: Path) -> None:
    said = stop_at(tmp_path, 7, [1, 3])
    assert said.startswith("step 7: the ") and "(a7+1.png, a7+3.png); the last saved" in said
    assert "--override and a lower rate" in said
    assert json.loads((tmp_path / "last" / "progress.json").read_text())["step"] == 5
    checkpoint.load(tmp_path / "last")


def test_true_pairs_are_not_taken_for_the_pictures_at_fault(tmp_path: Path) -> None:
    class Paired(Noise):
        def __call__(self, at: int) -> Batch:
            batch = super().__call__(at)
            lacks = batch["b"].lacks
            batch["b"].has[1] = float("inf")
            return {**batch, "b pairs": Pairs(lacks, lacks, lacks)}

    recipe = recipe_for(RETOUCH)
    with pytest.raises(DidaError, match=r"^step 0: [^(]* \(b0\+1\.png\); the last saved"):
        core.fit(Training(recipe), Paired(recipe), tmp_path, Nobody())


def test_of_many_pictures_the_first_are_named_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Training, batch: Batch) -> dict[str, Tensor]:
        raise core.NotFiniteError("step 0: the gradient is not finite")

    monkeypatch.setattr(Training, "advance", fails)  # of pictures that alone are all fine
    assert "(a0+0.png, a0+1.png, a0+2.png, a0+3.png, 12 more)" in stop_at(tmp_path, 0, [])
    assert not (tmp_path / "last").exists()


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "run", RECIPE, 2)
    other = recipe_for(TINY, settings={"common": 9})
    with pytest.raises(DidaError, match="has shape"):
        resumed(other, tmp_path / "run" / "last")


def test_a_state_of_a_stage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "run", recipe_for(RETOUCH, steps=(2, 2)))
    with pytest.raises(DidaError, match="is of stage 2, which the recipe does not have"):
        resumed(recipe_for(RETOUCH), tmp_path / "run" / "last")


def test_a_critic_that_wins_is_logged_and_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WINDOW", 2)
    monkeypatch.setattr(runs, "WON", 0.0)
    with pytest.warns(UserWarning, match="step 6: the critic was right") as told:
        fit(tmp_path, RECIPE, 8)
        fit(tmp_path, RECIPE, 12)
    assert len(told) == 1
    warned = [line["step"] for line in runs.read_log(tmp_path) if "warning" in line]
    assert warned == [6]  # lines 4 and 6 are the first after the critic's start


# Scores


def scored(run: Path, scores: dict[int, float], stop: int = 12, **given: int) -> Training:
    """Train up to a step with scores every two steps, that are as told."""
    wanted = recipe_for(TINY, **{"score_every": 2, **given})
    last = run / "last"
    training = resumed(wanted, last) if last.exists() else Training(wanted)
    watcher = Nobody(
        stops=lambda: training.made >= stop,
        score=lambda network: {"score": scores[training.made], "other": 1.0},
    )
    core.fit(training, Noise(wanted), run, watcher)
    return training


def test_the_best_score_is_kept_as_a_model(tmp_path: Path) -> None:
    scores = {2: 0.1, 4: 0.4, 6: 0.4, 8: 0.2, 10: 0.3, 12: 0.0}
    scored(tmp_path / "run", scores, stop=7)
    training = scored(tmp_path / "run", scores)
    assert training.best == (4, 0.4, 4)  # not the second of the same score
    whole = scored(tmp_path / "until", scores, stop=4)
    kept = checkpoint.load(hub.resolve(str(tmp_path / "run" / "best")))
    wanted = checkpoint.baked(whole.network).state_dict()
    assert all(torch.equal(tensor, wanted[n]) for n, tensor in kept.state_dict().items())
    assert (tmp_path / "run" / "best" / "README.md").read_text() == "best 0.4\n"
    logged = {line["step"]: line["score"] for line in runs.read_log(tmp_path / "run")}
    assert logged == scores


def test_only_the_last_stage_is_scored(tmp_path: Path) -> None:
    wanted = recipe_for(RETOUCH, steps=(4, 4), score_every=2)
    asked: list[int] = []
    training = Training(wanted)
    watcher = Nobody(score=lambda network: asked.append(training.made) or {"score": 0.0})  # type: ignore[func-returns-value]
    core.fit(training, Noise(wanted), tmp_path, watcher)
    training = training.next_stage()
    core.fit(training, Noise(wanted, 1), tmp_path, watcher)
    assert asked == [6, 8] and training.best == (6, 0.0, 1)


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


def test_scores_that_draw_at_random_change_nothing(tmp_path: Path) -> None:
    def go(run: Path, score: Callable[..., dict[str, float] | None]) -> None:
        run.mkdir()
        training = Training(recipe_for(RETOUCH, steps=6, score_every=2))
        core.fit(training, Noise(training.recipe), run, Nobody(score=score))

    go(tmp_path / "scored", lambda network: {"score": torch.rand(3).sum().item()})
    go(tmp_path / "plain", lambda network: None)
    states = [(tmp_path / run / "last" / runs.STATE).read_bytes() for run in ("scored", "plain")]
    assert states[0] == states[1] and not (tmp_path / "plain" / "best").exists()


# Devices and precisions


def test_float16_is_for_cuda() -> None:
    with pytest.raises(DidaError, match="precision float16 needs CUDA"):
        Training(recipe_for(TINY, precision="float16"))


@pytest.mark.parametrize("config", [TINY, MASKED, MASK, RETOUCH], ids=lambda c: c.method)
def test_bfloat16_learns_on_a_cpu(config: ModelConfig) -> None:
    whole, less = (
        Training(recipe_for(config, precision=precision)) for precision in ("float32", "bfloat16")
    )
    for step in range(3):
        exact, rough = (t.advance(Noise(t.recipe)(step)) for t in (whole, less))
    terms = methods.find(config.method).losses(whole.players, Noise(whole.recipe)(3), 3)
    for name in (name for name, term in terms.items() if term.requires_grad):
        assert rough[name].item() == pytest.approx(exact[name].item(), rel=0.1, abs=0.05), name
    assert all(p.dtype == torch.float32 for p in less.players.parameters)


def test_a_compiled_training_is_asked_for_by_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda losses: compiled.append(losses) or losses)
    Training(recipe_for(TINY, compile=True))
    assert compiled == [methods.find("didd").losses]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("config", [TINY, MASKED, MASK, RETOUCH], ids=lambda c: c.method)
def test_cuda_trains_like_the_cpu(config: ModelConfig, precision: str) -> None:
    on_cpu = Training(recipe_for(config))
    on_cuda = Training(recipe_for(config, precision=precision), device="cuda")
    for step in range(3):
        terms, cuda_terms = (t.advance(Noise(t.recipe)(step)) for t in (on_cpu, on_cuda))
    close = {"rel": 1e-2, "abs": 1e-3} if precision == "float32" else {"rel": 0.1, "abs": 0.05}
    for name in ("critic", *(n for n in terms if n.startswith(("back", "reconstruction")))):
        assert cuda_terms[name].item() == pytest.approx(terms[name].item(), **close), name


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_auto_is_the_precision_that_the_processor_multiplies_faster(
    told: dict[str, object], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert precision_on(torch.device("cpu"), "auto") == wanted
