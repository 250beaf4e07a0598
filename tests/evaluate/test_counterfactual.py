"""The judge must tell good models from bad ones, or its praise is worth nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_in import SIDE, Copies, Pastes
from torch import Tensor
from torch.nn import functional as F

from dida_cli import hub, images
from dida_cli.codes import Codes, Rendering
from dida_cli.config import Part
from dida_cli.data import avatars, vary
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, counterfactual, guidance, report, sheets, tables
from dida_cli.evaluate import pairs as judged
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import Edits, Pairs

COUNT = 40
PARTS: list[Part] = ["a", "b"]
BOTH_HAVE = (counterfactual.removal, counterfactual.guide_type)  # None where a side has no part


@pytest.fixture(scope="module")
def judge() -> FactorClassifier:
    return attributes.load(hub.BUNDLED / hub.JUDGE)


@pytest.fixture(scope="module")
def drawn() -> dict[Part, Pairs]:
    return judged.draw(judged.SMILE_GLASSES, COUNT, SIDE, seed=5)


def edits_of(pairs: Pairs, output: Tensor) -> Edits:
    """What a model would have made that gave this output, and took parts off without a trace."""
    made = judged.edit(Copies(), pairs)
    plain = [replace(f, glasses=avatars.NONE, mouth="SERIOUS") for f in pairs.facts.contents]
    bare = images.to_tensor([avatars.draw(face, SIDE) for face in plain], images.Square(SIDE))
    return replace(made, output=output, bare=bare)


@pytest.mark.parametrize("part", PARTS)
def test_the_judge_is_right_on_real_pictures(
    judge: FactorClassifier, drawn: dict[Part, Pairs], part: Part
) -> None:
    accuracy = counterfactual.classifier_accuracy(judge, drawn[part])
    assert accuracy["glasses"] > 0.9 and accuracy["mouth"] > 0.9 and accuracy["beard"] > 0.8


@pytest.mark.parametrize("part", PARTS)
def test_a_model_that_copies_the_content_scores_as_badly_as_it_should(
    judge: FactorClassifier, drawn: dict[Part, Pairs], part: Part
) -> None:
    pairs = drawn[part]
    edits = judged.edit(Copies(), pairs)
    said = counterfactual.classification(judge, pairs, edits)
    assert said["target"] == said["target_of_content"] <= 0.05 and said["both_parts"] <= 0.05
    gone, kind = (score(judge, pairs, edits) for score in BOTH_HAVE)
    assert gone and gone["removed"] <= 0.05 and kind and kind["guide_type"] <= 0.3
    truth = counterfactual.truth(judge, pairs, edits)
    assert truth["psnr"] == pytest.approx(truth["psnr_of_content"]) and truth["psnr"] < 20
    assert truth["ssim"] == pytest.approx(truth["ssim_of_content"])
    assert truth["perceptual"] == pytest.approx(truth["perceptual_of_content"])
    assert truth["perceptual"] > 0.05 and truth["psnr_outside"] > truth["psnr_inside"] + 20
    retrieved = guidance.retrieval(judge, pairs, edits)
    assert retrieved["retrieval_rank"] == pytest.approx(retrieved["retrieval_rank_chance"])


@pytest.mark.parametrize("part", PARTS)
def test_the_true_answer_scores_best(
    judge: FactorClassifier, drawn: dict[Part, Pairs], part: Part
) -> None:
    pairs = drawn[part]
    edits = edits_of(pairs, pairs.facts.truth)
    said = counterfactual.classification(judge, pairs, edits)
    assert said["target"] == said["target_of_truth"] >= 0.95 and said["both_parts"] >= 0.95
    gone, kind = (score(judge, pairs, edits) for score in BOTH_HAVE)
    assert gone and gone["removed"] >= 0.95 and kind and kind["guide_type"] >= 0.9
    truth = counterfactual.truth(judge, pairs, edits)
    assert truth["psnr"] >= 90 and truth["ssim"] == pytest.approx(1, abs=1e-3)
    assert truth["perceptual"] == pytest.approx(0, abs=1e-6)
    retrieved = guidance.retrieval(judge, pairs, edits)
    assert retrieved["retrieval_rank"] < 0.4 * retrieved["retrieval_rank_chance"]
    for cell in counterfactual.preservation(judge, pairs, edits).values():
        assert cell["preserved"] == cell["preserved_of_truth"] >= cell["preserved_real"] - 0.15


@pytest.mark.parametrize("part", PARTS)
def test_a_model_that_ignores_its_guide_is_found_out(
    judge: FactorClassifier, drawn: dict[Part, Pairs], part: Part
) -> None:
    """It gives everyone some other guide's part: the domain is right, the kind is not."""
    pairs = drawn[part]
    facts = pairs.facts
    other = replace(facts, guides=facts.guides[1:] + facts.guides[:1])
    wrong = replace(pairs, guide=pairs.guide.roll(-1, 0), known=other)
    edits = edits_of(wrong, facts.truth)
    assert counterfactual.classification(judge, wrong, edits)["target"] >= 0.95
    kind = counterfactual.guide_type(judge, wrong, edits)
    assert kind and kind["guide_type"] <= 0.6
    right = guidance.retrieval(judge, pairs, edits_of(pairs, facts.truth))
    missed = guidance.retrieval(judge, wrong, edits)
    assert missed["retrieval_rank"] > 2 * right["retrieval_rank"]


def test_psnr_and_wilson_against_values_worked_out_by_hand() -> None:
    black, grey = -torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    assert counterfactual.psnr(grey, black) == pytest.approx(6.0206, abs=1e-3)
    found = counterfactual.with_interval("x", 0.9, 100)
    assert found == pytest.approx({"x": 0.9, "x_low": 0.8256, "x_high": 0.9448}, abs=1e-3)
    assert counterfactual.with_interval("x", 1.0, 50)["x_high"] == 1.0


@pytest.mark.parametrize("part", PARTS)
def test_pairs_are_what_they_say(drawn: dict[Part, Pairs], part: Part) -> None:
    present, absent = judged.SMILE_GLASSES.attributes[:: 1 if part == "a" else -1]
    facts = drawn[part].facts
    for c, g, t in zip(facts.contents, facts.guides, facts.truths, strict=True):
        assert g.has(present) and not g.has(absent)
        assert c.has(absent) and not c.has(present)
        assert (t.mouth, t.glasses) == (g.mouth, g.glasses) and t.hair == c.hair


def test_a_model_with_masks_is_judged_by_them_too(judge: FactorClassifier) -> None:
    settings = report.Settings(pairs=12, seed=3, permutations=20)
    result, judged = report.judge_avatars(Pastes(), judge, settings)
    for row in result["directions"].values():
        assert 0.05 < row["segmentation"]["iou"] < row["segmentation"]["iou_of_all"] * 3
        assert row["segmentation"]["changed_outside"] > 0
        assert row["segmentation"]["changed_unmasked"] == 0
    for pairs, edits in judged.values():
        assert torch.equal(edits.rebuilt, pairs.content)  # there is no code to make it of
    titles = [table.title for table in tables.tables(result)]
    assert "Segmentation by the mask" in titles and "Segmentation" not in titles


def test_what_a_model_has_no_code_for_is_left_out(judge: FactorClassifier) -> None:
    settings = report.Settings(pairs=12, seed=3, permutations=20)
    result, _ = report.judge_avatars(Pastes(), judge, settings)
    codes = result["codes"]
    assert (
        codes["independence"] == {} and "domain" not in codes and set(codes["leak"]) == {"a", "b"}
    )
    assert all(set(row) == {"a", "b"} for row in codes["probes"].values())
    shown = tables.card_tables(result)
    assert "| leak |" in shown and "hsic" not in shown and "common code" not in shown
    assert "| factor | a (smile) | b (glasses) |" in shown


def test_errors_are_looked_for_where_something_should_change_or_did(
    drawn: dict[Part, Pairs],
) -> None:
    pairs = drawn["a"]
    made = judged.edit(Copies(), pairs)
    blot = pairs.content.clone()
    blot[:, :, :3, 61:] = -blot[:, :, :3, 61:].sign()  # nothing should change there
    edits = replace(made, output=blot)
    where = counterfactual.inside(pairs, edits)
    should = counterfactual.inside(pairs, made)
    assert where[:, :, :5, 59:].all() and not should[:, :, :5, 59:].any()
    assert torch.equal(where[:, :, 5:], should[:, :, 5:])
    truth = counterfactual.truth(attributes.FactorClassifier().eval(), pairs, edits)
    error = ((edits.output - pairs.facts.truth) / 2).double().square().mean(1, keepdim=True)
    by_hand = [-10 * e[w].mean().log10().item() for e, w in zip(error, where, strict=True)]
    assert truth["psnr_inside"] == pytest.approx(sum(by_hand) / COUNT)
    assert truth["psnr_inside"] < truth["psnr_inside_of_content"] < truth["psnr_of_content"]


def test_the_worst_edits_are_those_with_the_largest_errors_inside(
    drawn: dict[Part, Pairs],
) -> None:
    pairs = drawn["b"]
    output = pairs.facts.truth.clone()
    output[7, :, 20:40], output[3, :, 20:44] = 1, 1
    found = sheets.worst({"b": (pairs, edits_of(pairs, output))}, count=2)
    assert set(found["b"]) == {3, 7} and list(found) == ["b"]
    both = {part: (p, judged.edit(Copies(), p)) for part, p in drawn.items()}
    assert [len(rows) for rows in sheets.worst(both, 5).values()] == [5, 5]
    sheet = sheets.worst_sheet(both, Copies().config.domains, 5)
    assert sheet and sheet.height > 8 * SIDE and sheet.width > 5 * SIDE
    strangers = {part: (replace(p, known=None), e) for part, (p, e) in both.items()}
    assert (
        sheets.worst(strangers) == {}
        and sheets.worst_sheet(strangers, Copies().config.domains) is None
    )


def test_everything_together_is_the_same_every_time(judge: FactorClassifier) -> None:
    settings = report.Settings(pairs=12, seed=3, permutations=20)
    results = [report.judge_avatars(Copies(), judge, settings)[0] for _ in range(2)]
    assert results[0] == results[1]
    assert set(results[0]["directions"]) == {"glasses to smile", "smile to glasses"}
    shown = tables.tables(results[0])
    titles = [table.title for table in shown]
    assert titles[0] == "As people see it" and titles[1].startswith("The domain")
    assert "Attribute classification" in titles and "Segmentation" in titles
    page = tables.page(results[0] | {"model": "<x>"}, shown, {"a.png": "sheet"})
    assert "&lt;x&gt;" in page and "<x>" not in page
    assert tables.markdown(shown).count("### ") == len(shown)
    assert 0.5 <= results[0]["codes"]["domain"]["chance"] <= results[0]["codes"]["domain"]["pixels"]


def test_five_lines_say_it_and_a_card_tells_the_rest(judge: FactorClassifier) -> None:
    settings = report.Settings(pairs=12, seed=3, permutations=20)
    result, _ = report.judge_avatars(Copies(), judge, settings)
    lines = tables.headlines(result)
    wanted = ("target", "guide's kind", "part gone", "PSNR inside", "told apart")
    assert [line.startswith(word) for line, word in zip(lines, wanted, strict=True)] == [True] * 5
    assert all("glasses to smile" in line and "smile to glasses" in line for line in lines)
    copied = result["directions"]["glasses to smile"]["truth"]["psnr_inside"]
    assert f"glasses to smile {copied:.1f} dB ({copied:.1f} dB)" in lines[3]
    card = tables.card_tables(result)
    assert card.startswith("## Scores\n\n| 12 unseen pairs each way | glasses to smile |")
    scores, every = card.split("## All tables")
    for words in (
        "given to the target",
        "content's part gone",
        "told apart",
        "eyebrows kept",
        "domain named",
    ):
        assert f"| {words}" in scores, words
    assert "mask" not in scores and all(f"### {t.title}\n" in every for t in tables.tables(result))


class Paints(Copies):
    """Moves the coloured corner of `corners`: what a perfect model would do there."""

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        assert onto is not None
        picture = onto.clone()
        if codes.a.any() and not codes.b.any():
            picture[:, 2, 32:, 32:], picture[:, 0, :32, :32] = -0.7, 1.0
        elif codes.b.any() and not codes.a.any():
            picture[:, 0, :32, :32], picture[:, 2, 32:, 32:] = -0.7, 1.0
        return Rendering(picture, None)


def corners(count: int) -> tuple[Tensor, Tensor]:
    """Noise with a red corner (A), and noise with a blue one (B): uint8 (count, 3, 64, 64)."""
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randint(80, (count, 3, SIDE, SIDE), generator=random).byte() for _ in range(2))
    a[:, 0, :32, :32], b[:, 2, 32:, 32:] = 250, 250
    return a, b


def test_pictures_without_factors_are_judged_by_a_classifier_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attributes, "LEAST_STEPS", 25)
    a, b = corners(40)
    domain_judge = attributes.train_on_parts({"a": (a, b)})
    unit_a, unit_b = (x.float() / 127.5 - 1 for x in (a, b))
    settings = report.Settings(pairs=20, seed=0, permutations=20)
    shares = {}
    for model in (Copies(), Paints()):
        result, _ = report.judge_pictures(model, domain_judge, unit_a, unit_b, settings)
        rows = [row["classification"] for row in result["directions"].values()]
        assert all(row["classifier_accuracy"] >= 0.95 for row in rows)
        lines = tables.headlines(result)
        assert (
            len(lines) == 5 and lines[1].endswith("-") and "## Scores" in tables.card_tables(result)
        )
        shares[type(model)] = [row["target"] for row in rows]
    assert max(shares[Copies]) <= 0.1 and min(shares[Paints]) >= 0.9


def test_too_few_pictures_are_refused() -> None:
    a, b = (pictures.float() / 127.5 - 1 for pictures in corners(4))
    judge = attributes.FactorClassifier(attributes.of_parts(["a"])).eval()
    with pytest.raises(DidaError, match="4 test pictures of each domain, not 3"):
        report.judge_pictures(Copies(), judge, a, b[:3], report.Settings())


def test_a_classifier_of_parts_learns_each_from_its_own_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a picture with a known smile it may be unknown whether there are glasses."""
    monkeypatch.setattr(attributes, "LEAST_STEPS", 25)
    a, b = corners(40)
    plain = torch.randint(80, a.shape, generator=torch.Generator().manual_seed(1)).byte()
    judge = attributes.train_on_parts({"a": (a, plain), "b": (b, plain.flip(0))})
    said = counterfactual.classify(judge, torch.cat([a, b, plain]).float() / 127.5 - 1)
    found = {part: (said[part].argmax(1) == 0).float().reshape(3, 40).mean(1) for part in "ab"}
    assert found["a"][0] > 0.9 and found["a"][2] < 0.1
    assert found["b"][1] > 0.9 and found["b"][2] < 0.1


def test_a_classifier_is_asked_of_what_lies_within_the_margin_it_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attributes, "LEAST_STEPS", 25)
    seen: list[tuple[int, int]] = []
    varied = vary.varied

    def spied(pictures: Tensor, side: int, random: np.random.Generator) -> Tensor:
        seen.append((pictures.shape[-1], side))
        return varied(pictures, side, random)

    monkeypatch.setattr(vary, "varied", spied)
    a, b = corners(40)
    has, lacks = (F.interpolate(F.pad(p.float(), (8,) * 4), (160, 160)).byte() for p in (a, b))
    judge = attributes.train_on_parts({"a": (has, lacks)}, margin=0.125)
    assert set(seen) == {(80, 64)}  # averaged down first, then cut to what it is asked of
    said = counterfactual.classify(judge, torch.cat([a, b]).float() / 127.5 - 1)["a"].argmax(1)
    assert (said[:40] == 0).float().mean() > 0.9 and (said[40:] == 1).float().mean() > 0.9
