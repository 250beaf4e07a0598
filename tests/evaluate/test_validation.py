"""The quick score of a model in training: what it is made of, and where its pairs come from."""

from pathlib import Path
from statistics import fmean

import pytest
import torch
from conftest import TINY

from dida_cli.config import Domains, ModelConfig
from dida_cli.data import avatars
from dida_cli.didd import Didd
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, pairs, validation


def pictures(seed: int, count: int = 12) -> torch.Tensor:
    return 2 * torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def figures(tiny: Didd, known: bool) -> dict[str, float]:
    if known:
        judge, drawn = attributes.FactorClassifier(), validation.drawn(pairs.Task("Smiling"), 32)
    else:
        judge = attributes.FactorClassifier(attributes.DOMAIN)
        drawn = validation.held_out(pictures(1), pictures(2))
    return validation.Validation(judge.eval(), drawn)(tiny)


def test_the_score_is_the_mean_of_the_weaker_direction(tiny: Didd) -> None:
    found = figures(tiny, known=False)
    means = [fmean(found[f"{n}_{part}"] for n in ("target", "guide", "kept")) for part in "ab"]
    assert found["score"] == min(means)
    assert all(0 <= value <= 1 for value in found.values())


def test_a_score_leaves_random_numbers_alone(tiny: Didd) -> None:
    judge = attributes.FactorClassifier(attributes.DOMAIN).eval()
    validate = validation.Validation(judge, validation.held_out(pictures(1), pictures(2)))
    before = torch.get_rng_state()
    assert validate(tiny) == validate(tiny)
    assert torch.equal(before, torch.get_rng_state())


def test_a_removal_has_no_guide_to_be_faithful_to(
    tiny: Didd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "PAIRS", 2)
    found = figures(tiny, known=True)
    assert "guide_a" in found and "guide_b" not in found


def test_the_rank_of_the_true_guide_becomes_a_figure() -> None:
    def figure(rank: float) -> float:
        return validation._from_rank({"retrieval_rank": rank, "retrieval_rank_chance": 32.5})

    assert [figure(rank) for rank in (1, 16.75, 32.5, 40)] == [1, 0.5, 0, 0]


def test_too_few_held_out_pictures_are_refused() -> None:
    with pytest.raises(DidaError, match="need 10 held-out pictures of each domain, not 9"):
        validation.held_out(pictures(1), pictures(2, count=9))


def test_faces_are_drawn_only_for_trainings_on_drawn_faces(tmp_path: Path) -> None:
    def task(config: ModelConfig = TINY, **record: str) -> pairs.Task | None:
        return validation.drawn_task(config, {"root": str(tmp_path)} | record)

    ours = {"a": "Smiling", "b": "Eyeglasses"}
    assert task(**ours) is None  # photographs, with an attribute list
    (tmp_path / avatars.FACTORS_LIST).touch()
    assert task(**ours) == pairs.SMILE_GLASSES
    assert task() is None
    assert task(a="Eyeglasses", b="Smiling") is None  # called smile and glasses all the same
    assert task(ModelConfig(domains=Domains(a="hat", b="beard")), **ours) is None
    one_sided = ModelConfig(separate_b=0, domains=Domains(a="smile", b="none"))
    assert task(one_sided, a="Smiling", b="not Smiling") == pairs.Task("Smiling")


def test_validation_pairs_are_not_those_of_the_test() -> None:
    from dida_cli.cli import evaluate, train
    from dida_cli.evaluate import report

    tested = evaluate.PAIRS_SEED
    assert validation.SEED not in {tested, tested + report.VALIDATION_SEED, train.AVATAR_SEED}
