"""The judge must tell good models from bad ones, or its praise is worth nothing."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from torch import Tensor

from dida_cli import hub
from dida_cli.codes import Codes, Rendering
from dida_cli.config import Part
from dida_cli.evaluate import attributes, counterfactual
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.counterfactual import Pairs

COUNT, SIDE = 40, 64
PARTS: list[Part] = ["a", "b"]


@pytest.fixture(scope="module")
def judge() -> FactorClassifier:
    return attributes.load(hub.BUNDLED / hub.JUDGE)


@pytest.fixture(scope="module")
def pairs() -> dict[Part, Pairs]:
    return {part: counterfactual.draw_pairs(part, COUNT, SIDE, seed=5) for part in PARTS}


class Puppet:
    """A model whose codes are pictures: what it composes is decided by the test."""

    def __init__(self, truth: Tensor | None) -> None:
        self.config = TINY
        self.truth = truth
        self.row = 0

    def encode(self, image: Tensor) -> Codes:
        return Codes(image, image.clone(), image.clone())

    def compose(self, codes: Codes, onto: Tensor | None = None) -> Rendering:
        """The true answer where there is one and a part is wanted, else the content."""
        if self.truth is None or self.row >= len(self.truth):
            return Rendering(codes.common, None)
        rows = self.truth[self.row : self.row + len(codes.common)]
        self.row += len(rows)
        return Rendering(rows, None)


@pytest.mark.parametrize("part", PARTS)
def test_the_judge_is_right_on_real_pictures(
    judge: FactorClassifier, pairs: dict[Part, Pairs], part: Part
) -> None:
    accuracy = counterfactual.classifier_accuracy(judge, pairs[part])
    assert accuracy["glasses"] > 0.9 and accuracy["mouth"] > 0.9 and accuracy["beard"] > 0.8


@pytest.mark.parametrize("part", PARTS)
def test_a_model_that_copies_the_content_scores_as_badly_as_it_should(
    judge: FactorClassifier, pairs: dict[Part, Pairs], part: Part
) -> None:
    figures = counterfactual.score(Puppet(None), judge, pairs[part])
    assert figures["target"] <= 0.05 and figures["both_parts"] <= 0.05
    assert figures["psnr"] == pytest.approx(figures["psnr_of_content"])
    assert figures["psnr"] < 20


@pytest.mark.parametrize("part", PARTS)
def test_the_true_answer_scores_best(
    judge: FactorClassifier, pairs: dict[Part, Pairs], part: Part
) -> None:
    figures = counterfactual.score(Puppet(pairs[part].truth), judge, pairs[part])
    assert figures["target"] >= 0.95 and figures["guide_type"] >= 0.9
    assert figures["psnr"] >= 90
    assert figures["target"] == figures["target_of_truth"]


@pytest.mark.parametrize("part", PARTS)
def test_a_model_that_ignores_its_guide_is_found_out(
    judge: FactorClassifier, pairs: dict[Part, Pairs], part: Part
) -> None:
    """It gives everyone some other guide's part: the domain is right, the kind is not."""
    real = pairs[part]
    wrong = replace(
        real,
        guide_faces=real.guide_faces[1:] + real.guide_faces[:1],
    )
    figures = counterfactual.score(Puppet(real.truth), judge, wrong)
    assert figures["target"] >= 0.95
    assert figures["guide_type"] <= 0.6


def test_psnr_and_wilson_against_values_worked_out_by_hand() -> None:
    black, grey = -torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    assert counterfactual.psnr(grey, black) == pytest.approx(6.0206, abs=1e-3)
    assert counterfactual.wilson(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-3)
    assert counterfactual.wilson(1.0, 50)[1] == 1.0


def test_pairs_are_what_they_say(pairs: dict[Part, Pairs]) -> None:
    for part, (guide, content) in {"a": ("Smiling", "Eyeglasses")}.items():
        drawn = pairs[part]  # type: ignore[index]
        for c, g, t in zip(drawn.content_faces, drawn.guide_faces, drawn.truth_faces, strict=True):
            assert g.has(guide) and not g.has(content)
            assert c.has(content) and not c.has(guide)
            assert (t.mouth, t.glasses) == (g.mouth, g.glasses) and t.hair == c.hair
