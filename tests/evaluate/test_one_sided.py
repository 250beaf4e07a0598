"""Models whose B has nothing of its own are judged at giving a part, and at taking it off."""

from dataclasses import replace

import pytest
import torch
from stand_in import SIDE, Copies, Pastes

from dida_cli import hub, images
from dida_cli.config import Domains
from dida_cli.data import avatars
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, counterfactual, pairs, report, tables
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import SMILE_GLASSES, Edits, Pairs, Task
from dida_cli.images import Square

GLASSES = Domains(a="glasses")
SMILE, EYEGLASSES, BEARD = (Task(name) for name in avatars.ATTRIBUTES)


@pytest.fixture(scope="module")
def judge() -> FactorClassifier:
    return attributes.load(hub.BUNDLED / hub.JUDGE)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Pairs]:
    return dict(pairs.draw(EYEGLASSES, 24, SIDE, seed=5))


def perfect(drawn: Pairs) -> Edits:
    """What a model would make that always gives the true answer."""
    made = pairs.edit(Copies(GLASSES), drawn)
    return replace(made, output=drawn.facts.truth, bare=drawn.facts.truth)


def test_a_task_is_what_the_domains_are_called() -> None:
    assert pairs.task_of(Copies().config) == SMILE_GLASSES
    assert pairs.task_of(Copies(GLASSES).config) == EYEGLASSES
    two = Domains(a="beard", b="smile")
    assert pairs.task_of(Copies(two).config) == Task("Beard", "Smiling")
    for domains, words in (
        (Domains(a="hat"), "hat alone"),
        (Domains(a="smile", b="hat"), "smile and"),
    ):
        with pytest.raises(DidaError, match=f"not {words}"):
            pairs.task_of(Copies(domains).config)


def test_truths_change_the_one_part_alone(drawn: dict[str, Pairs]) -> None:
    for part, of_part in drawn.items():
        known = of_part.facts
        for content, guide, truth in zip(known.contents, known.guides, known.truths, strict=True):
            assert truth == replace(content, glasses=guide.glasses)
            assert (truth.glasses == avatars.NONE) == (part == "b")


def test_whichever_mouth_comes_where_a_smile_was_is_right() -> None:
    smiles = pairs.draw(SMILE, len(avatars.OTHER_MOUTHS), SIDE, seed=5)
    known = smiles["b"].facts
    assert known.task.is_open
    chosen = [
        replace(face, mouth=mouth)
        for face, mouth in zip(known.contents, avatars.OTHER_MOUTHS, strict=True)
    ]
    wanted = images.to_tensor([avatars.draw(face, SIDE) for face in chosen], Square(SIDE))
    assert torch.equal(pairs.nearest_answers(smiles["b"], wanted + 0.02), wanted)


def test_there_is_one_right_answer_to_all_else(drawn: dict[str, Pairs]) -> None:
    assert not any(task.is_open for task in (SMILE_GLASSES, EYEGLASSES, BEARD) if task != SMILE)
    for of_part in (drawn["b"], pairs.draw(SMILE, 1, SIDE, seed=5)["a"]):
        assert torch.equal(pairs.nearest_answers(of_part, of_part.content), of_part.facts.truth)


def test_a_beard_moves_with_its_colour() -> None:
    of = pairs.draw(BEARD, 4, SIDE, seed=5)["a"].facts
    for guide, truth in zip(of.guides, of.truths, strict=True):
        assert (truth.beard, truth.beard_color) == (guide.beard, guide.beard_color)


def test_true_answers_score_full_and_copies_nothing(
    judge: FactorClassifier, drawn: dict[str, Pairs]
) -> None:
    for part, of_part in drawn.items():
        best = perfect(of_part)
        copies = replace(best, output=of_part.content, bare=of_part.content)
        assert counterfactual.classification(judge, of_part, best)["target"] >= 0.95
        assert counterfactual.classification(judge, of_part, copies)["target"] <= 0.05
        gone, kept = (counterfactual.removal(judge, of_part, e) for e in (best, copies))
        kind = counterfactual.guide_type(judge, of_part, best)
        if part == "a":  # contents have nothing to lose, guides have a kind
            assert gone is None and kept is None
            assert kind and kind["guide_type"] > 0.9 and kind["guide_type_chance"] == 1 / 8
        else:
            assert gone and gone["removed"] >= 0.95 and kept and kept["removed"] <= 0.05
            assert kind is None
        assert "mouth" in counterfactual.preservation(judge, of_part, best)


def test_foreign_faces_are_like_no_training_picture() -> None:
    home, away = (pairs.draw(SMILE_GLASSES, 6, SIDE, seed=5, foreign=f)["a"] for f in (False, True))
    for face in away.facts.contents:
        assert face.eyes not in avatars.EYES and face.eyebrows == avatars.NONE
        assert face.background not in avatars.BACKGROUNDS
    assert [f.mouth for f in home.facts.contents] == [f.mouth for f in away.facts.contents]
    drawn = [avatars.draw(face, SIDE) for face in away.facts.contents]
    plain = images.to_tensor(drawn, Square(SIDE))
    assert torch.equal(away.content, plain[:, [1, 2, 0]])


def test_all_scores_of_a_one_sided_model(judge: FactorClassifier) -> None:
    settings = report.Settings(pairs=12, permutations=10)
    result, _ = report.judge_avatars(Pastes(GLASSES), judge, settings)
    gives, takes = result["directions"].values()
    assert list(result["directions"]) == ["put on", "taken off"]
    assert gives["removal"] is None and takes["removal"] is not None
    assert takes["guide_type"] is None and gives["guide_type"] is not None
    assert {"iou_foreign", "changed_outside_foreign"} < set(takes["segmentation"])
    shown = tables.markdown(tables.tables(result))
    assert "| removed | - | " in shown and "| put on | taken off |" in shown
    _, kind, gone, *_ = tables.headlines(result)
    assert kind.endswith("taken off -") and "put on - " in gone


def test_many_faces_are_drawn_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    few = pairs.draw(SMILE_GLASSES, 2, SIDE, seed=5)
    monkeypatch.setattr(pairs, "MANY", 1)  # in several processes
    many = pairs.draw(SMILE_GLASSES, 2, SIDE, seed=5)
    for part, of_part in few.items():
        assert torch.equal(of_part.content, many[part].content)
        assert of_part.facts.truths == many[part].facts.truths
        assert torch.equal(of_part.facts.truth, many[part].facts.truth)
