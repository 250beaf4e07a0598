from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch import Tensor, nn

from dida_cli import checkpoint, mask, nets
from dida_cli.codes import Codes, transfer
from dida_cli.config import Weights
from dida_cli.mask import TwoSidedMask, blend, removal_mask

CONFIG = replace(TINY, method="mask")


@pytest.fixture
def model() -> TwoSidedMask:
    torch.manual_seed(0)
    built = checkpoint.build(CONFIG).eval().requires_grad_(False)
    assert isinstance(built, TwoSidedMask)
    return built


def test_a_closed_mask_keeps_the_picture_bit_for_bit_and_an_open_one_replaces_it() -> None:
    new, onto = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert torch.equal(blend(new, onto, torch.zeros(2, 1, 8, 8)), onto)
    assert torch.allclose(blend(new, onto, torch.ones(2, 1, 8, 8)), new)
    half = blend(new, onto, torch.full((2, 1, 8, 8), 0.5))
    assert torch.allclose(half, (new + onto) / 2)


def test_layers_are_pictures_with_masks(model: TwoSidedMask) -> None:
    rgb, where = model.layer(model.encode(torch.rand(2, 3, 32, 32)))
    assert rgb.shape == (2, 3, 32, 32) and where.shape == (2, 1, 32, 32)
    assert rgb.abs().max() <= 1 and where.min() >= 0 and where.max() <= 1


def test_unchanged_codes_change_nothing(model: TwoSidedMask) -> None:
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    made = model.compose(model.encode(picture), onto=picture)
    assert torch.equal(made.image, picture)
    assert made.mask is not None and not made.mask.any()


def test_what_the_mask_leaves_out_is_the_picture_itself(model: TwoSidedMask) -> None:
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


def test_without_a_picture_the_layers_lie_on_their_own_base(model: TwoSidedMask) -> None:
    codes = model.encode(torch.rand(1, 3, 32, 32))
    base, _ = model.layer(codes.without("a", "b"))
    bare = model.compose(codes.without("a", "b"))
    assert torch.equal(bare.image, base) and bare.mask is not None and not bare.mask.any()
    rgb, where = model.layer(codes.without("b"))
    assert torch.allclose(model.compose(codes.without("b")).image, blend(rgb, base, where))


def test_the_removal_mask_is_hard_grown_and_feathered() -> None:
    soft = torch.zeros(1, 1, 9, 9)
    soft[..., 4, 4] = 0.11
    soft[..., 0, 0] = 0.09  # below the threshold
    grown = removal_mask(soft)[0, 0]
    assert grown[4, 4] == 1 and grown[3, 3] == pytest.approx(4 / 9) and grown[4, 3] > 0.6
    assert grown[4, 2] > 0 and grown[4, 1] == 0 and grown[0, 0] == 0


class Stub(TwoSidedMask):
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
    weights = Weights(reconstruction=2, zero=3, common=5, repaint=7, mask=11)
    made = mask.autoencoder_loss(Stub(), Undecided(), a, b, weights, "half")
    terms = {name: term.item() for name, term in made.terms.items()}
    painted = 0.25 * 0.5  # onto a base of 0
    assert terms["reconstruction"] == pytest.approx((0.2 - painted) + (0.4 - painted))
    assert terms["repaint"] == pytest.approx(0.25 * 0.3 + 0.25 * 0.1)
    assert terms["mask"] == pytest.approx(0.25)  # both domains' layers; the base's is closed
    assert terms["zero"] == pytest.approx(0.4 + 0.2)
    expected = sum(getattr(weights, name) * term for name, term in terms.items())
    assert made.total.item() == pytest.approx(expected)


def test_a_mask_model_is_saved_and_loaded(model: TwoSidedMask, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    checkpoint.write_folder(folder, checkpoint.model_files(model, ""))
    loaded = checkpoint.load(folder)
    picture = torch.rand(1, 3, 32, 32)
    expected = model.compose(model.encode(picture).without("a"), picture)
    made = loaded.compose(loaded.encode(picture).without("a"), picture)
    assert isinstance(loaded, TwoSidedMask) and torch.equal(made.image, expected.image)
