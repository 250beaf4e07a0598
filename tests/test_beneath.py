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
    usual = beneath.Usual(8)
    usual.add(beneath.bases(teacher, teacher.decoder, pictures()))
    halves = pictures().chunk(2)
    made = beneath.beneath_loss(model, critic, *halves, WEIGHTS, "half", teacher.decoder, usual)
    return {name: term.item() for name, term in made.terms.items()}


def everywhere(faces: Tensor, bases: Tensor, usual: Tensor) -> Tensor:
    return torch.ones_like(faces[:, :1])


def test_the_decoder_alone_learns() -> None:
    model = built()
    known = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = core.Training(LAYERS, SETTINGS)
    assert training.begin_from(model) == []
    assert training.teacher
    for _ in range(2):
        training.advance(*pictures().chunk(2))
    now = training.model.state_dict()
    moved = {name for name, tensor in now.items() if not torch.equal(tensor, known[name])}
    assert moved and all(name.startswith("decoder.") for name in moved)
    taught = training.teacher.state_dict()
    assert taught
    for name, tensor in taught.items():
        assert torch.equal(tensor, known[f"decoder.{name}"]), name


def test_bases_of_the_last_steps_are_remembered_as_the_teacher_made_them() -> None:
    model = built()
    training = core.Training(LAYERS, replace(SETTINGS, lookalikes=6))
    training.begin_from(model)
    for shift in range(3):
        training.advance(*(pictures() + shift / 10).clamp(-1, 1).chunk(2))
    assert isinstance(training.lookalikes, beneath.Usual)
    held = training.lookalikes.bases
    assert len(held) == 12  # of both domains
    last = beneath.bases(model, model.decoder, (pictures() + 0.2).clamp(-1, 1))
    assert held[:8].allclose(last, atol=1e-5)


def test_what_is_usual_is_of_faces_that_are_alike_around_the_part() -> None:
    def face(skin: float, thing: float | None = None) -> Tensor:
        made = torch.full((3, 32, 32), skin)
        if thing is not None:
            made[:, 14:18, 12:20] = thing
        return made

    pale, dark = [face(0.8 + 0.001 * i) for i in range(12)], [face(-0.8) for _ in range(20)]
    usual = beneath.Usual(20)
    usual.add(torch.stack([*dark, *pale, face(0.8, -1.0)]))
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 12:20, 12:20] = 1
    found = usual.of(torch.stack([face(0.8, -1.0), face(-0.8, 1.0)]), mask)
    assert found[0].allclose(torch.tensor(0.8), atol=0.02)
    assert found[1].allclose(torch.tensor(-0.8))
    usual.add(torch.stack([face(0.1)] * 40))
    assert usual.bases.shape == (40, 3, 32, 32)
    assert usual.of(face(0.8)[None], mask[:1]).allclose(torch.tensor(0.1))


@pytest.mark.parametrize(
    ("base", "picture", "usual", "own"),
    [
        (0.5, 0.5, 0.0, 1.0),
        (0.5, 0.5, 0.5, 0.0),  # so are all such faces
        (0.5, 0.0, 0.0, 0.0),  # the picture does not show it
        (0.5, 0.3125, 0.0, 0.5),
        (0.25, 0.25, 0.0, 0.5),
    ],
)
def test_a_faces_own_is_what_its_base_shows_and_others_do_not(
    base: float, picture: float, usual: float, own: float
) -> None:
    values = (torch.full((1, 3, 2, 2), value) for value in (picture, base, usual))
    assert beneath.own_things(*values).allclose(torch.tensor(own))


def test_masks_come_to_be_shut_over_a_faces_own_and_stay_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upper_half(faces: Tensor, bases: Tensor, usual: Tensor) -> Tensor:
        half = torch.zeros_like(faces[:, :1])
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

    def spied(faces: Tensor, bases: Tensor, usual: Tensor) -> Tensor:
        shown.append((faces, bases))
        return everywhere(faces, bases, usual)

    monkeypatch.setattr(beneath, "own_things", spied)
    terms(model := built(), model)
    faces, bases = shown[0]
    assert torch.equal(faces, torch.cat([pictures(), pictures().roll(4, 0)]))
    assert bases.allclose(beneath.bases(model, model.decoder, faces), atol=1e-5)


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
