"""Going on with a model of masks: the decoder learns what its parts lie beneath."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from torch import Tensor

from dida_cli import beneath, checkpoint, losses, nets, settings
from dida_cli import train as core
from dida_cli.config import ModelConfig, TrainConfig
from dida_cli.errors import DidaError
from dida_cli.mask import Layers

LAYERS = replace(TINY, method="layers", glass="b")
WEIGHTS = settings.training_of(settings.read("beneath"), LAYERS).weights
SETTINGS = TrainConfig(
    refine="beneath", lookalikes=8, rise=False, weights=WEIGHTS, batch=4, critic_start=0
)


def built(config: ModelConfig = LAYERS) -> Layers:
    torch.manual_seed(0)
    model = checkpoint.build(config)
    assert isinstance(model, Layers)
    return model


def pictures(count: int = 8) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count)) * 2 - 1


def terms(model: Layers, teacher: Layers) -> dict[str, float]:
    """What a model is told that was begun from another."""
    torch.manual_seed(1)
    critic = nets.Critic(model.config)
    bases = beneath.Bases(8)
    bases.add(beneath.bases_of(teacher, teacher.decoder, pictures()))
    halves = pictures().chunk(2)
    made = beneath.beneath_loss(model, critic, *halves, WEIGHTS, "half", teacher.decoder, bases)
    return {name: term.item() for name, term in made.terms.items()}


def everywhere(unlike: Tensor, unseen: Tensor) -> Tensor:
    return torch.ones_like(unlike)


def test_bases_of_the_last_steps_are_remembered_as_the_teacher_made_them() -> None:
    model = built()
    training = core.Training(LAYERS, replace(SETTINGS, lookalikes=6))
    training.begin_from(model)
    for shift in range(3):
        training.advance(*(pictures() + shift / 10).clamp(-1, 1).chunk(2))
    assert isinstance(training.lookalikes, beneath.Bases)
    last = beneath.bases_of(model, model.decoder, (pictures() + 0.2).clamp(-1, 1)).chunk(2)
    for part, bases in zip("ab", last, strict=True):
        held = training.lookalikes.known[part]  # type: ignore[index]
        assert len(held) == 6 and held[:4].allclose(bases, atol=1e-5)


def test_what_is_usual_is_of_faces_of_the_domain_that_are_alike_around_the_part() -> None:
    def face(skin: float, thing: float | None = None) -> Tensor:
        made = torch.full((3, 32, 32), skin)
        if thing is not None:
            made[:, 14:18, 12:20] = thing
        return made

    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 12:20, 12:20] = 1
    there = face(0.0, 1.0)[:1] > 0
    own, pale = face(0.8, -1.0), [face(0.8)] * 20
    dark = [face(-0.8, -1.0)] * 20  # which may have what they want

    def unlike(*others: Tensor) -> Tensor:
        bases = beneath.Bases(64)
        bases.add(torch.stack([own, *others, *[face(0.0, -1.0)] * (1 + len(others))]))
        return bases.unlike("a", own[None], mask)[0]

    alone = unlike(*pale, *dark)
    assert alone[there].allclose(torch.tensor(1.8)) and alone[~there].eq(0).all()
    assert unlike(*pale, *dark, *[own] * beneath.FEW).equal(alone)
    assert unlike(*pale, *dark, *[own] * (beneath.FEW + 1)).eq(0).all()  # so have others


def test_the_oldest_bases_are_forgotten() -> None:
    bases = beneath.Bases(6)
    for value in (0.1, 0.2):
        bases.add(torch.full((8, 3, 8, 8), value))
    for part in ("a", "b"):
        assert bases.known[part][:, 0, 0, 0].tolist() == pytest.approx([0.2] * 4 + [0.1] * 2)


@pytest.mark.parametrize(
    ("unlike", "unseen", "own"),
    [
        (0.5, 0.0, 1.0),
        (0.0, 0.0, 0.0),  # others have it too
        (0.5, 0.5, 0.0),  # the picture does not show it
        (0.5, 0.1875, 0.5),
        (0.15, 0.0, 0.5),
    ],
)
def test_a_faces_own_is_what_its_base_shows_and_others_do_not(
    unlike: float, unseen: float, own: float
) -> None:
    values = (torch.full((1, 1, 2, 2), value) for value in (unlike, unseen))
    assert beneath.own_things(*values).allclose(torch.tensor(own))


def test_masks_come_to_be_shut_over_a_faces_own_and_stay_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upper_half(unlike: Tensor, unseen: Tensor) -> Tensor:
        half = torch.zeros_like(unlike)
        half[:, :, :16] = 1
        return half

    monkeypatch.setattr(beneath, "own_things", upper_half)
    model = built()
    training = core.Training(LAYERS, replace(SETTINGS, learning_rate=3e-3))
    training.begin_from(model)
    before = terms(model, model)
    for _ in range(60):
        training.advance(*pictures().chunk(2))
    assert isinstance(training.model, Layers)
    assert terms(training.model, model)["cover"] < 0.5 * before["cover"]
    codes = losses.own_parts(model.encode(pictures()))
    masks = [beneath.Shown.by(m.decoder, codes).mask for m in (model, training.model)]
    upper, lower = (masks[1] - masks[0]).split(16, dim=2)
    glass = torch.tensor([False] * 4 + [True] * 4).repeat(2)  # B's rows, own and exchanged
    assert upper[~glass].mean() < -0.3
    assert lower.abs().mean() < 0.15 and upper[glass].abs().mean() < 0.15


def test_a_teacher_is_told_of_a_faces_own_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "OWN", 9.0)  # no base is so unusual
    found = terms(model := built(), model)
    assert found["exchange"] == found["base"] == found["cover"] == 0
    shut = found["claim"]
    monkeypatch.setattr(beneath, "own_things", everywhere)
    found = terms(model, model)
    assert found["exchange"] == found["base"] == 0
    assert found["cover"] > 0.01 and found["claim"] > shut + 0.01


def test_glass_lies_beneath_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "own_things", everywhere)
    model = built(replace(LAYERS, glass="both"))
    assert terms(model, model)["cover"] == 0


def test_a_part_that_is_exchanged_lies_beneath_what_the_other_face_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[tuple[Tensor, Tensor]] = []

    def spied(unlike: Tensor, unseen: Tensor) -> Tensor:
        shown.append((unlike, unseen))
        return everywhere(unlike, unseen)

    monkeypatch.setattr(beneath, "own_things", spied)
    monkeypatch.setattr(beneath, "ALIKE", 1)
    monkeypatch.setattr(beneath, "FEW", 0)  # how far from the other face of two
    model, (a, b) = built(replace(LAYERS, glass="none")), pictures().chunk(2)
    critic = nets.Critic(model.config)
    bases = beneath.Bases(2)
    bases.add(beneath.bases_of(model, model.decoder, torch.cat([a[:2], b[:2]])))
    args = (WEIGHTS, "half", model.decoder, bases)
    beneath.beneath_loss(model, critic, a[:2], b[:2], *args)  # type: ignore[arg-type]
    of_a, of_b = bases.known["a"], bases.known["b"]
    apart = [losses.error(known[:1], known[1:]).repeat(2, 1, 1, 1) for known in (of_a, of_b)]
    unlike, unseen = (torch.cat(quarters) for quarters in zip(*shown, strict=True))
    assert unlike.allclose(torch.cat([apart[i] for i in (0, 1, 1, 0)]), atol=1e-5)
    hidden = [losses.error(of_a, a[:2]), losses.error(of_b, b[:2])]
    assert unseen.allclose(torch.cat([hidden[i] for i in (0, 1, 1, 0)]), atol=1e-5)


def test_what_lies_beneath_is_no_glass_and_needs_lookalikes() -> None:
    asked = {"training.refine": "beneath", "training.lookalikes": 8}
    for model in (TINY, replace(LAYERS, glass="both"), replace(LAYERS, separate_b=0, glass="a")):
        with pytest.raises(DidaError, match="refine beneath is for layers of no glass"):
            settings.training_of(asked, model)
    assert settings.training_of(asked, replace(LAYERS, glass="none")).refine == "beneath"
    with pytest.raises(DidaError, match="beneath needs lookalikes; set it too, to 256"):
        TrainConfig(refine="beneath")
    with pytest.raises(DidaError, match="set hold to 0 and hides to false"):
        TrainConfig(refine="beneath", lookalikes=8, hides=True)


def test_weights_are_of_losses_that_there_are() -> None:
    found = terms(model := built(), model)
    assert {name for name, value in WEIGHTS.to_json().items() if value} <= found.keys()
