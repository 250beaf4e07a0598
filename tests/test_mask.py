import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch import Tensor, nn

from dida_cli import checkpoint, losses, mask, nets, occlusion
from dida_cli.codes import Codes, transfer
from dida_cli.config import Domains, ModelConfig, Part, Weights
from dida_cli.lookalikes import Lookalikes
from dida_cli.mask import FIRST_MASK, Layers, Mask
from dida_cli.painting import CLOSED, REMOVAL_GAIN, blend, opened, taken_off
from dida_cli.train import AUTOENCODER_LOSS

LAYERS = replace(TINY, method="layers")
ONE_SIDED = replace(LAYERS, separate_b=0, domains=Domains(a="hat", b="no hat"))
COMPACT = replace(ONE_SIDED, method="mask")
PUBLISHED = ModelConfig.of("mask", "paper", side=32, width=32, common=8, separate_a=3)

every_form = pytest.mark.parametrize(
    "config",
    [LAYERS, ONE_SIDED, COMPACT, PUBLISHED],
    ids=["layers", "one-sided layers", "compact mask", "paper mask"],
)


def built(config: ModelConfig) -> Mask | Layers:
    torch.manual_seed(0)
    model = checkpoint.build(config).eval().requires_grad_(False)
    assert isinstance(model, Mask | Layers)
    return model


def published(config: ModelConfig = PUBLISHED) -> Mask:
    model = built(config)
    assert isinstance(model, Mask)
    return model


@pytest.fixture
def model() -> Layers:
    made = built(LAYERS)
    assert isinstance(made, Layers)
    return made


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count)) * 2 - 1


def decodes(model: Mask | Layers, raw: Tensor) -> None:
    """Makes the decoder with the mask give `raw` (4, ...), whatever it reads."""
    decoder = model.painter if isinstance(model, Mask) else model.decoder
    decoder.register_forward_hook(lambda module, read, made: raw.expand_as(made))


def masked(model: Mask | Layers, values: Tensor) -> None:
    """Makes every mask of a model `values` (side, side), all but exactly; colours stay."""
    decoder, channel, shift = (
        (model.painter, 0, 0.0) if isinstance(model, Mask) else (model.decoder, 3, FIRST_MASK)
    )

    def change(module: nn.Module, read: object, made: Tensor) -> Tensor:
        made[:, channel] = values.logit(eps=1e-7) - shift
        return made

    decoder.register_forward_hook(change)


def test_a_closed_mask_keeps_the_picture_bit_for_bit_and_an_open_one_replaces_it() -> None:
    new, onto = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert torch.equal(blend(new, onto, torch.zeros(2, 1, 8, 8)), onto)
    assert torch.allclose(blend(new, onto, torch.ones(2, 1, 8, 8)), new)
    half = blend(new, onto, torch.full((2, 1, 8, 8), 0.5))
    assert torch.allclose(half, (new + onto) / 2)


def test_a_mask_up_to_the_limit_is_closed_for_good() -> None:
    for value, wanted in ((0.0, 0.0), (CLOSED / 2, 0.0), (CLOSED, 0.0), (0.51, 0.5), (1.0, 1.0)):
        made = opened(torch.full((1, 1, 4, 4), value))
        assert torch.allclose(made, torch.tensor(wanted)) and made.any() == (wanted > 0)


def test_specks_and_haze_are_no_part_but_a_thin_line_is() -> None:
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 10:12, 10:12] = 1  # a speck
    mask[..., 40:80, 5:45] = CLOSED + 0.03  # haze
    mask[..., 100:102, :] = 1  # a line
    mask[..., 20:30, 80:90] = 0.51
    made = opened(mask)[0, 0]
    assert not made[:20, :20].any() and not made[40:80, 5:45].any()
    assert made[100:102].amin() > 0.9
    assert made[20:30, 80:90].allclose(torch.tensor(0.5))  # up to its corners
    assert made.count_nonzero() == 2 * 128 + 100


def test_a_quarter_of_a_mask_is_enough_to_take_a_part_off() -> None:
    quarter = CLOSED + (1 - CLOSED) / REMOVAL_GAIN
    values = [0.0, CLOSED, 0.2, quarter, 0.5, 1.0]
    base, rgb = torch.full((1, 3, 3, 3), 0.5), torch.full((1, 3, 3, 3), -0.9)
    for value, share in zip(values, [0, 0, 4 * 0.18 / 0.98, 1, 1, 1], strict=True):
        step = taken_off(base, rgb, torch.full((1, 1, 3, 3), value), glass=False)
        made = [values.mean().item() for values in step]
        assert made == pytest.approx([share, 1 - share, 0.5 * share], abs=1e-6)


def test_of_a_frame_more_is_enough_on_even_skin_and_less_beside_brows() -> None:
    rgb, base = torch.full((1, 3, 80, 80), -0.9), torch.full((1, 3, 80, 80), 0.5)
    base[..., 12:] = 0.2  # a brow begins here
    for value in (0.1, 0.2, 0.5, 1):
        mask = torch.full((1, 1, 80, 80), CLOSED + (1 - CLOSED) * value)
        share = opened(mask).mean().item()
        removed = taken_off(base, rgb, mask, glass=True).mask[0, 0, 0].tolist()
        assert [removed[0], removed[79]] == pytest.approx([min(1, 6 * share)] * 2, abs=1e-5)
        assert removed[11:13] == pytest.approx([min(1, 1.5 * share)] * 2, abs=1e-5)
    thin = CLOSED + (1 - CLOSED) * 0.34
    frame = torch.tensor([0, 0, thin, thin, thin, 1.0, thin, 0, 0]).expand(1, 1, 9, 9)
    step = taken_off(base[..., :9, :9], rgb[..., :9, :9], frame, glass=True)  # steep, so no glass
    assert step.kept[..., 4].allclose(torch.tensor(0.0), atol=1e-6)
    assert step.paint[..., 4].allclose(torch.tensor(0.5))


def test_the_rim_of_a_mask_is_taken_off_by_its_share() -> None:
    block = torch.zeros(1, 1, 9, 9)
    block[..., 3:6, 3:6] = 1
    base = torch.full((1, 3, 9, 9), 0.5)
    for glass in (False, True):
        step = taken_off(base, -base, block, glass=glass)
        removed = step.mask[0, 0]
        assert (removed[3:6, 3:6] == 1).all()
        assert (removed[2, 2], removed[4, 6]) == (pytest.approx(1 / 9), pytest.approx(1 / 3))
        assert not removed[:2].any() and not removed[:, 7:].any()
        assert torch.equal(step.paint == 0, (step.mask == 0).expand_as(base))
        assert torch.equal(step.kept == 1, step.mask == 0)
        assert step.paint[0, 0, 4, 4].item() == pytest.approx(0.5)  # solid: the base


@pytest.mark.parametrize(("through", "seen"), [(1.0, 1.0), (0.8, 0.951), (0.4, 0.677), (0.1, 0.1)])
def test_what_glass_lets_through_is_brought_back_as_far_as_it_is_seen(
    through: float, seen: float
) -> None:
    bare, base, rgb = (torch.full((1, 3, 4, 4), value) for value in (0.9, -0.5, -1.0))
    solid = 1 - through
    worn = blend(rgb, bare, torch.tensor(solid))
    mask = CLOSED + (1 - CLOSED) * torch.full((1, 1, 4, 4), solid)
    step = taken_off(base, rgb, mask, glass=True)
    made = step.kept * worn + step.paint
    assert made.mean().item() == pytest.approx(seen * 0.9 - (1 - seen) * 0.5, abs=2e-3)


@every_form
def test_layers_are_pictures_with_masks(config: ModelConfig) -> None:
    model = built(config)
    rgb, where = model.layer(model.encode(pictures(2)))
    assert rgb.shape == (2, 3, 32, 32) and where.shape == (2, 1, 32, 32)
    assert rgb.abs().max() <= 1 and where.min() >= 0 and where.max() <= 1


@pytest.mark.parametrize(
    ("config", "raw", "logit"),
    [(PUBLISHED, [0.3, 1.0, 2.0, -3.0], 0.3), (LAYERS, [1.0, 2.0, -3.0, 0.3], 0.3 + FIRST_MASK)],
    ids=["mask comes first", "layers have it last"],
)
def test_one_channel_is_the_mask(config: ModelConfig, raw: list[float], logit: float) -> None:
    model = built(config)
    codes = model.encode(pictures(1))
    decodes(model, torch.tensor(raw)[:, None, None])
    rgb, where = model.layer(codes)
    assert torch.allclose(rgb, torch.tensor([1.0, 2.0, -3.0]).tanh()[:, None, None])
    assert torch.allclose(where, torch.tensor(logit).sigmoid())


@every_form
def test_the_base_is_of_the_common_code_alone(config: ModelConfig) -> None:
    model = built(config)
    codes = model.encode(pictures(1))
    base = model.base(codes)
    assert torch.equal(base, model.base(codes.without("a", "b")))
    assert not torch.equal(base, model.base(codes._replace(common=-codes.common)))


@pytest.mark.parametrize(("part", "other"), [("a", "b"), ("b", "a")])
def test_a_segment_is_the_mask_of_a_part_alone(model: Layers, part: Part, other: Part) -> None:
    codes, found = model.encode(pictures(2)), model.segment(pictures(2), part)
    assert torch.equal(found, opened(model.layer(codes.without(other))[1]))
    assert not torch.equal(found, model.segment(pictures(2), other))


def test_the_published_segment_is_the_mask_of_the_pictures_own_code() -> None:
    model = published()
    wanted = opened(model.layer(model.encode(pictures(2)))[1])
    assert torch.equal(model.segment(pictures(2), "a"), wanted)


@every_form
def test_unchanged_codes_change_nothing(config: ModelConfig) -> None:
    model, picture = built(config), pictures(2)
    rounded = Codes(*(code * (1 + 1e-6) for code in model.encode(picture)))  # of another batch
    for codes in (model.encode(picture), rounded):
        made = model.compose(codes, onto=picture)
        assert torch.equal(made.image, picture)
        assert made.mask is not None and not made.mask.any()


@every_form
def test_codes_that_are_known_are_not_made_again(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (picture, guide) = built(config), pictures(6).split(3)
    own = model.encode(picture)
    codes = transfer(own, guide_a=model.encode(guide))
    expected = model.compose(codes, picture)
    monkeypatch.setattr(model, "encode", None)
    assert torch.equal(model.compose(codes, picture, own).image, expected.image)


@every_form
def test_an_edit_is_the_picture_and_the_paint(config: ModelConfig) -> None:
    model, (picture, guide) = built(config), pictures(6).chunk(2)
    made = model.compose(transfer(model.encode(picture), guide_a=model.encode(guide)), picture)
    assert made.mask is not None and made.kept is not None and made.paint is not None
    expected = (made.kept * picture + made.paint).clamp(-1, 1)
    assert torch.allclose(made.image, expected, atol=1e-6)
    assert torch.allclose(made.kept, 1 - made.mask, atol=1e-6)  # none of these parts is glass
    assert (made.image - picture).abs().amax() > 0.1


@every_form
def test_what_the_mask_leaves_out_is_the_picture_itself(config: ModelConfig) -> None:
    model, (picture, guide) = built(config), pictures(2).chunk(2)
    masked(model, (torch.arange(32) >= 16).float().expand(32, 32))
    made = model.compose(transfer(model.encode(picture), guide_a=model.encode(guide)), picture)
    assert made.mask is not None and not made.mask[..., :15].any()
    assert torch.equal(made.image[..., :15], picture[..., :15])
    assert (made.image != picture)[..., 16:].all()


def test_each_picture_of_a_batch_is_edited_by_what_changed_in_it(model: Layers) -> None:
    picture = pictures(2)
    codes = model.encode(picture)
    a = codes.a.clone()
    a[1] = -a[1]
    made = model.compose(codes._replace(a=a), picture)
    assert torch.equal(made.image[0], picture[0]) and not torch.equal(made.image[1], picture[1])


@every_form
def test_a_removal_shows_the_base_where_the_own_mask_is_a_quarter_open(config: ModelConfig) -> None:
    model, picture = built(config), pictures(1)
    codes = model.encode(picture)
    codes = codes._replace(b=torch.zeros_like(codes.b))
    model.encode = lambda image: codes  # type: ignore[method-assign]
    values = torch.full((32, 32), CLOSED)
    values[10:20, 10:20] = CLOSED + 1 / REMOVAL_GAIN
    masked(model, values)
    made = model.compose(codes.without("a"), picture).image
    base = model.base(codes)
    for rows, columns in ((slice(10, 20), slice(11, 19)), (slice(11, 19), slice(10, 20))):
        assert torch.allclose(made[..., rows, columns], base[..., rows, columns])  # but its corners
    changed = (made != picture).any(1)[0].nonzero()
    assert changed.amin() == 9 and changed.amax() == 20  # the rim


def test_a_change_that_nobody_would_see_is_not_made() -> None:
    """Solid paint that differs from a grey picture by 3, 4.5 and 6 of 255 levels, column by column.

    The green channel alone differs, downwards: the one that changes most says what is seen.
    """
    levels = torch.tensor([3, 4.5, 6]) / 127.5

    class Green(Stub):
        def encode(self, image: Tensor) -> Codes:
            one = torch.ones(1, 1, 1, 1)
            return Codes(one, 0 * one, 0 * one)

        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            rgb = torch.zeros(1, 3, 3, 3)
            rgb[:, 1] -= levels
            return rgb, torch.ones(1, 1, 3, 3)

    model, picture = Green(), torch.zeros(1, 3, 3, 3)
    own = model.encode(picture)
    made = model.compose(own._replace(a=own.common), picture)
    assert made.mask is not None and made.kept is not None
    assert torch.allclose(made.mask[0, 0, 0], torch.tensor([0, 0.5, 1]), atol=1e-5)
    assert torch.allclose(made.kept, 1 - made.mask)
    assert torch.equal(made.image[..., 0], picture[..., 0])
    assert torch.allclose(made.image[0, 1, 0, 1:], -levels[1:] * torch.tensor([0.5, 1]), atol=1e-6)
    assert torch.equal(made.image[:, ::2], picture[:, ::2])


def test_everything_is_taken_off_before_anything_is_painted() -> None:
    """The own part's mask covers all; painted first, the new part would be wiped out again."""

    class Covers(Stub):
        config = LAYERS

        def encode(self, image: Tensor) -> Codes:
            return Codes(image[:, :1], torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))

        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            shown = torch.full((1, 3, 4, 4), 0.5 * codes.a.item() - 0.5 * codes.b.item())
            return shown, torch.full((1, 1, 4, 4), float(codes.a.item() or codes.b.item()))

    model, picture = Covers(), torch.full((1, 3, 4, 4), 0.9)
    smile = Codes(picture[:, :1], torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert torch.allclose(model.compose(smile, picture).image, torch.full((1, 3, 4, 4), 0.5))


def test_a_part_that_is_replaced_leaves_the_base_where_only_the_old_one_was() -> None:
    class Halves(Mask):
        """A part of code 1 lies on the left half, another on the right; none shows as -0.5."""

        config = COMPACT

        def __init__(self) -> None:
            nn.Module.__init__(self)

        def encode(self, image: Tensor) -> Codes:
            one = torch.ones(1, 1, 1, 1)
            return Codes(one, one, one[:, :0])

        def base(self, codes: Codes) -> Tensor:
            return torch.full((1, 3, 8, 8), -0.5)

        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            left = (torch.arange(8) < 4).float().expand(1, 1, 8, 8)
            return torch.full((1, 3, 8, 8), 0.5), left if codes.a.item() == 1 else 1 - left

    model, picture = Halves(), torch.full((1, 3, 8, 8), 0.9)
    own = model.encode(picture)
    made = model.compose(own._replace(a=2 * own.a), picture).image
    assert torch.allclose(made[..., :4], torch.tensor(-0.5))
    assert torch.allclose(made[..., 4:], torch.tensor(0.5))  # over the old one's feather too


@every_form
def test_without_a_picture_the_layers_lie_on_their_own_base(config: ModelConfig) -> None:
    model = built(config)
    codes = model.encode(pictures(1))
    base = model.base(codes)
    bare = model.compose(codes.without("a", "b"))
    assert torch.equal(bare.image, base) and bare.mask is not None and not bare.mask.any()
    rgb, where = model.layer(codes.without("b"))
    expected = blend(rgb, base, opened(where))
    assert torch.allclose(model.compose(codes.without("b")).image, expected, atol=1e-6)


class Stub(Layers):
    """Codes and layers by hand: E_c = 0, E_A = E_B = the mean; a layer is 0.5 with mask 0.25."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = LAYERS

    def encode(self, image: Tensor) -> Codes:
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return Codes(torch.zeros_like(mean), mean, mean)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        shown = (codes.a + codes.b != 0).to(codes.a.dtype).expand(-1, 3, 4, 4)
        return 0.5 * shown, 0.25 * shown[:, :1]


class Says(nets.Critic):
    def __init__(self, logit: float) -> None:
        nn.Module.__init__(self)
        self.logit, self.looks = logit, True

    def forward(self, common: Tensor) -> Tensor:
        return torch.full((len(common),), self.logit)

    def look(self, base: Tensor) -> Tensor:
        return torch.full((len(base),), math.log(4))


def test_the_losses_are_the_formulas_of_the_docstring() -> None:
    a, b = torch.full((2, 3, 4, 4), 0.2), torch.full((2, 3, 4, 4), 0.4)
    weights = Weights(
        reconstruction_a=2,
        reconstruction_b=3,
        zero=5,
        common=7,
        repaint_a=11,
        repaint_b=13,
        mask=17,
        base=19,
        exchange=23,
        open=29,
        alike=31,
        paint=37,
        claim=41,
    )
    made = mask.layers_loss(Stub(), Says(0.7), a, b, weights, "paper")
    terms = {name: term.item() for name, term in made.terms.items()}
    painted = 0.25 * 0.5  # onto a base of 0
    assert terms["reconstruction_a"] == pytest.approx(0.2 - painted)
    assert terms["reconstruction_b"] == pytest.approx(0.4 - painted)
    assert terms["repaint_a"] == pytest.approx(0.25 * 0.3)
    assert terms["repaint_b"] == pytest.approx(0.25 * 0.1)
    # the layers of both domains, their exchanged ones; the base's masks are closed
    assert terms["mask"] == pytest.approx(2 * (0.25 - 0.25**2 / 2))
    assert terms["base"] == pytest.approx((0.2 + 0.4) / 2)  # a base of 0
    rebuilt = (terms["reconstruction_a"] + terms["reconstruction_b"]) / 2
    assert terms["exchange"] == pytest.approx(rebuilt)  # these layers do not look at common codes
    assert terms["open"] == pytest.approx(-math.log(0.25))
    assert terms["alike"] == pytest.approx(-math.log(0.2) - math.log(0.8))  # says 0.8 of each
    assert made.shown is not None and not made.shown[:4].any()  # the bases
    assert torch.equal(made.shown[4:], torch.cat([a, b]))
    assert terms["zero"] == pytest.approx(0.4 + 0.2)
    assert terms["common"] == pytest.approx(2 * math.log(1 + math.exp(-0.7)))
    expected = sum(getattr(weights, name) * term for name, term in terms.items())
    assert made.total.item() == pytest.approx(expected)


class Told(Layers):
    """A layer is the common code's value, its mask half the separate code's and a tenth of it."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = LAYERS

    def encode(self, image: Tensor) -> Codes:
        values = [0.3, 0.7], [0.8, 0.1], [0.1, 0.4]
        return Codes(*(torch.tensor(v).view(2, 1, 1, 1) for v in values))

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        mask = (codes.a + codes.b) / 2 + codes.common / 10
        return codes.common.expand(-1, 3, 4, 4), mask.expand(-1, 1, 4, 4)


def test_the_exchange_paints_each_part_by_the_common_code_of_the_other_domain() -> None:
    a, b = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    made = mask.layers_loss(Told(), Says(0.0), a, b, Weights(exchange=1), "half")
    first = 0.47 * 0.7 + 0.53 * 0.3  # its own separate code's mask and base, the other's layer
    second = 0.23 * 0.3 + 0.77 * 0.7
    assert made.terms["exchange"].item() == pytest.approx((first + second) / 2)


class Echoes(Layers):
    """The common code is the picture; a layer is 0.5 by half, with no part the common code."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = ONE_SIDED

    def encode(self, image: Tensor) -> Codes:
        part = (image[:, :1, :1, :1] > 0.5).to(image.dtype)
        return Codes(image, part, part[:, :0])

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        shown = codes.a.expand(-1, 3, *codes.common.shape[2:])
        return torch.where(shown > 0, 0.5, codes.common), 0.5 * shown[:, :1]


def test_the_exchange_is_painted_on_the_lookalikes_face_near_the_part() -> None:
    """Of three faces without the part one is taken that has all but the own skin."""
    a, b = torch.full((3, 3, 32, 32), 0.9), torch.full((3, 3, 32, 32), 0.88)
    b[1] = 0.1
    for hidden, skin in ((True, 0.88), (False, 0.9)):
        known = Lookalikes(4, hidden=hidden)
        known.add(a, b)
        both, model = torch.cat([a, b]), Echoes()
        told = losses.own_parts(model.encode(both))
        where = 0.5 * told.a.expand(-1, 1, 32, 32)
        made = mask.exchange(model, both, told, model.base(told), where, known)
        assert torch.allclose(made.canvas[:3], torch.tensor(skin))
        assert torch.equal(made.canvas[3:], b)  # there is no part to be near to
        assert (made.alike == 1).all()
        loss = mask.layers_loss(model, Says(0.0), a, b, Weights(exchange=1), "half", known)
        wanted = abs((0.5 + skin) / 2 - 0.9) / 2  # of A's half; B's has nothing to exchange
        assert loss.terms["exchange"].item() == pytest.approx(wanted)


def test_layers_learn_the_part_whether_their_masks_show_it_or_not() -> None:
    """One pixel is the part: the base is 1 wrong there, 0.1 elsewhere; masks are all but shut."""
    both = torch.zeros(1, 3, 2, 2)
    base = torch.full((1, 3, 2, 2), 0.1)
    base[..., 0, 0] = 1.0
    layer, moved = torch.full((1, 3, 2, 2), 0.3), torch.full((1, 3, 2, 2), 0.5)
    shut = torch.full((1, 1, 2, 2), 1e-4)
    layer, moved, mask_, where = (t.requires_grad_() for t in (layer, moved, shut, shut.clone()))
    swap = mask.Exchange(moved, where, base, torch.ones(1, 1, 1, 1))
    paint, claimed = mask.paint_loss(both, base, layer, swap)
    # a layer counts by how wrong the base is, another's only where the own one is better than it
    assert paint.item() == pytest.approx(0.3 + 0.5)
    claim = sum(map(mask.claim_loss, claimed, (mask_, where)), torch.zeros(()))
    torch.autograd.backward(paint + claim)
    assert layer.grad is not None and moved.grad is not None
    pull = layer.grad.sum(1).flatten()
    assert pull[0].item() == pytest.approx(10 * pull[1].item())
    assert moved.grad.sum(1).flatten()[0] > 0.99 and not moved.grad[..., 1, 1].any()
    for grad in (mask_.grad, where.grad):
        assert grad is not None
        assert grad[..., 0, 0] < -1000 and grad[..., 1, 1].abs() < 1  # opens here, not there
    assert base.grad is None


def test_what_a_lookalike_shows_in_the_parts_place_is_hidden() -> None:
    """A canvas that is wrong at one pixel, where the own base is right: there masks must open."""
    both, base = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    canvas = base.clone()
    canvas[..., 0, 0] = 1.0
    layer, moved = torch.full((2, 3, 2, 2), 0.1), torch.full((2, 3, 2, 2), 0.3)
    alike = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    moved.requires_grad_()
    own, where = (torch.full((2, 1, 2, 2), 0.5).requires_grad_() for _ in range(2))
    swap = mask.Exchange(moved, where, canvas, alike)
    paint, claimed = mask.paint_loss(both, base, layer, swap)
    assert paint.item() == pytest.approx(0.3)  # its own layer counts where its own base is wrong
    claims = mask.claim_loss(claimed[0], own), mask.claim_loss(claimed[1], where, alike)
    torch.autograd.backward(paint + claims[0] + claims[1])
    assert moved.grad is not None and own.grad is not None and where.grad is not None
    assert (own.grad > 0).all()  # shut, so far as the own base goes
    assert (where.grad[0, 0, 0, 0] < 0) and (where.grad[0, 0, 1] > 0).all()
    # nothing is learned from a face that is not alike
    assert not where.grad[1].any() and not moved.grad[1].any()


class Sees(Layers):
    """The common code is the picture, the separate ones its middle; a layer has their value."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = LAYERS

    def encode(self, image: Tensor) -> Codes:
        middle = image[:, :1, 16:17, 16:17]
        return Codes(image, middle, middle)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        part = codes.a + codes.b
        shown = (part != 0).to(part.dtype).expand(-1, 1, *codes.common.shape[2:])
        return torch.where(part != 0, part.expand_as(codes.common), codes.common), shown / 2


def test_what_lies_over_a_part_is_the_pictures_own() -> None:
    """Half of a layer is painted: it errs by half of how far strokes are off the middle's 0.1."""
    colours = torch.tensor([-1.0, -0.5, 0.8, 1.0]).view(4, 1, 1, 1)
    both, mask_ = colours.expand(-1, 3, 32, 32).clone(), torch.zeros(4, 1, 32, 32)
    both[:, :, 16, 16], mask_[..., 16, 16] = 0.1, 1.0
    model = Sees()
    own = losses.own_parts(model.encode(both))
    torch.manual_seed(3)
    covered, where = occlusion.drawn_over(both, mask_)
    torch.manual_seed(3)
    found = mask.cover_losses(model, both, own, own, mask_)
    error = (covered - 0.1).abs().mean(1, keepdim=True) / 2
    assert found["cover"].item() == pytest.approx(((error * where).sum() / where.sum()).item())
    missed = (covered[:, 0, 16, 16] - 0.1).abs().view(2, 2).mean(1) / 0.1  # of A, of B
    assert found["blind"].item() == pytest.approx(missed.sum().item(), rel=1e-4)
    told = own._replace(a=own.a * 2, b=own.b * 2)  # what a layer is made of, but not what was seen
    torch.manual_seed(3)
    noisy = mask.cover_losses(model, both, own, told, mask_)
    assert noisy["blind"] == found["blind"] and noisy["cover"] != found["cover"]


def test_a_stroke_lies_over_the_mask_in_a_colour_of_the_pictures() -> None:
    torch.manual_seed(0)
    palette = torch.linspace(-1, 1, 5)
    pictures_ = palette[torch.randint(5, (64, 1, 48, 64))].expand(-1, 3, -1, -1)
    masks = torch.zeros(64, 1, 48, 64)
    masks[..., 10:14, 30:34] = 0.7
    covered, where = occlusion.drawn_over(pictures_, masks)
    assert torch.equal(
        covered[(where == 0).expand_as(covered)], pictures_[(where == 0).expand_as(covered)]
    )
    assert where.min() == 0 and where.max() == 1
    for picture, inside in zip(covered, where[:, 0], strict=True):
        assert inside[10:14, 30:34].amax() == 1
        assert 0.002 < inside.mean() < 0.05  # of the picture
        (colour,) = picture[0][inside == 1].unique()
        assert (colour - palette).abs().min() < 1e-6


def test_information_is_the_power_of_separate_codes_and_nothing_stays_nothing() -> None:
    torch.manual_seed(0)
    own = Codes(torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    own.a[0], own.b[1] = 0.1, -0.2
    each = 16 * torch.tensor([0.1, 0.2]).square() / (2 * losses.NOISE**2)
    assert losses.information(own).item() == pytest.approx(each.mean().item())
    told = losses.noisy(own)
    assert torch.equal(told.common, own.common)
    assert not told.a[1].any() and not told.b[0].any()
    for noise in (told.a[0] - own.a[0], told.b[1] - own.b[1]):
        assert 0.5 * losses.NOISE < noise.std() < 2 * losses.NOISE


def test_glass_pays_for_being_solid_as_long_as_it_is() -> None:
    """By its logit, so that it can be told to let through even where its sigmoid is flat."""
    logits = torch.tensor([-6.0, 0.0, 6.0, 12.0]).view(4, 1, 1, 1).requires_grad_()
    torch.autograd.backward(mask.cost(torch.sigmoid(logits), glass=True))
    assert logits.grad is not None
    pull = logits.grad.flatten() * 4
    assert pull.tolist() == pytest.approx([0.0025, 0.5, 0.9975, 1.0], abs=2e-3)


def test_of_any_other_part_a_solid_mask_is_cheaper_than_two_that_are_half_open() -> None:
    masks = torch.tensor([0.0, 0.1, 0.5, 1.0]).view(4, 1, 1, 1).requires_grad_()
    prices = torch.stack([mask.cost(one[None], glass=False) for one in masks])
    assert prices.tolist() == pytest.approx([0, 0.095, 0.375, 0.5])
    assert mask.cost(masks[1:2], glass=True) > prices[1]
    torch.autograd.backward(prices.sum())
    assert masks.grad is not None and masks.grad.flatten().tolist() == pytest.approx(
        [1, 0.9, 0.5, 0]
    )


def test_each_domain_pays_for_the_masks_of_its_own_part() -> None:
    solid, shut = torch.full((2, 1, 4, 4), 0.9), torch.zeros(2, 1, 4, 4)
    glass, other = -math.log(0.1), 0.9 - 0.9**2 / 2
    of_a, of_b = torch.cat([solid, shut]), torch.cat([shut, solid])
    for config, price_a, price_b in (
        (LAYERS, other, other),
        (replace(LAYERS, glass="b"), other, glass),
        (replace(ONE_SIDED, glass="a"), glass, glass),  # B's masks are of A's part
    ):
        model = built(config)
        assert mask.mask_cost(model, of_a, shut.repeat(2, 1, 1, 1)).item() == pytest.approx(
            price_a / 2
        )
        assert mask.mask_cost(model, of_b, of_b).item() == pytest.approx(price_b)


@pytest.mark.parametrize(
    ("term", "learning"),
    [
        ("cover", ("encoders.", "decoder.")),
        ("blind", ("encoders.separate_",)),
        ("smooth", ("encoders.common.", "decoder.")),
        ("cycle_common", ("encoders.common.",)),
        ("cycle", ("encoders.common.", "encoders.separate_", "decoder.")),
        ("cycle_separate", ("encoders.", "decoder.")),
        ("domain", ("encoders.", "decoder.")),
    ],
)
def test_what_edits_teach_and_whom(model: Layers, term: str, learning: tuple[str, ...]) -> None:
    model.requires_grad_(True)
    a, b = pictures(2), pictures(2).flip(0)
    weights = replace(Weights(reconstruction_a=0, reconstruction_b=0), **{term: 1.0})
    critic = nets.Critic(model.config, looks=True).requires_grad_(False)
    made = mask.layers_loss(model, critic, a, b, weights, "half")
    assert made.total > 0 and made.total == made.terms[term]
    torch.autograd.backward(made.total)
    taught = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert all(any(name.startswith(start) for name in taught) for start in learning)
    assert all(name.startswith(learning) for name in taught)


def test_bases_are_smooth_where_a_part_hides_them() -> None:
    """Columns of 0, 1, 0, 3: only where both neighbours are hidden a step counts."""
    base = torch.tensor([0.0, 1.0, 0.0, 3.0]).expand(2, 3, 5, 4).clone().requires_grad_()
    hidden = torch.zeros(2, 1, 5, 4)
    assert mask.smooth_loss(base, hidden).item() == 0
    hidden[..., 1:] = torch.tensor([1.0, 1.0, 0.5])
    hidden.requires_grad_()
    lost = mask.smooth_loss(base, hidden)
    assert lost.item() == pytest.approx((1 * 1 + 0.5 * 3) / 1.5)  # down a column nothing changes
    torch.autograd.backward(lost)
    assert base.grad is not None and not base.grad[..., 0].any() and base.grad[..., 1:].all()
    assert hidden.grad is None
    turned = mask.smooth_loss(base.transpose(2, 3), hidden.transpose(2, 3))
    assert turned.item() == pytest.approx(lost.item())


def test_what_glass_shows_need_not_be_smooth() -> None:
    masks = torch.full((4, 1, 8, 8), 0.5)
    for config, of_a, of_b in (
        (LAYERS, 0.5, 0.5),
        (replace(LAYERS, glass="b"), 0.5, 0),
        (replace(ONE_SIDED, glass="a"), 0, 0),
    ):
        shown = mask.opaque(built(config), masks)
        assert shown.shape == masks.shape
        assert (shown[:2] == of_a).all() and (shown[2:] == of_b).all()


def test_an_edit_that_hides_nothing_closes_the_cycle() -> None:
    """Told's encoder says the same of every picture, so each code is its neighbour's at most."""
    given, moved, where = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    where[..., 0] = 0.5
    given[0, ..., 1:] = 9.0  # where nothing is painted, nothing is asked
    terms = mask.cycle_losses(
        Told(), moved, given, where, torch.tensor([0.7, 0.3]).view(2, 1, 1, 1)
    )
    assert terms["cycle_common"].item() == pytest.approx(0.4 / 0.5)  # |0.3 - 0.7| of 0.5
    assert terms["cycle"].item() == pytest.approx((0.3 + 0.7) / 2)  # Told's bases, on black


def test_what_a_separate_encoder_still_finds_has_to_go() -> None:
    """Of pictures with their part taken off; a separate encoder itself is held still."""
    model = built(ONE_SIDED).train().requires_grad_(True)
    edits, removed = (picture.requires_grad_() for picture in pictures(4).chunk(2))
    with torch.no_grad():
        said = model.encode(edits)
        found = model.encode(removed).a
    lost = mask.cycle_separate(model, edits, removed, said)
    assert lost.item() == pytest.approx(found.abs().mean().item() / 2 / said.a.abs().mean().item())
    torch.autograd.backward(lost)
    assert removed.grad is not None and removed.grad.flatten(1).any(1).all()
    assert all(p.grad is None for p in model.parameters())


def test_where_both_domains_have_a_part_edits_are_asked_for_the_given_one(model: Layers) -> None:
    edits = pictures(4).requires_grad_()
    own = losses.own_parts(model.encode(pictures(4).flip(0)))
    own.b[-1] = 0  # the last one was given nothing
    torch.autograd.backward(mask.cycle_separate(model, edits, pictures(4), own))
    assert edits.grad is not None
    assert edits.grad.flatten(1).any(1).tolist() == [True, True, True, False]


@pytest.mark.parametrize(("config", "taught"), [(LAYERS, False), (ONE_SIDED, True)])
def test_a_base_learns_of_edits_where_pictures_with_no_part_are_known(
    config: ModelConfig, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(config)
    assert isinstance(model, Layers)
    model.requires_grad_(True)
    layer, painted = model.layer, []

    def watched(codes: Codes) -> tuple[Tensor, Tensor]:
        rgb, where = layer(codes)
        rgb.retain_grad()
        painted.append(rgb)
        return rgb, where

    monkeypatch.setattr(model, "layer", watched)
    weights = Weights(reconstruction_a=0, reconstruction_b=0, cycle_separate=1)
    critic = nets.Critic(config, looks=True).requires_grad_(False)
    a, b = pictures(2), pictures(2).flip(0)
    torch.autograd.backward(mask.layers_loss(model, critic, a, b, weights, "half").total)
    both, moved, *_ = (rgb.grad for rgb in painted)  # layers and bases; with other common codes
    assert moved is not None and moved.any()
    assert both is not None and bool(both[4:].any()) == taught


def test_an_edit_is_of_the_domain_it_was_moved_to() -> None:
    lost = losses.domain(Says(0.0), torch.zeros(4, 3, 8, 8))  # says "B" of all, 0.8
    assert lost.item() == pytest.approx(-math.log(0.2) - math.log(0.8))


def test_a_mask_is_open_by_its_largest_hundredth_however_shut_it_is() -> None:
    shut = torch.full((2, 1, 20, 20), -12.0, requires_grad=True)
    with torch.no_grad():
        shut[1, 0, 0, :4] = 9.0  # a hundredth of 400
    lost = mask.open_loss(torch.sigmoid(shut))
    assert lost.item() == pytest.approx(6.0, abs=0.01)  # of 12 and nearly 0
    lost.backward()
    assert shut.grad is not None
    assert shut.grad[0].sum().item() == pytest.approx(-0.5, abs=0.01)  # as strong as ever
    assert shut.grad[1].abs().sum() < 1e-3


def test_where_a_domain_has_no_part_its_masks_may_be_shut() -> None:
    torch.manual_seed(0)
    model = built(replace(LAYERS, separate_b=0))
    a, b = pictures(2), pictures(2)
    critic = nets.Critic(model.config)
    made = mask.layers_loss(model, critic, a, b, Weights(), "half")
    own = model.layer(model.encode(a))[1]
    assert made.terms["open"].item() == pytest.approx(mask.open_loss(own).item(), rel=1e-4)


class PublishedStub(Mask):
    """E1 = 0.5 times the mean, E2 = the mean; D_A = E1; D_B = (E1 + E2 + 0.1, mask 0.1 + E2)."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.encoders = HalfAndMean()  # type: ignore[assignment]

    def base(self, codes: Codes) -> Tensor:
        return codes.common.expand(-1, 3, 4, 4)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        rgb = (codes.common + codes.a + 0.1).expand(-1, 3, 4, 4)
        return rgb, (0.1 + codes.a).expand(-1, 1, 4, 4)


class HalfAndMean(nn.Module):
    def common(self, image: Tensor) -> Tensor:
        return 0.5 * image.mean(dim=(1, 2, 3), keepdim=True)

    def forward(self, image: Tensor) -> Codes:
        common = self.common(image)
        return Codes(common, 2 * common, common[:, :0])


def test_the_published_losses_are_the_formulas_of_the_table() -> None:
    a, b = torch.full((2, 3, 4, 4), 0.4), torch.full((2, 3, 4, 4), 0.8)
    weights = Weights(
        reconstruction_a=2,
        reconstruction_b=3,
        repaint_a=5,
        repaint_b=7,
        cycle_common=11,
        cycle_separate=13,
        common=17,
    )
    made = mask.mask_loss(PublishedStub(), Says(0.7), a, b, weights, "paper")
    terms = {name: term.item() for name, term in made.terms.items()}
    assert terms["reconstruction_b"] == pytest.approx(0.8 - 0.4)  # D_A(E1(b), 0) = 0.4
    # D_B(E1(a), E2(a)) = 0.7 with mask 0.5, onto D_A(E1(a), 0) = 0.2, and onto a itself
    assert terms["reconstruction_a"] == pytest.approx((0.7 + 0.2) / 2 - 0.4, rel=1e-5)
    assert terms["repaint_a"] == pytest.approx((0.7 + 0.4) / 2 - 0.4, rel=1e-5)
    # D_B(E1(b), 0) = 0.5 with mask 0.1, onto b
    assert terms["repaint_b"] == pytest.approx(0.1 * (0.8 - 0.5), rel=1e-5)
    c = (0.9 + 0.8) / 2  # D_B(E1(b), E2(a)) = 0.9 with mask 0.5, onto b
    assert terms["cycle_common"] == pytest.approx((c / 2 - 0.4) ** 2, rel=1e-4)
    assert terms["cycle_separate"] == pytest.approx((c - 0.4) ** 2, rel=1e-4)
    assert terms["common"] == pytest.approx(2 * math.log(1 + math.exp(-0.7)))
    expected = sum(getattr(weights, name) * term for name, term in terms.items())
    assert made.total.item() == pytest.approx(expected)
    assert made.common.flatten().tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4])  # A's first


@pytest.mark.parametrize(
    ("term", "learning"),
    [
        ("reconstruction_a", {"E1", "E2", "D_A", "D_B"}),
        ("reconstruction_b", {"E1", "D_A"}),
        ("repaint_a", {"E1", "E2", "D_B"}),
        ("repaint_b", {"E1", "D_B"}),
        ("cycle_common", {"E1", "E2", "D_B"}),
        ("cycle_separate", {"E1", "E2", "D_B"}),
        ("common", {"E1"}),
    ],
)
def test_a_published_loss_teaches_the_networks_in_its_formula(
    term: str, learning: set[str]
) -> None:
    model = published(COMPACT).requires_grad_(True)
    critic = nets.Critic(COMPACT).requires_grad_(False)
    a, b = pictures(4).chunk(2)
    torch.autograd.backward(mask.mask_loss(model, critic, a, b, Weights(), "half").terms[term])
    encoders = model.encoders
    parts = {"E1": encoders.common, "E2": encoders.separate_a}
    parts |= {"D_A": model.plain, "D_B": model.painter}

    def learns(part: nn.Module) -> bool:
        return any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())

    assert {name for name, part in parts.items() if learns(part)} == learning
    assert not learns(critic)


@pytest.mark.parametrize("config", [ONE_SIDED, COMPACT, PUBLISHED])
def test_every_part_of_a_one_sided_model_learns(config: ModelConfig) -> None:
    model = built(config).train().requires_grad_(True)
    weights = Weights(zero=1, repaint_a=1, repaint_b=1, cycle_common=1, cycle_separate=1, mask=1)
    a, b = pictures(4).chunk(2)
    made = AUTOENCODER_LOSS[config.method](model, Says(0.0), a, b, weights, "half")
    torch.autograd.backward(made.total)
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_the_domains_go_through_batch_norm_one_after_the_other() -> None:
    model, (a, b) = published().train(), pictures(8).chunk(2)

    def terms(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return mask.mask_loss(model, Says(0.0), a, b, Weights(), "paper").terms

    before = terms(a, b)
    for after, own, others in ((terms(a, 0.1 * b), "a", "b"), (terms(0.1 * a, b), "b", "a")):
        for term in ("reconstruction", "repaint"):
            assert torch.equal(after[f"{term}_{own}"], before[f"{term}_{own}"])
            assert not torch.equal(after[f"{term}_{others}"], before[f"{term}_{others}"])


def test_the_published_layout_is_the_releases() -> None:
    """At 128 px: 4x4 convolutions of stride 2, batch norm, leaky ReLU 0.2, no spectral norm."""
    config = ModelConfig.of("mask", "paper", side=128)
    with torch.device("meta"):
        model, critic = checkpoint.build(config), nets.Critic(config)
    assert isinstance(model, Mask) and model.encoders.separate_b is None

    def shapes(net: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for n, p in net.named_parameters() if n.endswith("weight")]

    def encoder(*widths: int) -> list[tuple[int, ...]]:
        made: list[tuple[int, ...]] = []
        for c_in, out in zip((3, *widths), widths, strict=False):
            made += [(out, c_in, 4, 4), (out,)]  # a convolution, its norm
        return made

    def decoder(*widths: int) -> list[tuple[int, ...]]:
        made: list[tuple[int, ...]] = []
        for c_in, out in zip((512, *widths), widths, strict=False):
            made += [(c_in, out, 4, 4), (out,)]
        return made[:-1]  # the last has no norm

    assert shapes(model.encoders.common) == encoder(32, 64, 128, 256, 487, 487)
    assert shapes(model.encoders.separate_a) == encoder(32, 64, 128, 128, 128, 25)
    assert shapes(model.plain) == decoder(512, 256, 128, 64, 32, 3)
    assert shapes(model.painter) == decoder(512, 256, 128, 64, 32, 4)
    assert shapes(critic) == [(512, 487 * 2 * 2), (1, 512)]
    stage = ["BatchNorm2d", "LeakyReLU"]
    for net, kind, stages in (
        (model.encoders.common, "Conv2d", 6),
        (model.encoders.separate_a, "Conv2d", 6),
        (model.plain, "ConvTranspose2d", 5),
        (model.painter, "ConvTranspose2d", 5),
    ):
        last = ["ConvTranspose2d"] if stages == 5 else []
        assert [type(m).__name__ for m in net.children()] == [kind, *stage] * stages + last
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert (module.stride, module.padding) == ((2, 2), (1, 1)) and module.bias is not None
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.2


@pytest.mark.parametrize("config", [LAYERS, ONE_SIDED, COMPACT])
def test_compact_models_have_group_norm_alone(config: ModelConfig) -> None:
    """With no batch norm a picture's codes are the same in any batch, in training too."""
    model = built(config).train()
    kinds = {type(m).__name__ for m in model.modules()}
    assert "GroupNorm" in kinds and not any("Batch" in k or "Parametrized" in k for k in kinds)
    assert torch.allclose(model.encode(pictures(2)[:1]).a, model.encode(pictures(2)).a[:1])


@every_form
def test_a_model_with_masks_is_saved_and_loaded(config: ModelConfig, tmp_path: Path) -> None:
    model, picture = built(config), pictures(2)
    model.train().encode(picture)  # so that batch norm has something to remember
    model.eval()
    checkpoint.write_folder(tmp_path / "m", checkpoint.model_files(model, ""))
    loaded = checkpoint.load(tmp_path / "m")
    assert type(loaded) is type(model) and loaded.config == config
    expected = model.compose(model.encode(picture).without("a"), picture)
    made = loaded.compose(loaded.encode(picture).without("a"), picture)
    assert torch.equal(made.image, expected.image)
    assert torch.equal(loaded.segment(picture, "a"), model.segment(picture, "a"))
