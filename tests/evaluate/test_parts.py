"""Parts judged by themselves, on pictures with them and without, told apart by what is known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import RETOUCH, Result, retouching, saved
from PIL import Image
from torch import Tensor

from dida_cli.codes import Codes, Rendering
from dida_cli.config import Domains, ModelConfig
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, parts, tables
from dida_cli.evaluate.report import Settings

SIDE = 64
EITHER = "glasses=1 or smile=1"
PLACES = {"a": (slice(0, 16), slice(0, 16)), "b": (slice(48, 64), slice(48, 64))}


class Corners:
    """A model whose part a is the colour of the top left corner, b that of the bottom right."""

    config = ModelConfig(method="retouch", domains=Domains(a="hat", b="shoe"), side=SIDE)
    abilities = frozenset({"masks", "two parts"})

    def encode(self, image: Tensor) -> Codes:
        found = [image[:, :, y, x].mean((2, 3), keepdim=True) for y, x in PLACES.values()]
        return Codes(found[0][:, :0], *(code * (code > 0.5) for code in found))

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        assert onto is not None
        image, mask = onto.clone(), torch.zeros_like(onto[:, :1])
        for code, (y, x) in zip(codes[1:], PLACES.values(), strict=True):
            image[:, :, y, x], mask[:, :, y, x] = code.expand(-1, -1, 16, 16), 1
        return Rendering(image, mask)


class Tells(torch.nn.Module):
    """A judge that looks there."""

    heads = frozenset("ab")
    trunk = attributes.FactorClassifier(attributes.of_parts(["a", "b"])).trunk

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        codes = Corners().encode(image)
        there = {"a": codes.a, "b": codes.b}
        return {
            p: torch.cat([c.mean((1, 2, 3))[:, None], 0.1 + 0 * c[:, :1, 0, 0]], 1)
            for p, c in there.items()
        }


def pictures(count: int, **there: bool) -> Tensor:
    made = torch.zeros(count, 3, SIDE, SIDE)
    for part, is_there in there.items():
        y, x = PLACES[part]
        if is_there:
            made[:, :, y, x] = torch.linspace(0.6, 1, count)[:, None, None, None]
    return made


SIDES = {
    "a": (pictures(40, a=True, b=True), pictures(30, b=True)),
    "b": (pictures(36, b=True), pictures(40, a=True)),
}


def test_a_perfect_model_gets_perfect_figures() -> None:
    groups = {
        p: ([["old"]] * len(h), [["?"], ["new", "x"]] * (len(n) // 2))
        for p, (h, n) in SIDES.items()
    }
    result = parts.judge_parts(Corners(), Tells(), SIDES, Settings(), groups)  # type: ignore
    assert list(result["directions"]) == [
        "hat put on",
        "hat taken off",
        "shoe put on",
        "shoe taken off",
    ]
    for name, row in result["directions"].items():
        found = row["classification"]
        assert found["target"] == 1 and found["target_of_content"] == 0
        assert found["classifier_accuracy"] == 1
        assert row["beside"]["other_part"] == 1 and row["beside"]["changed_unmasked"] == 0
        assert 0 <= row["told_apart"]["told_apart"] <= 1
        fewest = min(map(len, SIDES["a" if "hat" in name else "b"]))  # none comes again
        assert row["told_apart"]["asked"] == 2 * (fewest - fewest // 2)
        assert row["beside"]["painted"] == pytest.approx(2 * 16**2 / SIDE**2)
        if name.endswith("on"):
            assert row["beside"]["left_alone"] < 1e-5 and row["retrieval"]["candidates"] <= 32
            assert row["groups"] == {
                g: {"pairs": len(SIDES["a" if "hat" in name else "b"][1]) // 2, "target": 1.0}
                for g in ("?", "new", "x")
            }
        else:
            assert set(row["groups"]) == {"old"}
    assert json.dumps(result)
    card = tables.card_tables(result)
    for words in ("| new |", "the judge right", "the right guide among", "shoe taken off"):
        assert words in card
    assert tables.headlines(result)[0].startswith("target domain")


def test_what_goes_wrong_is_seen() -> None:
    class Smears(Corners):
        def compose(
            self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
        ) -> Rendering:
            made = super().compose(Codes(codes.common, codes.a, 0 * codes.b), onto, own)
            made.image[:, :, 30, :] += 8 / 127.5  # outside of its mask
            return made

    result = parts.judge_parts(Smears(), Tells(), SIDES, Settings())  # type: ignore[arg-type]
    of_hat, of_shoe = (result["directions"][f"{name} put on"] for name in ("hat", "shoe"))
    assert of_hat["beside"]["other_part"] == 0 and of_shoe["classification"]["target"] == 0
    assert of_shoe["beside"]["changed_unmasked"] == pytest.approx(8, abs=0.1)
    assert of_hat["beside"]["left_alone"] > 0.1 and "groups" not in of_hat


def test_too_few_pictures_are_told() -> None:
    few = {"a": (pictures(3, a=True), pictures(9))}
    with pytest.raises(DidaError, match="scores need 4 test pictures with and without, not 3"):
        parts.judge_parts(Corners(), Tells(), few, Settings())  # type: ignore[arg-type]


def test_the_command_judges_parts_by_a_table(dida: Callable[..., Result], tmp_path: Path) -> None:
    lines = ["file,smile,glasses,partition,kind"]
    for index in range(48):
        shade = (5 * index, 200 * (index % 2), 120 * (index // 2 % 2))
        Image.new("RGB", (40, 40), shade).save(tmp_path / f"{index}.png")
        part = 2 if index % 3 == 0 else 0
        lines.append(
            f"{index}.png,{index % 2},{index // 2 % 2},{part},{'old' if index < 24 else ''}"
        )
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    model = saved(retouching(RETOUCH), tmp_path / "model")
    ways = ("--a", "smile", "--b", "glasses", "--by", "kind", "--json")
    result = dida("evaluate", "-m", model, "--data", tmp_path, *ways, "--by", EITHER)
    assert result.code == 0, result.err
    found = json.loads(result.out)["directions"]
    assert list(found) == [
        f"{p} {w}" for p in ("smile", "glasses") for w in ("put on", "taken off")
    ]
    by_kind = {"kind=old", "kind unknown"}
    assert set(found["smile taken off"]["groups"]) == by_kind | {EITHER}
    groups = found["smile put on"]["groups"]
    assert set(groups) == by_kind | {EITHER, f"not {EITHER}"}
    assert sum(groups[name]["pairs"] for name in by_kind) == 8
    assert dida("evaluate", "--by", "kind").code == 2


def test_names_of_any_kind_stay_in_their_cell() -> None:
    table = tables.Table("t", ["a|b", "<script>"], [["[x](y)", "line\none"], ["`", "plain_name"]])
    head, rule, *rows = tables.markdown([table]).splitlines()[2:]
    assert head == r"| a\|b | &lt;script&gt; |" and rule == "|---|---|"
    assert rows == [r"| \[x\](y) | line one |", r"| \` | plain_name |"]
