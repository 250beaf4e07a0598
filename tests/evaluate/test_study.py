"""The user study: a blind page, a key kept apart, scores that can be worked out by hand."""

import base64
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Result, write_picture
from torch import Tensor

from dida_cli import checkpoint, images
from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import Domains, ModelConfig
from dida_cli.errors import DidaError
from dida_cli.evaluate import study
from dida_cli.evaluate.study import Answers, Entrant, Item, Key

Dida = Callable[..., Result]
WAYS = ("glasses to smile", "smile to glasses")


def model_folder_of(folder: Path, seed: int, config: ModelConfig = TINY) -> Path:
    torch.manual_seed(seed)
    network = checkpoint.build(config).eval()
    checkpoint.write_folder(folder, checkpoint.model_files(network, "# tiny\n"))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Two models whose names would be noticed anywhere."""
    return [model_folder_of(tmp_path / f"model-{n}", i) for i, n in enumerate(("plum", "fig"))]


@pytest.fixture
def page(dida: Dida, models: list[Path], tmp_path: Path) -> Path:
    """A study of both models over three drawn pairs each way."""
    out = tmp_path / "made" / "study.html"
    options = [word for model in models for word in ("-m", model)]
    result = dida("study", "make", *options, "--pairs", 3, "-o", out)
    key = out.with_suffix(".key.json")
    assert result == Result(0, f"{out}\n", f"dida: 36 questions; keep {key} from the raters\n")
    return out


def told(page: Path) -> dict[str, Any]:
    """What the page knows."""
    (data,) = re.findall(r'id="study">(.*?)</script>', page.read_text())
    return json.loads(data)  # type: ignore[no-any-return]


def key_of(page: Path) -> Key:
    return study.read_key(page.with_suffix(".key.json"))


def test_every_pair_is_asked_once_of_each_model_both_ways(page: Path, models: list[Path]) -> None:
    key, shown = key_of(page), told(page)
    asked = Counter((item.model, item.way, item.pair) for item in key.items.values())
    expected = [(str(m), way, pair) for m in models for way in WAYS for pair in range(3)]
    assert asked == Counter(expected)
    assert [item["id"] for item in shown["items"]] == list(key.items)
    for item in shown["items"]:
        way = shown["ways"][item["way"]]
        content, guide = key.items[item["id"]].way.split(" to ")
        assert way["questions"] == [
            f"Is the specific attribute of the content ({content}) removed?",
            f"Is the specific attribute of the guide ({guide}) added?",
            "Is the identity of the content preserved?",
        ]


def test_the_pictures_are_the_edits_of_the_models(page: Path, models: list[Path]) -> None:
    key, shown = key_of(page), told(page)
    networks = {str(path): checkpoint.load(path) for path in models}
    ways = {way.name(study.DRAWN): way for way in study.drawn_ways([], 3, key.seed)}
    for item in shown["items"]:
        name, way, pair = (getattr(key.items[item["id"]], f) for f in ("model", "way", "pair"))
        content, guide = ways[way].contents[pair], ways[way].guides[pair]
        edit = study._edit(networks[name], ways[way].guide_part, content, guide)
        for role, picture in {"content": content, "guide": guide, "result": edit}.items():
            assert shown["pictures"][item[role]] == study._uri(picture, TINY), (item, role)


def test_the_page_does_not_tell_the_models_apart(page: Path, models: list[Path]) -> None:
    key, shown, text = key_of(page), told(page), page.read_text()
    for model in models:
        assert model.name not in text and key.models[str(model)][:8] not in text
    assert set(shown) == {"study", "questions", "ways", "items", "pictures"}
    for item in shown["items"]:
        assert set(item) == {"id", "way", "content", "guide", "result"}
    results = [item["result"] for item in shown["items"]]
    assert results == sorted(results)  # by place on the page, which is random
    order = [item.model for item in key.items.values()]
    by_pair: dict[tuple[str, int], list[str]] = {}
    for item in key.items.values():
        by_pair.setdefault((item.way, item.pair), []).append(item.model)
    assert sum(a != b for a, b in itertools.pairwise(order)) > 2  # not in blocks
    assert len(set(map(tuple, by_pair.values()))) == 2  # now one is first, now the other


def test_pictures_have_one_size_whatever_the_models_sides() -> None:
    small, large = (checkpoint.build(replace(TINY, side=side)).eval() for side in (32, 64))
    entrants = [Entrant("small", "0", small), Entrant("large", "1", large)]
    ways = study.drawn_ways(entrants, 1, 0)
    page, _ = study.make(entrants, ways, seed=0)
    (data,) = re.findall(r'id="study">(.*?)</script>', page)
    for uri in json.loads(data)["pictures"]:
        head, _, code = uri.partition(",")
        assert head == "data:image/png;base64"
        assert decode(code).size == (64, 64)


def decode(code: str) -> images.Picture:
    return images.read(io.BytesIO(base64.b64decode(code)), "page")


def test_the_same_arguments_give_the_same_bytes_another_seed_another_study(
    dida: Dida, page: Path, models: list[Path], tmp_path: Path
) -> None:
    options = [word for model in models for word in ("-m", model)]
    again, other = tmp_path / "again.html", tmp_path / "other.html"
    assert dida("study", "make", *options, "--pairs", 3, "-o", again).code == 0
    assert again.read_bytes() == page.read_bytes()
    key, key_again = (path.with_suffix(".key.json").read_bytes() for path in (page, again))
    assert key == key_again
    arguments = ("--pairs", 3, "--seed", 1, "-o", other, "--json")
    result = json.loads(dida("study", "make", *options, *arguments).out)
    assert result["study"] != key_of(page).study
    assert result == {
        "output": str(other),
        "key": str(tmp_path / "other.key.json"),
        "study": key_of(other).study,
        "items": 12,
        "questions": 36,
    }


def test_the_key_of_another_study_is_not_replaced(dida: Dida, page: Path, tmp_path: Path) -> None:
    before = page.read_bytes()
    model = model_folder_of(tmp_path / "third", 3)
    result = dida("study", "make", "-m", model, "--pairs", 3, "-o", page)
    assert result.code == 1 and "is the key of another study" in result.err
    assert page.read_bytes() == before


def test_the_page_is_one_file_that_may_load_nothing(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    assert "http://" not in text and "https://" not in text and "url(" not in text
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert "{{" not in text.split("</style>")[0]


def test_words_of_a_domain_cannot_break_out_of_the_page() -> None:
    evil = "</script><script>alert(1)"
    model = checkpoint.build(replace(TINY, domains=Domains(a=evil, b="{{policy}}"))).eval()
    page, _ = study.make([Entrant("m", "0", model)], study.drawn_ways([], 1, 0), seed=0)
    assert page.count("<script>") == 1 and "alert" in page
    (data,) = re.findall(r'id="study">(.*?)</script>', page)
    assert evil in json.loads(data)["ways"][0]["task"] and "{{policy}}" in data


class Painter:
    """A model that says which codes it was asked to compose: common and the two parts' sums."""

    config = TINY
    abilities: frozenset[Ability] = frozenset()

    def encode(self, image: Tensor) -> Codes:
        return Codes(image, image.clone(), image.clone())

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        assert onto is not None and torch.equal(codes.common, onto)
        return Rendering((codes.a if codes.a.any() else codes.b) * bool(codes.a.any()), None)


def test_the_guide_gives_its_part_and_the_content_keeps_none(picture: Path, tmp_path: Path) -> None:
    content = images.read(picture)
    guide = images.read(write_picture(tmp_path / "guide.png", seed=9))
    shown = images.fit(guide, TINY)
    assert study._edit(Painter(), "a", content, guide).tobytes() == shown.tobytes()
    assert study._edit(Painter(), "b", content, guide).tobytes() != shown.tobytes()


def test_folders_give_the_pairs(dida: Dida, models: list[Path], domains: Path) -> None:
    out = domains / "page.html"
    options = ("study", "make", "-m", models[0], "-o", out, "--json", "--pairs")
    guides = ("--guide-a", domains / "trainA", "--guide-b", domains / "trainB")
    result = dida(*options, 9, *guides)
    assert json.loads(result.out)["items"] == 18
    used = set(told(out)["pictures"])
    for folder in ("trainA", "trainB"):
        for path in images.pictures_in(domains / folder):
            assert study._uri(images.read(path), TINY) in used
    out.with_suffix(".key.json").unlink()
    one_way = ("--content", domains / "trainB", "--guide-a", domains / "trainA")
    assert json.loads(dida(*options, 2, *one_way).out)["items"] == 2
    assert {item.way for item in key_of(out).items.values()} == {"glasses to smile"}
    out.with_suffix(".key.json").unlink()
    assert json.loads(dida(*options, 2, *guides, "--content", domains / "testA").out)["items"] == 4


def test_contents_and_guides_are_paired_at_random(domains: Path) -> None:
    folder = domains / "trainA"  # the same pictures as content and guide, in two orders
    (way,) = study.folder_ways(9, 0, content=folder, guide_a=folder)
    assert [c.tobytes() for c in way.contents] != [g.tobytes() for g in way.guides]
    assert {c.tobytes() for c in way.contents} == {g.tobytes() for g in way.guides}
    (other,) = study.folder_ways(9, 1, content=folder, guide_a=folder)
    assert [c.tobytes() for c in way.contents] != [c.tobytes() for c in other.contents]


def test_drawn_pairs_are_those_of_the_evaluation() -> None:
    from dida_cli.evaluate import pairs as judged

    drawn_pairs = judged.draw(judged.SMILE_GLASSES, 2, study.SIDE, seed=5)
    for way in study.drawn_ways([], 2, 5):
        pairs = drawn_pairs[way.guide_part]
        drawn = [images.to_pictures(pictures) for pictures in (pairs.content, pairs.guide)]
        ours = [way.contents, way.guides]
        assert [[p.tobytes() for p in ps] for ps in drawn] == [
            [p.tobytes() for p in ps] for ps in ours
        ]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-o", "page.png"], 2, "-o must end in .html, not 'page.png'."),
        (["-m", "nowhere"], 1, "no model 'nowhere'"),
        (["-m", "{model}"], 1, "is given twice; give each model once"),
        (["-m", "{stripes}"], 1, "knows stripes and spots"),
        (["-m", "{squash}"], 1, "compare models of one fit"),
        (["-m", "{one_sided}"], 1, "{one_sided} knows smile; give --guide-a FOLDER and --guide-b"),
        (
            ["-m", "{one_sided}", "--guide-a", "{a}", "--guide-b", "{b}", "--pairs", "2"],
            1,
            "knows smile, {model} smile and glasses; compare models",
        ),
        (["--guide-a", "{a}"], 1, "give both --guide-a and --guide-b, or --content and"),
        (["--content", "{a}"], 1, "give both --guide-a and --guide-b, or --content and"),
        (["--guide-a", "{a}", "--guide-b", "{a}"], 1, "holds 2 pictures; give --pairs 2 or less"),
        (["--guide-a", "{a}", "--content", "missing"], 1, "missing: no such folder"),
        (["--pairs", "0"], 2, "--pairs"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    dida: Dida,
    model_folder: Path,
    domains: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    configs = {
        "stripes": replace(TINY, domains=Domains(a="stripes", b="spots")),
        "squash": replace(TINY, fit="squash"),
        "one_sided": replace(TINY, domains=Domains(a="smile")),
    }
    words = {name: model_folder_of(tmp_path / name, 0, c) for name, c in configs.items()}
    words |= {"a": domains / "testA", "b": domains / "testB", "model": model_folder}
    given = [option.format(**words) for option in options]
    result = dida("study", "make", "-m", model_folder, "--pairs", 3, *given)
    assert result.code == code and result.out == ""
    assert said.format(**words) in result.err
    assert result.err.count("\n") == 1
    assert not list(tmp_path.glob("*.html")) and not list(tmp_path.glob("*.json"))


def test_a_model_of_one_part_is_asked_about_that(dida: Dida, domains: Path) -> None:
    model = model_folder_of(domains / "model", 0, replace(TINY, domains=Domains(a="hat")))
    out, guides = domains / "page.html", domains / "testA"
    one_way = ("--guide-a", guides, "--content", domains / "testB", "--pairs", 2, "-o", out)
    assert dida("study", "make", "-m", model, *one_way).code == 0
    assert {item.way for item in key_of(out).items.values()} == {"no hat to hat"}
    both = dida("study", "make", "-m", model, "--guide-b", guides, *one_way)
    assert both.code == 1 and "knows no part of its own in domain B" in both.err


def test_avatars_are_for_smile_and_glasses_only(dida: Dida, tmp_path: Path) -> None:
    stripes = replace(TINY, domains=Domains(a="stripes", b="spots"))
    model = model_folder_of(tmp_path / "model", 0, stripes)
    result = dida("study", "make", "-m", model, "-o", tmp_path / "page.html")
    assert result.code == 1 and "give --guide-a FOLDER and --guide-b FOLDER" in result.err


# Scoring


KEY = Key(
    study="abc",
    seed=0,
    models={"plum": "0", "fig": "1"},
    items={
        "0001": Item("plum", "smile to glasses", 0),
        "0002": Item("fig", "smile to glasses", 0),
        "0003": Item("plum", "glasses to smile", 0),
        "0004": Item("fig", "glasses to smile", 0),
    },
)


def rated(rater: str, **ratings: dict[str, int]) -> Answers:
    """Answers to the items named n1, n2, ..."""
    return Answers(Path(f"{rater}.json"), rater, {f"000{n[1:]}": r for n, r in ratings.items()})


def test_the_score_against_values_worked_out_by_hand() -> None:
    ann = rated(
        "ann",
        n1={"removed": 5, "added": 3, "preserved": 4},
        n2={"removed": 1},
        n3={"removed": 2},
    )
    bob = rated("bob", n1={"removed": 4, "added": 3}, n3={"removed": 5})
    result = study.score(KEY, [ann, bob])
    assert (result["raters"], result["asked"], result["missing"]) == (2, 24, 24 - 8)
    plum, fig = result["scores"]["plum"], result["scores"]["fig"]
    assert list(plum) == [*WAYS, "all"] and list(plum["all"]) == ["removed", "added", "preserved"]
    # 5 and 4: s = 0.7071, t(0.975, 1) = 12.706, 12.706 * 0.7071 / sqrt(2) = 6.353
    removed = plum["smile to glasses"]["removed"]
    assert removed == {
        "mean": 4.5,
        "interval": pytest.approx(6.3531, abs=1e-3),
        "ratings": 2,
        "raters": 2,
    }
    # 5, 4, 2, 5: mean 4, s = 1.4142, t(0.975, 3) = 3.1824, half of it 2.2503
    assert plum["all"]["removed"]["mean"] == 4
    assert plum["all"]["removed"]["interval"] == pytest.approx(2.2503, abs=1e-3)
    assert plum["smile to glasses"]["added"]["interval"] == 0  # all agree
    one = {"mean": 4, "interval": None, "ratings": 1, "raters": 1}
    assert plum["smile to glasses"]["preserved"] == one
    none = {"mean": None, "interval": None, "ratings": 0, "raters": 0}
    assert fig["glasses to smile"]["removed"] == none
    assert fig["all"]["removed"] == one | {"mean": 1}


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (10, 2.2281), (39, 2.0227)]
)
def test_student_t_against_tables(freedom: int, t: float) -> None:
    assert study.student_t(freedom) == pytest.approx(t, abs=1e-4)


def test_student_t_of_many_is_the_normal() -> None:
    assert study.student_t(100_000) == pytest.approx(1.95998, abs=1e-4)


def write_answers(path: Path, answers: object, rater: object = "ann", of: object = "abc") -> Path:
    path.write_text(json.dumps({"study": of, "rater": rater, "answers": answers}))
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.key.json"
    path.write_text(KEY.to_json())
    assert study.read_key(path) == KEY
    return path


def test_the_table_tells_scores_raters_gaps_and_definitions(
    dida: Dida, key_file: Path, tmp_path: Path
) -> None:
    whole = {item: dict.fromkeys(study.QUESTIONS, 4) for item in KEY.items}
    ann = write_answers(tmp_path / "ann.json", whole)
    bob = write_answers(tmp_path / "bob.json", {"0001": {"removed": 2}}, rater="bob")
    result = dida("study", "score", ann, bob, "--key", key_file)
    assert result.code == 0
    assert result.err == f"dida: {bob}: 11 of 12 questions are unanswered\n"
    for words in ("plum", "fig", "removed", "3.33 ± 2.87 (3)", "4.00 (1)", "4.00 ± 0.00 (2)"):
        assert words in result.out, words
    assert "2 raters, 13 of 24 questions answered" in result.out
    assert "removed: Is the specific attribute of the content removed?" in result.out
    for name, meaning in study.DEFINITIONS.items():
        assert f"{name}: {meaning}" in result.out
    result = dida("study", "score", ann, "--key", key_file, "--json")
    assert result.err == "" and json.loads(result.out)["missing"] == 0


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"0009": {"removed": 3}}, "item '0009' was not asked"),
        ({"0001": 3}, "item '0001' was not asked"),
        ({"0001": {"liked": 3}}, "'liked': no such question"),
        ({"0001": {"added": 6}}, "item 0001, 'added': a rating is a whole number of 1 to 5, not 6"),
        ({"0001": {"added": 0}}, "not 0"),
        ({"0001": {"added": 4.5}}, "not 4.5"),
        ({"0001": {"added": True}}, "not True"),
        ({"0001": {"added": None}}, "not None"),
        ({"0001": {"added": "5"}}, "not '5'"),
        ({}, "holds no answers"),
        ({"0001": {}}, "holds no answers"),
        ([], "not an answers file"),
    ],
)
def test_answers_that_cannot_be_are_refused(
    dida: Dida, key_file: Path, tmp_path: Path, answers: object, said: str
) -> None:
    path = write_answers(tmp_path / "ann.json", answers)
    result = dida("study", "score", path, "--key", key_file)
    assert result.code == 1 and result.out == "" and result.err.count("\n") == 1
    assert result.err.startswith(f"dida: {path}: ") and said in result.err


def test_files_that_do_not_belong_are_refused(dida: Dida, key_file: Path, tmp_path: Path) -> None:
    good = write_answers(tmp_path / "ann.json", {"0001": {"added": 3}})
    again = write_answers(tmp_path / "ann (1).json", {"0001": {"added": 3}})
    other = write_answers(tmp_path / "other.json", {"0001": {"added": 3}}, of="xyz")
    nobody = write_answers(tmp_path / "nobody.json", {"0001": {"added": 3}}, rater=None)
    cut = tmp_path / "cut.json"
    cut.write_text(good.read_text()[:-5])
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\x00")

    def says(*answers: Path, key: Path = key_file) -> str:
        result = dida("study", "score", *answers, "--key", key)
        assert result.code == 1 and result.err.count("\n") == 1
        return result.err

    assert "are of one rater; give only the later" in says(good, again)
    assert "are of one rater" in says(good, good)
    assert "answers study 'xyz', the key is of 'abc'" in says(good, other)
    assert "not an answers file" in says(nobody) and "not an answers file" in says(key_file)
    assert "not readable as JSON" in says(cut) and "not readable as JSON" in says(binary)
    assert "no such file" in says(tmp_path / "none.json")
    assert "cannot be read (Is a directory)" in says(tmp_path)
    assert "not a study's key" in says(good, key=good)
    assert "no such file" in says(good, key=tmp_path / "none.key.json")


@pytest.mark.parametrize(
    "change",
    [
        {"items": {}},
        {"items": {"0001": {"model": "stranger", "way": "a to b", "pair": 0}}},
        {"items": {"0001": {"model": "plum", "way": 3, "pair": 0}}},
        {"items": {"0001": {"model": "plum"}}},
        {"items": []},
        {"study": 3},
        {"more": 1},
        {"models": 3},
    ],
)
def test_a_key_that_is_none_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(json.loads(KEY.to_json()) | change))
    with pytest.raises(DidaError, match="not a study's key"):
        study.read_key(path)
