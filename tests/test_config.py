from dataclasses import replace
from typing import Any

import pytest

from dida_cli.config import WEIGHTS, Domains, Method, ModelConfig, TrainConfig, Weights
from dida_cli.errors import DidaError


def test_json_round_trip_keeps_everything() -> None:
    model = ModelConfig.of(
        "didd", "paper", side=64, domains=Domains(a="hat", b="beard"), segment_from=0.3
    )
    assert ModelConfig.from_json(model.to_json(), "x") == model
    settings = TrainConfig(steps=7, weights=Weights(common=0.5), critic_target="paper")
    assert TrainConfig.from_json(settings.to_json(), "x") == settings


@pytest.mark.parametrize(("method", "codes"), [("didd", (462, 25, 25)), ("mask", (487, 25, 0))])
def test_the_papers_widths_are_the_released_ones(method: Method, codes: tuple[int, ...]) -> None:
    config = ModelConfig.of(method, "paper", side=128)
    assert (config.common, config.separate_a, config.separate_b) == codes
    assert (config.grid, config.channels, config.stages) == (2, 512, 6)


def test_what_is_not_given_takes_its_usual_value() -> None:
    config = ModelConfig.of("mask", "compact", side=64, common=None, separate_a=5)
    assert config == ModelConfig(method="mask", side=64, separate_a=5, separate_b=0)


def test_the_published_weights_are_the_releases_for_glasses() -> None:
    alpha, gama, delta, beta_2, discweight = 0.7, 7.0, 5.0, 0.001, 0.005
    assert WEIGHTS["mask"] == Weights(
        reconstruction_a=gama,
        reconstruction_b=delta,
        repaint_a=alpha,
        repaint_b=alpha,
        cycle_separate=beta_2,
        common=discweight,
    )


@pytest.mark.parametrize("side", [32, 64, 128, 256])
@pytest.mark.parametrize("grid", [4, 8])
def test_every_promised_side_fits_both_grids(side: int, grid: int) -> None:
    assert (
        ModelConfig(side=side, grid=grid).grid << ModelConfig(side=side, grid=grid).stages == side
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"side": 100}, "side 100 does not halve"),
        ({"side": 100}, "try side 32 or 64 or 128 or 256"),
        ({"side": 16}, "side must be 32 to 256 pixels, not 16"),
        ({"side": 512}, "side must be 32 to 256"),
        ({"grid": 1}, "grid must be 2"),
        ({"side": 32, "grid": 16}, "does not halve two or more times"),
        ({"common": 0}, "common must be 1 to"),
        ({"separate_a": 0}, "separate_a must be 1 to"),
        ({"width": 10**9}, "width must be"),
        ({"encoder_side": 96}, "encoder_side 96 does not halve .* try 16 or 32 or 64 or 128, or 0"),
        ({"encoder_side": 8}, "encoder_side 8 does not halve"),
        ({"encoder_side": 256}, "is larger than side 128"),
        ({"encoder_side": -64}, "encoder_side -64 does not halve"),
        ({"encoder_side": 64, "architecture": "paper"}, "encoder_side is for architecture compact"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DidaError, match=said):
        ModelConfig(**wrong)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"method": "mask"}, "one-sided, as published: separate_b must be 0"),
        ({"method": "mask", "architecture": "paper"}, "separate_b must be 0"),
        ({"method": "layers", "architecture": "paper"}, "layers has no paper form; use compact"),
    ],
)
def test_forms_that_do_not_exist_are_refused(kind: dict[str, Any], said: str) -> None:
    with pytest.raises(DidaError, match=said):
        ModelConfig(**kind)


@pytest.mark.parametrize("value", [-0.1, 0.0, 1.0, 2.0, float("nan")])
def test_a_segment_begins_between_nothing_and_all(value: float) -> None:
    with pytest.raises(DidaError, match="segment_from must lie between 0 and 1"):
        replace(ModelConfig(), segment_from=value)


def test_glass_is_a_part_that_has_a_mask() -> None:
    layers = ModelConfig.of("layers", "compact")
    assert replace(layers, glass="both").glass_parts == ("a", "b")
    assert replace(layers, glass="b", separate_b=8).glass_parts == ("b",)
    assert layers.glass_parts == ()
    for wrong in (replace(layers, separate_b=0), ModelConfig()):
        with pytest.raises(DidaError, match="glass b: the model has no mask of such a part"):
            replace(wrong, glass="b")


def test_b_may_have_no_code_of_its_own() -> None:
    assert ModelConfig(separate_b=0).channels == 72


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sides": 3}, "unknown setting 'sides'"),
        ({"side": "128"}, "side must be of type int"),
        ({"side": True}, "side must be of type int"),
        ({"side": 128.0}, "side must be of type int"),
        ({"method": "gan"}, "method must be one of didd, mask, layers, not 'gan'"),
        ({"fit": None}, "fit must be one of crop, squash"),
        ({"method": "mask"}, "m.json: method mask is one-sided"),
        ({"domains": {"a": "x"}}, "domains: setting 'b' is missing"),
        ({"domains": "x"}, "domains: expected an object"),
        ({"domains": {"a": "x", "b": "x"}}, "both domains are called 'x'"),
        ({"domains": {"a": "\x1b[2J", "b": "x"}}, "printable"),
        ({"side": 100}, "m.json: side 100 does not halve"),
    ],
)
def test_a_foreign_config_is_refused_naming_the_key(change: dict[str, object], said: str) -> None:
    with pytest.raises(DidaError) as refused:
        ModelConfig.from_json(ModelConfig().to_json() | change, "m.json")
    assert said in str(refused.value) and "m.json" in str(refused.value)


def test_a_config_from_before_encoders_had_a_side_of_their_own_is_read() -> None:
    values = ModelConfig(encoder_side=64).to_json()
    del values["encoder_side"]
    assert ModelConfig.from_json(values, "m.json") == ModelConfig()


def test_a_missing_setting_is_named() -> None:
    values = ModelConfig().to_json()
    del values["grid"]
    with pytest.raises(DidaError, match="'grid' is missing"):
        ModelConfig.from_json(values, "m.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"ema": 1.0},
        {"clip": 0.0},
        {"critic_start": -1},
    ],
)
def test_training_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DidaError, match=next(iter(wrong))):
        TrainConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_weight_must_be_a_number_of_zero_or_more(value: float) -> None:
    with pytest.raises(DidaError, match="weight of zero"):
        Weights(zero=value)
