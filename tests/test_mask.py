import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch import Tensor, nn

from dida_cli import checkpoint, mask, nets
from dida_cli.codes import Codes, transfer
from dida_cli.config import Domains, ModelConfig, Weights
from dida_cli.errors import DidaError
from dida_cli.mask import CLOSED, Layers, Mask, blend, opened, removal_mask

CONFIG = replace(TINY, method="layers")
PUBLISHED = ModelConfig.of("mask", "paper", side=32, width=32, common=8, separate_a=3)


@pytest.fixture
def model() -> Layers:
    torch.manual_seed(0)
    built = checkpoint.build(CONFIG).eval().requires_grad_(False)
    assert isinstance(built, Layers)
    return built


def test_a_closed_mask_keeps_the_picture_bit_for_bit_and_an_open_one_replaces_it() -> None:
    new, onto = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert torch.equal(blend(new, onto, torch.zeros(2, 1, 8, 8)), onto)
    assert torch.allclose(blend(new, onto, torch.ones(2, 1, 8, 8)), new)
    half = blend(new, onto, torch.full((2, 1, 8, 8), 0.5))
    assert torch.allclose(half, (new + onto) / 2)


def test_layers_are_pictures_with_masks(model: Layers) -> None:
    rgb, where = model.layer(model.encode(torch.rand(2, 3, 32, 32)))
    assert rgb.shape == (2, 3, 32, 32) and where.shape == (2, 1, 32, 32)
    assert rgb.abs().max() <= 1 and where.min() >= 0 and where.max() <= 1


def test_unchanged_codes_change_nothing(model: Layers) -> None:
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    made = model.compose(model.encode(picture), onto=picture)
    assert torch.equal(made.image, picture)
    assert made.mask is not None and not made.mask.any()


def test_what_the_mask_leaves_out_is_the_picture_itself(model: Layers) -> None:
    picture, guide = (torch.rand(1, 3, 32, 32) * 2 - 1 for _ in range(2))
    edited = transfer(model.encode(picture), guide_a=model.encode(guide))
    made = model.compose(edited, onto=picture)
    assert made.mask is not None
    assert not torch.equal(made.image, picture)
    closed = (made.mask == 0).expand_as(picture)
    assert torch.equal(made.image[closed], picture[closed])


def test_everything_is_taken_off_before_anything_is_painted() -> None:
    """The own part's mask covers all; painted first, the new part would be wiped out again."""

    class Covers(Stub):
        def encode(self, image: Tensor) -> Codes:
            return Codes(image[:, :1], torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))

        def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
            shown = torch.full((1, 3, 4, 4), 0.5 * codes.a.item() - 0.5 * codes.b.item())
            return shown, torch.full((1, 1, 4, 4), float(codes.a.item() or codes.b.item()))

    model, picture = Covers(), torch.full((1, 3, 4, 4), 0.9)
    smile = Codes(picture[:, :1], torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert torch.allclose(model.compose(smile, picture).image, torch.full((1, 3, 4, 4), 0.5))


def test_without_a_picture_the_layers_lie_on_their_own_base(model: Layers) -> None:
    codes = model.encode(torch.rand(1, 3, 32, 32))
    base, _ = model.layer(codes.without("a", "b"))
    bare = model.compose(codes.without("a", "b"))
    assert torch.equal(bare.image, base) and bare.mask is not None and not bare.mask.any()
    rgb, where = model.layer(codes.without("b"))
    expected = blend(rgb, base, opened(where))
    assert torch.allclose(model.compose(codes.without("b")).image, expected, atol=1e-6)


def test_the_removal_mask_is_hard_grown_and_feathered() -> None:
    soft = torch.zeros(1, 1, 9, 9)
    soft[..., 4, 4] = 0.11
    soft[..., 0, 0] = 0.09  # below the threshold
    grown = removal_mask(soft)[0, 0]
    assert grown[4, 4] == 1 and grown[3, 3] == pytest.approx(4 / 9) and grown[4, 3] > 0.6
    assert grown[4, 2] > 0 and grown[4, 1] == 0 and grown[0, 0] == 0


class Stub(Layers):
    """Codes and layers by hand: E_c = 0, E_A = E_B = the mean; a layer is 0.5 with mask 0.25."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = CONFIG

    def encode(self, image: Tensor) -> Codes:
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return Codes(torch.zeros_like(mean), mean, mean)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        shown = (codes.a + codes.b != 0).to(codes.a.dtype).expand(-1, 3, 4, 4)
        return 0.5 * shown, 0.25 * shown[:, :1]


class Undecided(nets.Critic):
    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, common: Tensor) -> Tensor:
        return torch.zeros(len(common))


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
    )
    made = mask.layers_loss(Stub(), Undecided(), a, b, weights, "half")
    terms = {name: term.item() for name, term in made.terms.items()}
    painted = 0.25 * 0.5  # onto a base of 0
    assert terms["reconstruction_a"] == pytest.approx(0.2 - painted)
    assert terms["reconstruction_b"] == pytest.approx(0.4 - painted)
    assert terms["repaint_a"] == pytest.approx(0.25 * 0.3)
    assert terms["repaint_b"] == pytest.approx(0.25 * 0.1)
    assert terms["mask"] == pytest.approx(0.25)  # both domains' layers; the base's is closed
    assert terms["zero"] == pytest.approx(0.4 + 0.2)
    expected = sum(getattr(weights, name) * term for name, term in terms.items())
    assert made.total.item() == pytest.approx(expected)


class PublishedStub(Mask):
    """E1 = 0.5 times the mean, E2 = the mean; D_A = E1; D_B = (E1 + E2, mask E2)."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = PUBLISHED
        self.encoders = HalfAndMean()  # type: ignore[assignment]

    def base(self, codes: Codes) -> Tensor:
        return codes.common.expand(-1, 3, 4, 4)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        rgb = (codes.common + codes.a).expand(-1, 3, 4, 4)
        return rgb, codes.a.expand(-1, 1, 4, 4)


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
    made = mask.mask_loss(PublishedStub(), Undecided(), a, b, weights, "paper")
    terms = {name: term.item() for name, term in made.terms.items()}
    assert terms["reconstruction_b"] == pytest.approx(0.8 - 0.4)  # D_A(E1(b), 0) = 0.4
    own = 0.2 + 0.4 * (0.6 - 0.2)  # D_B = 0.6 with mask 0.4 onto D_A(E1(a), 0) = 0.2
    assert terms["reconstruction_a"] == pytest.approx(0.4 - own, rel=1e-5)
    assert terms["repaint_a"] == pytest.approx(0.4 * (0.6 - 0.4))  # onto a itself
    assert terms["repaint_b"] == pytest.approx(0.0, abs=1e-6)  # E2 = 0 closes the mask
    c = 0.8 + 0.4 * ((0.4 + 0.4) - 0.8)  # E1(b) + E2(a) = 0.8 with mask 0.4 onto b
    assert terms["cycle_common"] == pytest.approx((c / 2 - 0.4) ** 2, abs=1e-6)
    assert terms["cycle_separate"] == pytest.approx((c - 0.4) ** 2, rel=1e-5)
    assert terms["common"] == pytest.approx(2 * math.log(2))
    expected = sum(getattr(weights, name) * term for name, term in terms.items())
    assert made.total.item() == pytest.approx(expected)
    assert made.common.flatten().tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4])  # A's first


def test_the_domains_go_through_batch_norm_one_after_the_other() -> None:
    torch.manual_seed(0)
    model = checkpoint.build(PUBLISHED)
    assert isinstance(model, Mask)
    a, b = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    first, other = (
        mask.mask_loss(model, Undecided(), a, pictures, Weights(common=0), "paper")
        for pictures in (b, 0.1 * b)
    )
    assert torch.equal(first.terms["repaint_a"], other.terms["repaint_a"])
    assert not torch.equal(first.terms["repaint_b"], other.terms["repaint_b"])


def test_the_published_layout_is_the_releases() -> None:
    """Widths of method.md at 128 px; 4x4 convolutions, batch norm, leaky ReLU, no spectral norm."""
    config = ModelConfig.of("mask", "paper", side=128)
    model = checkpoint.build(config)
    assert isinstance(model, Mask)

    def convolutions(part: nn.Module) -> list[tuple[int, ...]]:
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        return [tuple(m.weight.shape) for m in part.modules() if isinstance(m, kinds)]

    def encoder(*widths: int) -> list[tuple[int, ...]]:
        return [(out, c_in, 4, 4) for c_in, out in zip((3, *widths), widths, strict=False)]

    def decoder(*widths: int) -> list[tuple[int, ...]]:
        return [(c_in, out, 4, 4) for c_in, out in zip((512, *widths), widths, strict=False)]

    assert convolutions(model.encoders.common) == encoder(32, 64, 128, 256, 487, 487)
    assert convolutions(model.encoders.separate_a) == encoder(32, 64, 128, 128, 128, 25)
    assert convolutions(model.plain) == decoder(512, 256, 128, 64, 32, 3)
    assert convolutions(model.painter) == decoder(512, 256, 128, 64, 32, 4)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 6 + 6 + 5 + 5
    assert not any("parametrizations" in name for name in model.state_dict())
    assert nets.Critic(config).layers[1].weight.shape == (512, 487 * 4)


def test_the_published_mask_comes_first_and_its_removal_is_the_plain_decoders() -> None:
    torch.manual_seed(0)
    model = checkpoint.build(PUBLISHED).eval()
    assert isinstance(model, Mask)
    with torch.no_grad():
        model.painter[-1].bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))  # the mask is open
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    codes = model.encode(picture)
    rgb, where = model.layer(codes)
    assert rgb.shape == (2, 3, 32, 32) and where.min() > 0.9 and rgb.abs().max() < 0.9
    assert torch.allclose(model.segment(picture, "a"), where)
    bare = model.compose(codes.without("a"), picture)
    assert torch.allclose(bare.image, model.base(codes), atol=1e-6)


def test_an_edit_is_the_picture_and_the_paint(model: Layers) -> None:
    picture, guide = (torch.rand(3, 3, 32, 32) * 2 - 1 for _ in range(2))
    made = model.compose(transfer(model.encode(picture), guide_a=model.encode(guide)), picture)
    assert made.mask is not None and made.paint is not None
    assert torch.allclose(made.image, (1 - made.mask) * picture + made.paint)


def test_each_picture_of_a_batch_is_edited_by_what_changed_in_it(model: Layers) -> None:
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    codes = model.encode(picture)
    a = codes.a.clone()
    a[1] = -a[1]
    made = model.compose(codes._replace(a=a), picture)
    assert torch.equal(made.image[0], picture[0]) and not torch.equal(made.image[1], picture[1])


def test_a_mask_up_to_the_limit_is_closed_for_good() -> None:
    assert opened(torch.tensor([0.0, CLOSED, 1.0])).tolist() == [0, 0, 1]
    assert 0 < opened(torch.tensor(CLOSED + 0.01)) < 0.02


@pytest.mark.parametrize("method", ["layers", "mask"])
def test_one_sided_models_learn_a_step(method: str) -> None:
    config = replace(CONFIG, method=method, separate_b=0, domains=Domains(a="hat", b="none"))
    torch.manual_seed(0)
    model = checkpoint.build(config)
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    loss = {"layers": mask.layers_loss, "mask": mask.mask_loss}[method]
    weights = Weights(zero=1, repaint_a=1, repaint_b=1, cycle_common=1, cycle_separate=1, mask=1)
    made = loss(model, Undecided(), a, b, weights, "half")  # type: ignore[operator]
    made.total.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_forms_that_do_not_exist_are_refused() -> None:
    with pytest.raises(DidaError, match="one-sided, as published: separate_b must be 0"):
        ModelConfig.of("mask", "compact", separate_b=3)
    with pytest.raises(DidaError, match="method layers has no paper form; use compact"):
        ModelConfig.of("layers", "paper", side=128, grid=2)
    with pytest.raises(DidaError, match="segment_from must lie between 0 and 1"):
        replace(CONFIG, segment_from=1.0)


def test_a_mask_model_is_saved_and_loaded(model: Layers, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    checkpoint.write_folder(folder, checkpoint.model_files(model, ""))
    loaded = checkpoint.load(folder)
    picture = torch.rand(1, 3, 32, 32)
    expected = model.compose(model.encode(picture).without("a"), picture)
    made = loaded.compose(loaded.encode(picture).without("a"), picture)
    assert isinstance(loaded, Layers) and torch.equal(made.image, expected.image)
