import pytest

from dida_cli.config import Domains, ModelConfig, TrainConfig, Weights
from dida_cli.errors import DidaError


def test_json_round_trip_keeps_everything() -> None:
    model = ModelConfig.of(
        "didd", "paper", side=64, domains=Domains(a="hat", b="beard"), separate_b=7
    )
    assert ModelConfig.from_json(model.to_json(), "x") == model
    settings = TrainConfig(steps=7, weights=Weights(common=0.5), critic_target="paper")
    assert TrainConfig.from_json(settings.to_json(), "x") == settings


def test_the_papers_widths_are_the_released_ones() -> None:
    config = ModelConfig.of("didd", "paper", side=128)
    assert (config.grid, config.common, config.separate_a, config.separate_b) == (2, 462, 25, 25)
    assert (config.channels, config.stages) == (512, 6)


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
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(DidaError, match=said):
        ModelConfig(**wrong)


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
