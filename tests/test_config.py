import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, configured

from dida_cli import methods
from dida_cli.config import Domains, Fit, Json, ModelConfig, read_config
from dida_cli.errors import DidaError


@dataclass(frozen=True, kw_only=True)
class Sample(Json):
    """One setting of each kind."""

    count: int
    share: float = 0.5
    fit: Fit = "crop"
    deep: bool = False
    words: list[str] = field(default_factory=list)
    domains: Domains = field(default_factory=Domains)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise DidaError(f"count must be 0 or more, not {self.count}")


def test_json_round_trip_keeps_everything() -> None:
    for config in (TINY, configured("retouch", b="", a="beard", code=3, realism=0.2)):
        assert ModelConfig.from_json(config.to_json(), "x") == config
        assert ModelConfig.from_json(json.loads(json.dumps(config.to_json())), "x") == config
    sample = Sample(count=3, share=1, words=["a"], domains=Domains(a="hat", b="beard"))
    assert Sample.from_json(sample.to_json(), "x") == sample


def test_what_is_not_given_takes_its_usual_value_where_that_is_allowed() -> None:
    assert Sample.from_json({"count": 1}, "x", partial=True) == Sample(count=1)
    with pytest.raises(DidaError, match="x: setting 'count' is missing"):
        Sample.from_json({"share": 1.0}, "x", partial=True)
    with pytest.raises(DidaError, match="x: setting 'deep' is missing"):
        Sample.from_json({"count": 1}, "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": 3}, "unknown setting 'counts'; known: count, share"),
        ({"count": "3"}, "count must be of type int, not '3'"),
        ({"count": True}, "count must be of type int, not True"),
        ({"count": 3.0}, "count must be of type int"),
        ({"count": -1}, "x.toml: count must be 0 or more, not -1"),
        ({"share": None}, "share must be of type float"),
        ({"share": False}, "share must be of type float"),
        ({"deep": 1}, "deep must be of type bool"),
        ({"fit": "stretch"}, "fit must be one of crop, squash, face, drawing, not 'stretch'"),
        ({"fit": ["crop"]}, "fit must be one of crop, squash"),
        ({"words": "ab"}, "words must be a list, not 'ab'"),
        ({"domains": "ab"}, "domains: expected an object with a, b"),
        ({"domains": {"a": "x"}}, "domains: setting 'b' is missing"),
        ({"domains": {"a": "x", "b": "x"}}, "both parts are called 'x'"),
    ],
)
def test_a_wrong_value_is_refused_naming_the_key(change: dict[str, object], said: str) -> None:
    with pytest.raises(DidaError) as refused:
        Sample.from_json(Sample(count=1).to_json() | change, "x.toml")
    assert said in str(refused.value) and "x.toml" in str(refused.value)


def test_an_empty_name_says_that_b_has_no_part_of_its_own() -> None:
    one, two = Domains(a="hat"), Domains(a="hat", b="beard")
    assert (one.parts, two.parts) == (("a",), ("a", "b"))
    assert (two.of("a"), two.of("b")) == ("hat", "beard")
    assert ModelConfig(method="didd", domains=one).parts == ("a",)


@pytest.mark.parametrize("name", ["", "x\ny", "\x1b[2J", "x" * 65, " x", "x "])
def test_a_name_is_some_printable_characters(name: str) -> None:
    with pytest.raises(DidaError, match="a part's name must be 1 to 64 printable characters"):
        Domains(a=name)
    if name:
        with pytest.raises(DidaError, match="a part's name"):
            Domains(b=name)


@pytest.mark.parametrize("side", [16, 31, 257, 512])
def test_a_side_that_no_model_has_is_refused(side: int) -> None:
    with pytest.raises(DidaError, match=f"side must be 32 to 256 pixels, not {side}"):
        ModelConfig(method="didd", side=side)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sides": 3}, "unknown setting 'sides'"),
        ({"side": "128"}, "side must be of type int"),
        ({"method": 3}, "method must be of type str"),
        ({"settings": [1]}, "settings must be a table of settings"),
        ({"domains": {"a": "\x1b[2J", "b": "x"}}, "printable"),
        ({"side": 8}, "m.json: side must be 32 to 256"),
    ],
)
def test_a_foreign_config_is_refused_naming_the_key(change: dict[str, object], said: str) -> None:
    with pytest.raises(DidaError) as refused:
        ModelConfig.from_json(TINY.to_json() | change, "m.json")
    assert said in str(refused.value) and "m.json" in str(refused.value)


def test_a_missing_setting_is_named() -> None:
    values = TINY.to_json()
    del values["settings"]
    with pytest.raises(DidaError, match="'settings' is missing"):
        ModelConfig.from_json(values, "m.json")


def test_the_config_of_a_method_that_went_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"method": "layers", "architecture": "compact", "side": 128}))
    with pytest.raises(DidaError, match=r"a method that this version no longer has; train the"):
        read_config(path)
    path.write_text(json.dumps(TINY.to_json()))
    assert read_config(path) == TINY


@pytest.mark.parametrize("method", methods.MODULES)
def test_a_method_completes_and_checks_its_settings(method: str) -> None:
    complete = methods.complete(method, {"rate": 0.0005})
    assert complete["rate"] == 0.0005 and methods.complete(method, complete) == complete
    config = ModelConfig(method=method, settings=complete)
    assert methods.settings_of(config).to_json() == complete
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"colour": 1}, "s.toml: unknown setting 'colour'"),
        ({"rate": "fast"}, "s.toml: rate must be of type float"),
        ({"rate": 2.0}, "s.toml: rate must lie between 0 and 1"),
        ({"width": 10**9}, "s.toml: width must be 1 to"),
    ]
    for settings, said in wrong:
        with pytest.raises(DidaError, match=said):
            methods.complete(method, settings, "s.toml")


def test_a_method_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(DidaError, match=r"no method 'gan'; there are retouch, .*didd"):
        methods.find("gan")
