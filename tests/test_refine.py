"""Going on with a model of masks: who learns, from what edits, and what is asked of them."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from torch import Tensor

from dida_cli import checkpoint, nets, refine, settings
from dida_cli import train as core
from dida_cli.config import Glass, ModelConfig, TrainConfig, Weights
from dida_cli.errors import DidaError
from dida_cli.mask import Layers
from dida_cli.painting import Step

LAYERS = replace(TINY, method="layers", glass="b")
WEIGHTS = settings.training_of(settings.read("refine"), LAYERS).weights
SETTINGS = TrainConfig(refine="glass", rise=False, weights=WEIGHTS, batch=4, critic_start=0)


def built(config: ModelConfig = LAYERS) -> Layers:
    torch.manual_seed(0)
    model = checkpoint.build(config)
    assert isinstance(model, Layers)
    return model


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count)) * 2 - 1


def terms(model: Layers, teacher: Layers) -> dict[str, float]:
    """What a model is told that was begun from another."""
    a, b = pictures(8).chunk(2)
    torch.manual_seed(1)
    critic = nets.Critic(model.config)
    made = refine.refine_loss(model, critic, a, b, WEIGHTS, "half", teacher.encoders.common).terms
    return {name: term.item() for name, term in made.items()}


@pytest.mark.parametrize(
    ("config", "preset", "learns"),
    [
        (LAYERS, "refine", "encoders.common."),
        (replace(LAYERS, separate_b=0, glass="a"), "refine", "encoders.common."),
        (LAYERS, "beneath", "decoder."),
        (replace(LAYERS, separate_b=0, glass="none"), "place", "decoder."),
    ],
)
def test_the_preset_says_who_alone_learns(config: ModelConfig, preset: str, learns: str) -> None:
    model = built(config)
    known = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chosen = settings.training_of(settings.read(preset), config)
    training = core.Training(config, replace(chosen, rise=False, batch=4, critic_start=0))
    assert training.begin_from(model) == []
    assert training.teacher
    for _ in range(2):
        training.advance(*pictures(8).chunk(2))
    now = training.model.state_dict()
    moved = {name for name, tensor in now.items() if not torch.equal(tensor, known[name])}
    assert moved and all(name.startswith(learns) for name in moved)
    taught = training.teacher.state_dict()
    assert taught
    for name, tensor in taught.items():
        assert torch.equal(tensor, known[learns + name]), name


def test_it_comes_to_say_of_edits_what_the_teacher_says_of_bare_faces() -> None:
    model = built()
    training = core.Training(LAYERS, SETTINGS)
    training.begin_from(model)
    before = terms(model, model)
    for _ in range(30):
        training.advance(*pictures(8).chunk(2))
    assert isinstance(training.model, Layers)
    after = terms(training.model, model)
    for name in ("cycle", "cycle_common", "exchange"):
        assert after[name] < 0.9 * before[name], name


def test_a_teacher_finds_nothing_wrong_but_with_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STRENGTH", (0.0, 0.0))
    monkeypatch.setattr(refine, "PASTED", 0.0)
    monkeypatch.setattr(refine, "OWN", 1.0)
    found = terms(model := built(), model)  # of edits that change nothing
    assert found["cycle"] == found["exchange"] == 0 and found["cycle_common"] < 1e-6
    assert found["reconstruction_b"] > 0
    monkeypatch.setattr(refine, "STRENGTH", (1.0, 1.0))
    found = terms(model, model)
    assert min(found[name] for name in ("cycle", "exchange", "cycle_common")) > 1e-4


@pytest.mark.parametrize(
    ("glass", "parts", "separate_b"),
    [("a", "a", 2), ("b", "b", 2), ("both", "ab", 2), ("a", "a", 0)],
)
def test_the_parts_that_are_seen_through_are_learned(
    glass: Glass, parts: str, separate_b: int
) -> None:
    model = built(replace(LAYERS, glass=glass, separate_b=separate_b))
    shared = {"common", "cycle", "cycle_common", "exchange"}
    assert terms(model, model).keys() == shared | {f"reconstruction_{part}" for part in parts}


def test_both_parts_add_up() -> None:
    def cycle(glass: Glass) -> float:
        model = built(replace(LAYERS, glass=glass))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(refine, "STRENGTH", (1.0, 1.0))
            patch.setattr(refine, "PASTED", 0.0)
            patch.setattr(refine, "OWN", 1.0)
            return terms(model, model)["cycle"]

    assert cycle("both") == pytest.approx(cycle("a") + cycle("b"), rel=1e-4)


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_some_faces_keep_their_own_part(own: float, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = torch.zeros(4, 3, 32, 32)
    solid = refine.Shown(base=blank + 0.5, layer=blank, mask=torch.ones(4, 1, 32, 32))
    assert solid.rebuilt.allclose(blank)
    monkeypatch.setattr(refine.Shown, "by", lambda model, codes: solid)
    shown: list[Tensor] = []

    def wearing(onto: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        shown.append(onto)
        return onto, onto[:, :1]

    monkeypatch.setattr(refine, "wearing", wearing)
    monkeypatch.setattr(refine, "OWN", own)
    terms(model := built(), model)
    faces = pictures(8)[:4]  # A's, which B's glass is put on
    assert torch.equal(shown[0], faces) if own else shown[0].allclose(torch.tensor(0.5))


@pytest.mark.parametrize(("glass", "own"), [("a", False), ("b", False), ("both", True)])
def test_own_glass_is_taken_off_as_glass(
    glass: Glass, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    taken_off = refine.taken_off

    def spied(*shown: Tensor, glass: bool) -> Step:
        seen.append(glass)
        return taken_off(*shown, glass=glass)

    monkeypatch.setattr(refine, "taken_off", spied)
    terms(model := built(replace(LAYERS, glass=glass)), model)
    assert seen and set(seen) == {own}


def test_a_part_that_hides_all_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STRENGTH", (1.0, 1.0))
    monkeypatch.setattr(refine, "PASTED", 1.0)
    onto, source = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.8)
    layer, mask = source - 0.1, torch.full((2, 1, 8, 8), 0.6)
    layer[..., :4] = 0.2  # unlike its picture: something of a face is there
    mask[..., 4:, :] = 0.4  # a part that is seen through
    edits, where = refine.wearing(onto, layer, mask, source)
    assert torch.equal(where, mask)
    assert torch.equal(edits[..., :4, 4:], source[..., :4, 4:])
    assert edits[..., :4, :4].allclose(torch.tensor(0.12))
    assert edits[..., 4:, 4:].allclose(torch.tensor(0.28))
    monkeypatch.setattr(refine, "PASTED", 0.0)
    assert refine.wearing(onto, layer, mask, source)[0].allclose(mask * layer)


def test_edits_are_of_many_strengths_and_never_over_solid() -> None:
    nothing, mask = torch.zeros(64, 3, 4, 4), torch.full((64, 1, 4, 4), 0.8)
    edits, where = refine.wearing(nothing, nothing + 1, mask, nothing)
    assert where.flatten(1).std(1).eq(0).all() and edits.allclose(where.expand_as(edits))
    assert 0.8 * refine.STRENGTH[0] <= where.amin() < 0.75 and where.amax() == 1


def test_the_network_is_the_one_that_is_gone_on_with() -> None:
    training = core.Training(LAYERS, SETTINGS)
    with pytest.raises(DidaError, match=r"very network .* no decoder\.9\.bias"):
        training.begin_from(checkpoint.build(TINY))


def test_refining_is_for_glass_and_nothing_else_beside() -> None:
    for model in (TINY, replace(LAYERS, glass="none")):
        with pytest.raises(DidaError, match="refine glass is for layers of glass"):
            settings.training_of({"training.refine": "glass"}, model)
    with pytest.raises(DidaError, match="glass goes on without lookalikes; set it to 0"):
        TrainConfig(refine="glass", weights=Weights(), lookalikes=3)
    with pytest.raises(DidaError, match="set hold to 0 and hides to false"):
        TrainConfig(refine="glass", weights=Weights(), hold=3)


def test_weights_are_of_losses_that_there_are() -> None:
    found = terms(model := built(replace(LAYERS, glass="both")), model)
    assert {name for name, value in WEIGHTS.to_json().items() if value} <= found.keys()
