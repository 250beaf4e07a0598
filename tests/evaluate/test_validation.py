"""The quick score of a model in training: what it is made of, and where its pairs come from."""

from pathlib import Path
from statistics import fmean

import pytest
import torch

from dida_cli.config import PARTS, Part
from dida_cli.data import avatars, celeba
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, pairs, validation
from dida_cli.players import Network


def pictures(seed: int, count: int = 12) -> torch.Tensor:
    return 2 * torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def sides(parts: str = "a", count: int = 12) -> dict[Part, tuple[torch.Tensor, torch.Tensor]]:
    places: list[Part] = [part for part in PARTS if part in parts]
    return {part: (pictures(1), pictures(2 + n, count)) for n, part in enumerate(places)}


def figures(tiny: Network, known: bool) -> dict[str, float]:
    if known:
        judge, drawn = attributes.FactorClassifier(), validation.drawn(pairs.Task("Smiling"), 32)
    else:
        judge = attributes.FactorClassifier(attributes.of_parts(["a"]))
        drawn = validation.held_out(sides())
    return validation.Validation(judge.eval(), drawn)(tiny)


def test_the_score_is_the_mean_of_the_weaker_direction(tiny: Network) -> None:
    found = figures(tiny, known=False)
    means = [fmean(found[f"{n}_{part}"] for n in ("target", "guide", "kept")) for part in "ab"]
    assert found["score"] == min(means)
    assert all(0 <= value <= 1 for value in found.values())


def test_a_score_leaves_random_numbers_alone(tiny: Network) -> None:
    judge = attributes.FactorClassifier(attributes.of_parts(["a", "b"])).eval()
    validate = validation.Validation(judge, validation.held_out(sides("ab")))
    before = torch.get_rng_state()
    assert validate(tiny) == validate(tiny)
    assert torch.equal(before, torch.get_rng_state())


def test_a_removal_has_no_guide_to_be_faithful_to(
    tiny: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "PAIRS", 2)
    found = figures(tiny, known=True)
    assert "guide_a" in found and "guide_b" not in found


def test_the_rank_of_the_true_guide_becomes_a_figure() -> None:
    def figure(rank: float) -> float:
        return validation._from_rank({"retrieval_rank": rank, "retrieval_rank_chance": 32.5})

    assert [figure(rank) for rank in (1, 16.75, 32.5, 40)] == [1, 0.5, 0, 0]


def test_too_few_held_out_pictures_are_refused() -> None:
    with pytest.raises(
        DidaError, match="need 10 held-out pictures with each part and without, not 9"
    ):
        validation.held_out(sides("ab", count=9))


@pytest.mark.usefixtures("thorough_judges")
def test_pictures_with_a_part_are_the_guides_of_those_without() -> None:
    given = sides("ab")
    for part, of_part in validation.held_out(given).items():
        guides, contents = given[part]
        assert {x.sum().item() for x in of_part.guide} == {x.sum().item() for x in guides}
        assert {x.sum().item() for x in of_part.content} == {x.sum().item() for x in contents}
    taken_off = validation.held_out(sides())["b"]  # of the only part
    assert {x.sum().item() for x in taken_off.content} == {x.sum().item() for x in pictures(1)}


def test_faces_are_drawn_only_for_trainings_on_drawn_faces(tmp_path: Path) -> None:
    def task(**having: str) -> pairs.Task | None:
        named: dict[Part, tuple[str, str]] = {
            part: (having[part], f"not {having[part]}") for part in PARTS if part in having
        }
        return validation.drawn_task(tmp_path, named)

    ours = {"a": "Smiling", "b": "Eyeglasses"}
    (tmp_path / celeba.ATTRIBUTE_LIST).touch()
    assert task(**ours) is None  # photographs, with an attribute list
    (tmp_path / avatars.FACTORS_LIST).touch()
    assert task(**ours) == pairs.SMILE_GLASSES
    only = {"a": "Smiling and not Eyeglasses", "b": "Eyeglasses and not Smiling"}
    assert task(**only) == pairs.SMILE_GLASSES
    assert task(a="Eyeglasses", b="Smiling") == pairs.Task("Eyeglasses", "Smiling")
    assert task(a="Smiling", b="Male") is None and task(a="Male") is None
    assert task(a="Smiling") == pairs.Task("Smiling")
    own = {"a": ("Smiling and not Beard", "Beard and not Smiling")}  # whose other side has a part
    assert validation.drawn_task(tmp_path, own) == pairs.Task("Smiling", "Beard")


def test_validation_pairs_are_not_those_of_the_test() -> None:
    from dida_cli.cli import begin, evaluate
    from dida_cli.evaluate import report

    tested = evaluate.PAIRS_SEED
    assert validation.SEED not in {tested, tested + report.VALIDATION_SEED, begin.AVATAR_SEED}
