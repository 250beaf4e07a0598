"""Digits as on houses, and the set of both domains."""

import csv
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dida_cli.data import digits
from dida_cli.errors import DidaError

FONTS = [str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")]


def drawn(digit: int, seed: int) -> np.ndarray:
    return np.asarray(digits.street(digit, np.random.default_rng(seed), FONTS)).astype(float)


def test_a_street_digit_is_a_function_of_its_seed_and_shows_its_digit() -> None:
    for seed in range(8):
        one, again, other = drawn(3, seed), drawn(3, seed), drawn(8, seed)
        assert one.shape == (digits.SIDE, digits.SIDE, 3) and np.array_equal(one, again)
        changed = np.abs(one - other).mean(2) > 20
        assert 4 < changed.sum() < 400 and changed[:, 4:-4].sum() > 0.8 * changed.sum()
        assert one.std() > 8  # one can read it
    assert not np.array_equal(drawn(3, 0), drawn(3, 1))


def test_the_set_holds_as_many_of_each_and_keeps_some_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "fonts", lambda: FONTS)
    pictures = np.random.default_rng(0).integers(0, 256, (40, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x=pictures, y=np.arange(40) % 10)
    digits.write_set(tmp_path / "set", tmp_path / "mnist.npz", seed=1)
    with (tmp_path / "set" / digits.TABLE).open() as lines:
        rows = list(csv.DictReader(lines))
    for domain in ("mnist", "street"):
        of_domain = [row for row in rows if row["domain"] == domain]
        kinds = [row["partition"] for row in of_domain]
        assert [kinds.count(kind) for kind in ("training", "validation", "test")] == [32, 2, 6]
        assert len({row["digit"] for row in of_domain}) == 10
    first = np.asarray(Image.open(tmp_path / "set" / "mnist" / "00000.png"))
    assert np.array_equal(first[2:-2, 2:-2, 1], pictures[0]) and not first[:2].any()


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((2, 28, 28)), "y": np.zeros(2)},
        {"x": np.zeros((2, 28, 28), np.uint8), "y": np.zeros(3)},
        {"x": np.zeros((2, 28, 28), np.uint8), "y": np.full(2, 10)},
        {"x": np.zeros((2, 28, 28), np.uint8)},
    ],
    ids=["not bytes", "too many labels", "no digits", "no labels"],
)
def test_what_are_no_digits_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DidaError, match=r"bad\.npz: "):
        digits.write_set(tmp_path / "set", tmp_path / "bad.npz")
    with pytest.raises(DidaError, match="is not there"):
        digits.write_set(tmp_path / "set", tmp_path / "none.npz")


def test_without_fonts_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "entry_points", lambda **_: ())
    with pytest.raises(DidaError, match=r"pip install 'dida\[digits\]'"):
        digits.fonts()
