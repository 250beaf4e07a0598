import numpy as np
import pytest
import torch
from conftest import RETOUCH, TINY, retouching, with_masks_of

from dida_cli import checkpoint, codes
from dida_cli.codes import Codes


def of(value: float, count: int = 1) -> Codes:
    return Codes(
        torch.full((count, 4, 2, 2), float(value)),
        torch.full((count, 2, 2, 2), value + 0.1),
        torch.full((count, 3, 2, 2), value + 0.2),
    )


def same(one: Codes, other: Codes) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_guide_gives_its_part_and_the_other_part_is_dropped() -> None:
    content, guide = of(1), of(2)
    edited = codes.transfer(content, guide_a=guide)
    assert same(edited, Codes(content.common, guide.a, torch.zeros_like(content.b)))
    edited = codes.transfer(content, guide_b=guide)
    assert same(edited, Codes(content.common, torch.zeros_like(content.a), guide.b))


def test_keep_leaves_the_contents_own_part_only_where_no_guide_is_given() -> None:
    content, guide = of(1), of(2)
    edited = codes.transfer(content, guide_a=guide, keep=("a", "b"))
    assert same(edited, Codes(content.common, guide.a, content.b))


def test_two_guides_make_the_union() -> None:
    edited = codes.transfer(of(1), guide_a=of(2), guide_b=of(3))
    assert same(edited, Codes(of(1).common, of(2).a, of(3).b))


def test_one_guide_serves_a_whole_batch_of_contents() -> None:
    edited = codes.transfer(of(1, count=5), guide_a=of(2))
    assert edited.a.shape[0] == 5 and bool((edited.a == of(2).a).all())


def test_without_sets_only_the_named_parts_to_zero() -> None:
    bare = of(1).without("b")
    assert same(bare, Codes(of(1).common, of(1).a, torch.zeros_like(of(1).b)))
    assert not of(1).without("a", "b").a.any()


def test_between_meets_its_ends_exactly_and_goes_beyond() -> None:
    start, end = of(0.1), of(0.7)
    assert same(codes.between(start, end, 0), start)
    assert same(codes.between(start, end, 1), end)
    assert torch.allclose(codes.between(start, end, 2).a, torch.full((1, 2, 2, 2), 1.4))


def test_interpolate_takes_equal_steps() -> None:
    row = codes.interpolate(of(0), of(1), 5)
    means = [step.common.mean().item() for step in row]
    assert torch.allclose(torch.tensor(means), torch.linspace(0, 1, 5))


def test_a_grid_moves_two_codes_and_keeps_the_third() -> None:
    table = codes.grid(of(0), of(1), down="a", across="b", steps=3)
    assert len(table) == 3 and all(len(row) == 3 for row in table)
    for y, row in enumerate(table):
        for x, cell in enumerate(row):
            assert torch.equal(cell.common, of(0).common)
            assert torch.allclose(cell.a, of(y / 2).a)
            assert torch.allclose(cell.b, of(x / 2).b)


def test_a_grid_can_move_the_common_code_down() -> None:
    corner = codes.grid(of(0), of(1), down="common", across="a", steps=2)[1][0]
    assert same(corner, Codes(of(1).common, of(0).a, of(0).b))


def test_stack_and_take_are_inverse() -> None:
    both = codes.stack([of(1), of(2)])
    assert same(both.take(1), of(2))


def test_codes_without_channels_go_through_every_edit() -> None:
    """Of a model of one part, and of one without a common code."""
    code = torch.ones(1, 3, 2, 2)
    own, guide = Codes(code[:, :0], code, code[:, :0]), Codes(code[:, :0], 2 * code, code[:, :0])
    edited = codes.transfer(own, guide_a=guide, keep=("b",))
    assert same(codes.between(own, edited, 0.5), Codes(own.common, 1.5 * code, own.b))
    assert not own.without("a", "b").a.any()
    assert same(codes.stack([own, guide]).take(1), guide)
    assert len(codes.grid(own, guide, down="a", across="b", steps=2)) == 2


def test_arrays_are_edited_like_tensors() -> None:
    tensors = codes.transfer(of(1, count=2), guide_a=of(2))
    arrays = codes.transfer(
        Codes(*(code.numpy() for code in of(1, count=2))),
        guide_a=Codes(*(code.numpy() for code in of(2))),
    )
    for array, tensor in zip(codes.between(arrays, arrays, 0.3), tensors, strict=True):
        assert isinstance(array, np.ndarray) and np.allclose(array, tensor.numpy())


@pytest.mark.parametrize("model", [with_masks_of(-1), retouching()], ids=["layers", "retouch"])
def test_a_segment_is_what_taking_off_changes(model: codes.Model) -> None:
    picture = torch.rand(2, 3, 32, 32, generator=torch.manual_seed(1)) * 2 - 1
    own = model.encode(picture)
    taken = model.compose(own.without("a"), picture, own)
    assert taken.mask is not None and taken.mask.any()
    assert torch.equal(codes.segment(model, picture, "a"), taken.mask)
    assert ((taken.image != picture).any(1, keepdim=True) <= (taken.mask > 0)).all()


def test_abilities_are_said_by_the_network() -> None:
    assert checkpoint.build(TINY).abilities == {"two parts", "common code"}
    assert checkpoint.build(RETOUCH).abilities == {"two parts", "masks"}
