"""Masks against regions drawn by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dida_cli import images
from dida_cli.data import avatars
from dida_cli.errors import DidaError
from dida_cli.evaluate import segmentation


def drawn(*rows: str) -> Tensor:
    """Several 1-row pictures, "#" being True: bool (N, 1, 1, w)."""
    return torch.tensor([[[[mark == "#" for mark in row]]] for row in rows])


def test_iou_by_hand() -> None:
    mask = drawn("##..", "##..", "####", "....", "....")
    region = drawn(".##.", "##..", "#...", "##..", "....")
    assert segmentation.iou(mask, region).tolist() == pytest.approx([1 / 3, 1, 1 / 4, 0, 1])


def test_mean_iou_and_its_interval_by_hand() -> None:
    mask, region = drawn("##..", "##..", "####").float(), drawn("##..", "#...", "#...")
    found = segmentation.mean_iou(mask, region, 0.5)  # 1, 1/2, 1/4
    assert found.value == pytest.approx(7 / 12)
    spread = 1.96 * (7 / 48) ** 0.5 / 3**0.5  # their sample variance is 7/48
    assert found.low == pytest.approx(7 / 12 - spread)
    assert found.high == pytest.approx(min(1, 7 / 12 + spread))
    assert segmentation.mean_iou(mask, region, 1.0).value == 0  # > and not >=


def test_the_threshold_is_the_first_that_fits_best() -> None:
    region = drawn("##..", ".##.")
    mask = torch.where(region, 0.72, 0.42)
    mask[0, ..., 3] = 0.1
    assert segmentation.choose_threshold(mask, region) == 0.45
    assert segmentation.choose_threshold(0 * mask, region) == 0.05  # none finds anything


def test_the_report_tells_the_chosen_threshold_and_the_half() -> None:
    region = drawn("##..", ".##.")
    mask = torch.where(region, 0.95, 0.6)  # at 0.5 everything is painted
    found = segmentation.score(mask, region, 0.7)
    assert found["n"] == 2 and found["threshold"] == 0.7
    assert (found["iou"], found["iou_low"], found["iou_high"]) == (1, 1, 1)
    assert found["iou_at_half"] == found["iou_at_half_low"] == found["iou_of_all"] == 0.5
    assert all(any(key.startswith(name) for name in segmentation.DEFINITIONS) for key in found)


def test_the_true_region_needs_more_than_the_tolerance_in_any_channel() -> None:
    content = torch.full((1, 3, 1, 4), -1.0)
    truth = content.clone()
    for column, levels in enumerate([0, 8, 8.5, -40]):
        truth[0, column % 3, 0, column] += levels / 127.5
    assert torch.equal(segmentation.true_region(content, truth), drawn("..##"))
    assert torch.equal(segmentation.true_region(truth, content), drawn("..##"))


def test_the_true_region_of_glasses_is_around_the_eyes() -> None:
    bare = replace(avatars.factors_at(3, 0), glasses=avatars.NONE)
    worn = replace(bare, glasses="ROUND")
    content, truth = (
        images.to_tensor([avatars.draw(face, 64)], images.Square(64)) for face in (bare, worn)
    )
    region = segmentation.true_region(content, truth)
    rows = region[0, 0].any(1).nonzero().flatten().tolist()
    assert region.shape == (1, 1, 64, 64) and 100 < region.sum() < 1000
    assert 10 < min(rows) < 32 and max(rows) < 45  # neither hair nor mouth
    assert not segmentation.true_region(content, content).any()


def test_the_touched_region_is_what_should_change_or_did_and_two_pixels_more() -> None:
    content = torch.full((1, 3, 1, 12), -1.0)
    truth, output = content.clone(), content.clone()
    truth[..., 2] += 0.1
    output[:, 0, :, 9] += 0.1
    output[..., 5] += 0.05  # 6 levels: nobody sees that
    touched = segmentation.touched_region(content, truth, output)
    assert torch.equal(touched, drawn("#####..#####"))


def test_changes_where_the_mask_is_0_by_hand() -> None:
    before = torch.zeros(1, 3, 1, 4)
    after, mask = before.clone(), drawn("#...").float() / 10
    after[..., 0] = 1
    assert segmentation.changed_unmasked(before, after, mask) == 0
    after[0, 1, 0, 3] = -2 / 255
    assert segmentation.changed_unmasked(before, after, mask) == pytest.approx(1)


def test_dilation_by_hand() -> None:
    region = torch.zeros(1, 1, 7, 7).bool()
    region[..., 3, 2] = True
    grown = segmentation.dilate(region, 2)
    assert grown[0, 0, 1:6, 0:5].all() and grown.sum() == 25
    assert torch.equal(segmentation.dilate(region, 0), region)


def test_changes_outside_the_region_by_hand() -> None:
    before = torch.full((2, 3, 1, 5), -1.0)
    after = before.clone()
    after[0, :, 0, 0] += 2  # 255 levels, inside
    after[0, :, 0, 1] += 1  # 127.5 levels, beside
    after[0, 0, 0, 4] -= 0.4  # 51 levels in one of three channels: 17
    region = drawn("#....", "#####")

    def changed(dilation: int) -> float:
        return segmentation.changed_outside(before[:1], after[:1], region[:1], dilation)

    assert changed(0) == pytest.approx((127.5 + 17) / 4)
    assert changed(1) == pytest.approx(17 / 3)
    assert changed(3) == pytest.approx(17)
    assert segmentation.changed_outside(after, before, region, 1) == pytest.approx(17 / 3)
    with pytest.raises(DidaError, match="no picture has a pixel"):
        changed(4)
