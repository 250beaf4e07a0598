"""Edits by a base and layers: what is painted, in which order, and what is left alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dida_cli import checkpoint
from dida_cli.codes import Codes, transfer
from dida_cli.config import Domains, ModelConfig
from dida_cli.painter import Painter, blend

TWO, ONE = Domains(a="smile", b="glasses"), Domains(a="smile")
SMALL = {"width": 16, "common": 8, "separate": 3}
FORMS = {
    "layers": ModelConfig(method="layers", domains=TWO, side=32, settings=SMALL),
    "one-sided layers": ModelConfig(method="layers", domains=ONE, side=32, settings=SMALL),
    "compact mask": ModelConfig(method="mask", domains=ONE, side=32, settings=SMALL),
    "paper mask": ModelConfig(
        method="mask",
        domains=ONE,
        side=32,
        settings=SMALL | {"architecture": "paper", "grid": 2, "width": 32},
    ),
}
every_form = pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)


def built(config: ModelConfig) -> Painter:
    torch.manual_seed(0)
    model = checkpoint.build(config).eval().requires_grad_(False)
    assert isinstance(model, Painter)
    return model


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count)) * 2 - 1


class Stub(Painter):
    """Codes as they are given; a part of code k is a picture of k / 2, over all."""

    def __init__(self, config: ModelConfig = FORMS["layers"]) -> None:
        nn.Module.__init__(self)
        self.config = config

    def base(self, codes: Codes) -> Tensor:
        return torch.full((len(codes.a), 3, 4, 4), -0.5)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        value = codes.a + codes.b
        return (value / 2).expand(-1, 3, 4, 4), (value != 0).float().expand(-1, 1, 4, 4)

    def removal(self, mask: Tensor) -> Tensor:
        return mask


def codes(*, a: float = 0, b: float = 0) -> Codes:
    return Codes(*(torch.full((1, 1, 1, 1), float(value)) for value in (1, a, b)))


def test_a_shut_mask_keeps_the_picture_bit_for_bit_and_an_open_one_replaces_it() -> None:
    new, onto = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert torch.equal(blend(new, onto, torch.zeros(2, 1, 8, 8)), onto)
    assert torch.allclose(blend(new, onto, torch.ones(2, 1, 8, 8)), new)
    half = blend(new, onto, torch.full((2, 1, 8, 8), 0.5))
    assert torch.allclose(half, (new + onto) / 2)


@every_form
def test_layers_are_pictures_with_masks_and_the_base_is_of_the_common_code_alone(
    config: ModelConfig,
) -> None:
    model = built(config)
    own = model.encode(pictures(2))
    rgb, where = model.layer(own)
    assert rgb.shape == (2, 3, 32, 32) and where.shape == (2, 1, 32, 32)
    assert rgb.abs().max() <= 1 and where.min() >= 0 and where.max() <= 1
    base = model.base(own)
    assert torch.equal(base, model.base(own.without("a", "b")))
    assert not torch.equal(base, model.base(own._replace(common=-own.common)))


@every_form
def test_unchanged_codes_change_nothing(config: ModelConfig) -> None:
    model, picture = built(config), pictures(2)
    rounded = Codes(*(code * (1 + 1e-6) for code in model.encode(picture)))  # of another batch
    for same in (model.encode(picture), rounded):
        made = model.compose(same, onto=picture)
        assert torch.equal(made.image, picture)
        assert made.mask is not None and not made.mask.any()


@every_form
def test_codes_that_are_known_are_not_made_again(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (picture, guide) = built(config), pictures(6).split(3)
    own = model.encode(picture)
    wanted = transfer(own, guide_a=model.encode(guide))
    expected = model.compose(wanted, picture)
    monkeypatch.setattr(model, "encode", None)
    assert torch.equal(model.compose(wanted, picture, own).image, expected.image)


@every_form
def test_a_picture_stays_bit_for_bit_where_the_mask_is_shut(config: ModelConfig) -> None:
    model, (picture, guide) = built(config), pictures(2).chunk(2)
    own = model.encode(picture)
    layer = model.layer
    left = (torch.arange(32) < 16).float().expand(1, 1, 32, 32)
    model.layer = lambda of: (layer(of)[0], left)  # type: ignore[method-assign]
    made = model.compose(transfer(own, guide_a=model.encode(guide)), picture, own)
    assert made.mask is not None and not made.mask[..., 18:].any()
    assert torch.equal(made.image[..., 18:], picture[..., 18:])
    shut = (made.mask == 0).expand_as(picture)
    assert torch.equal(made.image[shut], picture[shut])
    assert (made.image != picture).any(1)[..., :16].float().mean() > 0.9


@every_form
def test_steps_that_touch_no_picture_change_nothing_when_they_are_made(config: ModelConfig) -> None:
    model, picture = built(config), pictures(3)
    own = model.encode(picture)
    guide = own.a.flip(0)  # the second picture's own
    edits = [own, own.without("a"), own.without("a", "b"), own._replace(a=guide)]
    for wanted in edits:
        model.every = False
        expected = model.compose(wanted, picture, own)
        model.every = True
        made = model.compose(wanted, picture, own)
        assert torch.equal(made.image, expected.image)
        assert made.mask is not None and expected.mask is not None
        assert torch.equal(made.mask, expected.mask)


def test_each_picture_of_a_batch_is_edited_by_what_changed_in_it() -> None:
    model, picture = built(FORMS["layers"]), pictures(2)
    own = model.encode(picture)
    a = own.a.clone()
    a[1] = -a[1]
    made = model.compose(own._replace(a=a), picture, own)
    assert torch.equal(made.image[0], picture[0]) and not torch.equal(made.image[1], picture[1])
    alone = model.compose(own._replace(a=a).take(1), picture[1:], own.take(1))
    assert torch.allclose(made.image[1:], alone.image, atol=1e-5)


def test_where_a_part_is_taken_off_depends_on_no_other_part() -> None:
    class Sides(Stub):
        """Part a lies on the left half, b on the right."""

        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            left = (torch.arange(4) < 2).float().expand(1, 1, 4, 4)
            return torch.zeros(1, 3, 4, 4), left * codes.a + (1 - left) * codes.b

    picture = torch.full((1, 3, 4, 4), 0.9)
    made = Sides().compose(codes(b=1), picture, codes(a=1, b=1)).image
    assert torch.allclose(made[..., :2], torch.tensor(-0.5))
    assert torch.equal(made[..., 2:], picture[..., 2:])


def test_a_change_that_nobody_would_see_is_not_made() -> None:
    """Solid paint that differs from a grey picture by 3, 4.5 and 6 of 255 levels, column by column.

    The green channel alone differs, downwards: the one that changes most says what is seen.
    """
    levels = torch.tensor([3, 4.5, 6]) / 127.5

    class Green(Stub):
        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            rgb = torch.zeros(1, 3, 3, 3)
            rgb[:, 1] -= levels
            return rgb, torch.ones(1, 1, 3, 3)

    picture = torch.zeros(1, 3, 3, 3)
    made = Green().compose(codes(a=1), picture, codes())
    assert made.mask is not None
    assert torch.allclose(made.mask[0, 0, 0], torch.tensor([0, 0.5, 1]), atol=1e-5)
    assert torch.equal(made.image[..., 0], picture[..., 0])
    assert torch.allclose(made.image[0, 1, 0, 1:], -levels[1:] * torch.tensor([0.5, 1]), atol=1e-6)
    assert torch.equal(made.image[:, ::2], picture[:, ::2])


def test_everything_is_taken_off_before_anything_is_painted() -> None:
    """The old part covers all; taken off last, it would wipe out the new one."""
    picture = torch.full((1, 3, 4, 4), 0.9)
    made = Stub().compose(codes(a=1), picture, codes(b=1))
    assert torch.allclose(made.image, torch.tensor(0.5))
    assert torch.allclose(Stub().compose(codes(), picture, codes(b=1)).image, torch.tensor(-0.5))


def test_a_part_that_is_replaced_leaves_the_base_where_only_the_old_one_was() -> None:
    class Halves(Stub):
        """A part of code 1 lies on the left half, another on the right."""

        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            left = (torch.arange(4) < 2).float().expand(1, 1, 4, 4)
            return torch.full((1, 3, 4, 4), 0.5), left if codes.a.item() == 1 else 1 - left

    made = Halves().compose(codes(a=2), torch.full((1, 3, 4, 4), 0.9), codes(a=1)).image
    assert torch.allclose(made[..., :2], torch.tensor(-0.5))
    assert torch.allclose(made[..., 2:], torch.tensor(0.5))


@every_form
def test_without_a_picture_the_layers_lie_on_their_own_base(config: ModelConfig) -> None:
    model = built(config)
    own = model.encode(pictures(1))
    base = model.base(own)
    bare = model.compose(own.without("a", "b"))
    assert torch.equal(bare.image, base) and bare.mask is None  # the whole picture is drawn
    expected = blend(model.layer(own.alone("a"))[0], base, model.layer(own.alone("a"))[1])
    assert torch.allclose(model.compose(own.alone("a")).image, expected, atol=1e-6)
    if "b" in config.parts:
        expected = blend(model.layer(own.alone("b"))[0], expected, model.layer(own.alone("b"))[1])
        assert torch.allclose(model.compose(own).image, expected, atol=1e-6)


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
