"""Going on with a one-sided model of masks: the decoder learns the place of its part of twins."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from torch import Tensor

from dida_cli import checkpoint, losses, nets, place, settings
from dida_cli import train as core
from dida_cli.codes import Codes
from dida_cli.config import ModelConfig, TrainConfig
from dida_cli.errors import DidaError
from dida_cli.mask import Layers

LAYERS = replace(TINY, method="layers", separate_b=0)
WEIGHTS = settings.training_of(settings.read("place"), LAYERS).weights
SETTINGS = TrainConfig(
    refine="place", lookalikes=8, rise=False, weights=WEIGHTS, batch=4, critic_start=0
)
NEARLY = 1 / 127.5  # pictures are remembered by whole levels
PLACE = (slice(None), slice(None), slice(18, 24), slice(10, 22))  # where faces have their part


def built(config: ModelConfig = LAYERS) -> Layers:
    torch.manual_seed(0)
    model = checkpoint.build(config)
    assert isinstance(model, Layers)
    return model


def faces(count: int, part: bool = True) -> Tensor:
    """(count, 3, 32, 32): skins, no two of which are alike; some with a part in its place."""
    skins = torch.linspace(-0.8, 0.4, count)[:, None, None, None]
    made = skins.repeat(1, 3, 32, 32)
    if part:
        made[PLACE] += 0.5
    return made


def knows_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of the model that is begun from are open in the part's place."""

    def painted(decoder: torch.nn.Module, codes: Codes) -> tuple[Tensor, Tensor]:
        mask = torch.zeros(len(codes.common), 1, 32, 32)
        mask[PLACE] = 1
        return mask.repeat(1, 3, 1, 1), mask

    monkeypatch.setattr(place, "painted", painted)


def pool(model: Layers, a: Tensor, b: Tensor | None = None) -> place.Twins:
    twins = place.Twins(64)
    twins.add(model, model.decoder, a, faces(len(a), part=False) if b is None else b)
    return twins


def loss(model: Layers, a: Tensor, b: Tensor, twins: place.Twins) -> losses.Losses:
    """What a model is told that is its own teacher."""
    critic = nets.Critic(model.config)
    return place.place_loss(model, critic, a, b, WEIGHTS, "half", model.decoder, twins)


def test_a_twin_has_the_skin_of_a_face_whatever_is_in_the_parts_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "KIND", 1)  # of any kind
    knows_the_place(monkeypatch)
    model, known = built(), faces(7)
    twins, wanted = pool(model, known), faces(7, part=False)[[5, 0, 3]]
    wanted[PLACE] -= 0.15  # another part
    found = twins.having(wanted, model.encode(wanted).a)
    assert found.allclose(known[[5, 0, 3]], atol=NEARLY)
    wanted[:, :, 8:17] = 0.9  # far beside it nothing is compared, and near it most is alike
    assert twins.having(wanted, model.encode(wanted).a).allclose(found)
    found = twins.lacking(known[[2, 6]])
    assert found.allclose(faces(7, part=False)[[2, 6]], atol=NEARLY)


def test_a_twin_has_nearly_the_kind_of_part_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knows_the_place(monkeypatch)
    model = built()
    twins = pool(model, faces(8).repeat(2, 1, 1, 1))
    twins.kinds = torch.arange(16.0)[:, None].repeat(1, twins.kinds.shape[1])
    kinds = torch.tensor([0.0, 15.0])[:, None, None, None].expand(
        2, *model.encode(faces(2)).a[0].shape
    )
    found = twins.having(faces(8, part=False)[[6, 6]], kinds)
    # of the four that come first and last: the likest of them
    assert found.allclose(faces(8)[[3, 6]], atol=NEARLY)


def test_parts_may_be_where_the_masks_of_some_faces_are_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knows_the_place(monkeypatch)
    near = pool(built(), faces(4)).near
    assert near.shape == (1, 1, 32, 32)
    assert near[0, 0, 16:26, 8:24].eq(1).all() and near.sum() == 10 * 16  # two pixels around


def test_twins_are_of_the_first_pictures_and_no_more() -> None:
    training = core.Training(LAYERS, replace(SETTINGS, lookalikes=6))
    training.begin_from(built())

    def batches(step: int) -> tuple[Tensor, Tensor]:
        return faces(4) + step / 10, faces(4, part=False)

    training.step = 7
    training.recall(batches)
    assert isinstance(training.lookalikes, place.Twins)
    first = torch.cat([batches(0)[0], batches(1)[0]])[:6]
    held = training.lookalikes
    for _ in range(2):
        assert len(held.b.pictures) == len(held.kinds) == 6 and held.a.pictures.dtype == torch.uint8
        assert (held.a.pictures / 127.5 - 1).allclose(first, atol=NEARLY)
        training.advance(*batches(7))


def test_masks_come_to_be_open_where_twins_differ_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, "KIND", 1)
    training = core.Training(LAYERS, replace(SETTINGS, learning_rate=3e-3))
    training.begin_from(built())
    a, b = faces(8), faces(8, part=False)
    for step in range(120):
        rows = torch.arange(4) + 4 * (step % 2)
        # bases that have learned nothing are near to nobody
        monkeypatch.setattr(place.Twins, "lacking", lambda *_, rows=rows: b[rows])
        training.advance(a[rows], b[rows])
    learned = training.model
    assert isinstance(learned, Layers)
    with torch.no_grad():
        of_a, of_b = learned.encode(a), learned.encode(b)
        own = learned.layer(of_a)[1]
        given = learned.layer(of_b._replace(a=of_a.a))[1]
        closed = learned.layer(of_b.without("a"))[1]
    inside = torch.zeros(1, 1, 32, 32)
    inside[PLACE] = 1
    for mask in (own, given):
        assert (mask * inside).sum() / (8 * inside.sum()) > 0.8
        assert (mask * (1 - inside)).mean() < 0.05
    assert closed.mean() < 0.1


def test_what_a_part_hides_is_of_its_place_and_what_lies_over_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Tensor] = []

    def spied(claimed: Tensor, mask: Tensor) -> Tensor:
        asked.append(claimed)
        return mask.mean()

    monkeypatch.setattr(place, "claim_loss", spied)
    monkeypatch.setattr(place, "KIND", 1)
    knows_the_place(monkeypatch)
    model, a, b = built(), faces(4), faces(4, part=False)
    bare = b.clone()  # which the bases are nearest to, that show nothing
    b[:, :, 17:19, 10:22] = -1.0  # another part, half beside this one
    for all_have in (a, b, bare):
        all_have[:, :, 22:24, 10:22] = 1.0  # over it
    twins = pool(model, a, bare)
    monkeypatch.setattr(twins, "lacking", lambda bases: bare)
    loss(model, a, b, twins)
    own, given, closed = asked
    wanted = torch.zeros(4, 1, 32, 32)
    wanted[:, :, 18:22, 10:22] = 1
    assert own.equal(wanted) and not closed.any()
    wanted[:, :, 17, 10:22] = 1
    assert given.equal(wanted)


def test_bases_come_to_show_what_a_twin_has_and_no_mixture() -> None:
    model = built()
    training = core.Training(LAYERS, replace(SETTINGS, learning_rate=3e-3))
    training.begin_from(model)
    a, b = faces(8), faces(8, part=False)
    b[:, 0, 19:22, 12:20] = 1.0  # the other part
    with torch.no_grad():
        bases = model.base(model.encode(a))
        wanted = pool(model, a, b).lacking(bases)
        before = losses.error(bases, wanted)[PLACE].mean()
        for step in range(120):
            rows = torch.arange(4) + 4 * (step % 2)
            with torch.enable_grad():
                training.advance(a[rows], b[rows])
        learned = training.model
        assert isinstance(learned, Layers)
        after = losses.error(learned.base(learned.encode(a)), wanted)[PLACE].mean()
    assert after < 0.5 * before


def test_bases_stay_what_they_are_but_in_the_parts_place() -> None:
    model, a, b = built(), faces(4), faces(4, part=False)
    twins = pool(model, a)
    twins.open[:] = False  # there are no parts
    terms = loss(model, a, b, twins).terms
    assert terms["base"] == 0 and terms["claim"] > 0.1
    twins.open[PLACE] = True
    assert loss(model, a, b, twins).terms["base"] > 0.01


def test_a_sharp_mask_is_surer_than_its_odds() -> None:
    likely = torch.tensor([0.1, 0.5, 0.6, 0.9])
    odds = (likely / (1 - likely)) ** place.SHARP
    assert place.sharp(odds / (1 + odds)).allclose(likely, atol=1e-4)
    assert place.sharp(torch.tensor([0.0, 1.0])).isfinite().all()


def test_places_are_of_one_sided_layers_of_no_glass_and_need_lookalikes() -> None:
    asked = {"training.refine": "place", "training.lookalikes": 8}
    with pytest.raises(DidaError, match="refine place is for a part or none"):
        settings.training_of(asked, replace(LAYERS, separate_b=2))
    for model in (TINY, replace(LAYERS, glass="a")):
        with pytest.raises(DidaError, match=r"refine place is for (layers of no glass|a part)"):
            settings.training_of(asked, model)
    assert settings.training_of(asked, LAYERS).refine == "place"
    with pytest.raises(DidaError, match="place needs lookalikes; set it too, to 8000"):
        TrainConfig(refine="place")


def test_weights_are_of_losses_that_there_are() -> None:
    model, a, b = built(), faces(4), faces(4, part=False)
    terms = loss(model, a, b, pool(model, a)).terms
    assert {name for name, value in WEIGHTS.to_json().items() if value} <= terms.keys()
