"""Going on with a model of masks: what learns, what is kept, and what the encoder is shown."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from torch import Tensor

from dida_cli import checkpoint, losses, nets, refine, settings
from dida_cli import train as core
from dida_cli.codes import Codes
from dida_cli.config import ModelConfig, TrainConfig, Weights
from dida_cli.errors import DidaError
from dida_cli.mask import Layers

LAYERS = replace(TINY, method="layers", glass="b")
WEIGHTS = settings.training_of(settings.read("refine"), LAYERS).weights
SETTINGS = TrainConfig(refine=True, rise=False, weights=WEIGHTS, batch=4, critic_start=0)


def built(config: ModelConfig = LAYERS, seed: int = 0) -> Layers:
    torch.manual_seed(seed)
    model = checkpoint.build(config)
    assert isinstance(model, Layers)
    return model


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count)) * 2 - 1


def shown(model: Layers, both: Tensor) -> refine.Shown:
    with torch.no_grad():
        return refine.Shown.by(model, losses.own_parts(model.encode(both)))


@pytest.mark.parametrize("config", [LAYERS, replace(LAYERS, separate_b=0, glass="a")])
def test_the_common_encoder_and_the_decoder_alone_learn(config: ModelConfig) -> None:
    model = built(config)
    training = core.Training(config, SETTINGS)
    assert training.begin_from(model) == []
    terms = training.advance(pictures(4), pictures(5)[1:])
    assert {name for name, value in WEIGHTS.to_json().items() if value} <= set(terms)
    known, teacher = model.state_dict(), training.teacher
    moved = {n for n, t in training.model.state_dict().items() if not torch.equal(t, known[n])}
    assert {name.split(".")[0] for name in moved} == {"encoders", "decoder"}
    assert {name.split(".")[1] for name in moved if name[0] == "e"} == {"common"}
    assert teacher and all(torch.equal(t, known[n]) for n, t in teacher.state_dict().items())


def test_bases_become_the_pictures_while_masks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from a part, that is: here it lies in the upper half of every picture."""
    where = torch.zeros(1, 1, 32, 32)
    where[..., :16, :] = 0.9
    made = Layers.layer

    def layer(self: Layers, codes: Codes) -> tuple[Tensor, Tensor]:
        return made(self, codes)[0], where.expand(len(codes.common), -1, -1, -1)

    monkeypatch.setattr(Layers, "layer", layer)
    model, (a, b) = built(), pictures(8).chunk(2)
    bases = []
    for base in (1.0, 0.0):
        training = core.Training(LAYERS, replace(SETTINGS, weights=replace(WEIGHTS, base=base)))
        training.begin_from(model)
        for _ in range(20):
            training.advance(a, b)
        error = losses.error(shown(training.model, torch.cat([a, b])).base, torch.cat([a, b]))  # type: ignore[arg-type]
        bases.append(error[..., 20:, :].mean())
    assert bases[0] < bases[1] - 0.01


def test_nothing_is_kept_of_what_did_not_change() -> None:
    teacher, both = built(), pictures(8)
    taught, covered = shown(teacher, both), torch.zeros(8, 1, 32, 32)
    assert refine.kept(taught, taught, covered + 1) == 0
    other = taught._replace(base=taught.base + 0.5)
    assert refine.kept(other, taught, covered) == 0
    covered[..., :8, :] = 1  # a quarter of the picture
    assert refine.kept(other, taught, covered) == pytest.approx(0.125, abs=1e-4)


@pytest.mark.parametrize(("layer", "mask"), [("layer", "mask"), ("given", "where")])
def test_masks_are_kept_and_layers_where_they_are_open(layer: str, mask: str) -> None:
    taught, covered = shown(built(), pictures(8)), torch.zeros(8, 1, 32, 32)
    half = torch.zeros(8, 1, 32, 32)
    half[..., :16] = 1
    taught = taught._replace(mask=half, where=half)
    shut = taught._replace(**{mask: 0 * half})
    assert refine.kept(shut, taught, covered) == pytest.approx(0.5)
    painted = {place: getattr(taught, layer) + change for place, change in ((0, 0.2), (1, 0.4))}
    new = torch.where(half > 0, painted[0], painted[1])  # nobody sees the second
    assert refine.kept(taught._replace(**{layer: new}), taught, covered) == pytest.approx(
        0.1, abs=1e-4
    )


def test_a_part_that_hides_all_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STRENGTH", (1.0, 1.0))
    monkeypatch.setattr(refine, "PASTED", 1.0)
    onto, source = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.8)
    layer, mask = source - 0.1, torch.full((2, 1, 8, 8), 0.6)
    layer[..., :4] = 0.2  # unlike its picture: something of a face is there
    mask[..., 4:, :] = 0.4  # a part that is seen through
    edits, where = refine.worn(onto, layer, mask, source)
    assert torch.equal(where, mask)
    assert torch.equal(edits[..., :4, 4:], source[..., :4, 4:])
    assert edits[..., :4, :4].allclose(torch.tensor(0.12))
    assert edits[..., 4:, 4:].allclose(torch.tensor(0.28))
    monkeypatch.setattr(refine, "PASTED", 0.0)
    assert refine.worn(onto, layer, mask, source)[0].allclose(mask * layer)


def test_edits_are_of_many_strengths_and_never_over_solid() -> None:
    nothing, mask = torch.zeros(64, 3, 4, 4), torch.full((64, 1, 4, 4), 0.8)
    edits, where = refine.worn(nothing, nothing + 1, mask, nothing)
    assert where.flatten(1).std(1).eq(0).all() and edits.allclose(where.expand_as(edits))
    assert 0.8 * refine.STRENGTH[0] <= where.amin() < 0.75 and where.amax() == 1


def test_what_is_asked_under_an_edit_is_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cycle` is the base's error where another's part lies, and the own does not."""
    where = torch.zeros(1, 1, 32, 32).repeat(8, 1, 1, 1)
    where[:4, :, :8] = 1  # A's parts above, B's below
    where[4:, :, 24:] = 1

    def layer(self: Layers, codes: object) -> tuple[Tensor, Tensor]:
        return torch.zeros(8, 3, 32, 32), where

    def by(model: Layers, codes: object) -> refine.Shown:
        nothing = torch.zeros(8, 3, 32, 32)
        return refine.Shown(nothing, nothing, where, nothing, losses.other(where))

    monkeypatch.setattr(Layers, "layer", layer)
    monkeypatch.setattr(refine.Shown, "by", by)
    a, b = pictures(8).chunk(2)
    a[:, :, 22:], b[:, :, :10] = 0.25, 0.25  # what is hidden, of a base that is 0 everywhere
    model = built()
    loss = refine.refine_loss(model, nets.Critic(LAYERS), a, b, WEIGHTS, "half", model)
    assert loss.terms["cycle"].item() == pytest.approx(0.25)  # and 0 for its form: both are flat


def test_form_is_told_without_brightness_and_asks_for_all_of_the_contrast() -> None:
    brow = torch.zeros(1, 3, 16, 16)
    brow[..., 6:9, 4:12] = -1
    elsewhere = brow.roll(6, dims=2)
    assert refine.unlike(brow + 0.5, brow).abs().amax() < 1e-3
    assert refine.unlike(brow, elsewhere).mean() > 0.3
    faint = [refine.unlike(share * brow, brow).mean().item() for share in (0.25, 0.5, 0.75, 1.25)]
    assert faint[0] > faint[1] > faint[2] > 0.01 and faint[3] > 0.005

    def risk(guess: Tensor) -> float:
        """Two times of three it is here, else there."""
        return sum(refine.unlike(guess, truth).mean().item() for truth in (brow, brow, elsewhere))

    assert risk(brow) < risk((2 * brow + elsewhere) / 3) and risk(brow) < risk(0.6 * brow)


def test_the_network_is_the_one_that_is_gone_on_with() -> None:
    training = core.Training(LAYERS, SETTINGS)
    with pytest.raises(DidaError, match=r"very network .* no decoder\.9\.bias"):
        training.begin_from(checkpoint.build(TINY))


def test_refining_is_for_masks_and_nothing_else_beside() -> None:
    with pytest.raises(DidaError, match="refine: method didd has no layers to keep"):
        settings.training_of({"training.refine": True}, TINY)
    for name in ("lookalikes", "hold"):
        with pytest.raises(DidaError, match="set lookalikes and hold to 0"):
            TrainConfig(refine=True, weights=Weights(), **{name: 3})  # type: ignore[arg-type]
