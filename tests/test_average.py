"""Means of models: the right numbers, one network only, nothing half written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Result

from dida_cli import average, checkpoint
from dida_cli.config import Domains, ModelConfig

Dida = Callable[..., Result]
SMALL: dict[str, Any] = {"side": 32, "grid": 8, "width": 16, "common": 8, "separate_a": 3}
CONFIG = ModelConfig(**SMALL, separate_b=2, method="layers", domains=Domains(a="hat", b="tie"))
PAPER = ModelConfig(
    **SMALL,
    separate_b=0,
    method="mask",
    architecture="paper",
    domains=Domains(a="hat", b="none"),
)


def written(folder: Path, config: ModelConfig, seed: int) -> Path:
    torch.manual_seed(seed)
    card = f"---\nlicense: mit\n---\n# model {seed}\n"
    checkpoint.write_folder(folder, checkpoint.model_files(checkpoint.build(config).eval(), card))
    return folder


@pytest.mark.parametrize("config", [CONFIG, PAPER], ids=["layers", "mask with batch norm"])
def test_each_weight_is_the_mean_by_its_share(
    dida: Dida, tmp_path: Path, config: ModelConfig
) -> None:
    first, second = (written(tmp_path / str(seed), config, seed) for seed in (1, 2))
    out = tmp_path / "new" / "mean"
    shares = ("--share", 1, "--share", 3)
    result = dida("models", "average", first, second, *shares, "-o", out)
    assert (result.code, result.out) == (0, f"{out}\n") and result.err.count("\n") == 1
    one, two, mean = (checkpoint.load(folder).state_dict() for folder in (first, second, out))
    for name, value in mean.items():
        assert value.dtype == one[name].dtype
        torch.testing.assert_close(value.double(), one[name] * 0.25 + two[name].double() * 0.75)
    assert any((one[name] != two[name]).any() for name in mean)
    assert [path.name for path in out.parent.iterdir()] == ["mean"]  # no leavings


def test_shares_are_equal_unless_given_and_the_card_tells_them(dida: Dida, tmp_path: Path) -> None:
    models = [written(tmp_path / str(seed), CONFIG, seed) for seed in (1, 2, 3)]
    assert dida("models", "average", *models, "-o", tmp_path / "mean").code == 0
    states = [checkpoint.load(folder).state_dict() for folder in [*models, tmp_path / "mean"]]
    name = next(iter(states[0]))
    torch.testing.assert_close(states[3][name], sum(state[name] for state in states[:3]) / 3)
    card = (tmp_path / "mean" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n---\n# A mean of 3 models\n")
    assert "| 2 | 0.333 |" in card and "has not been measured" in card
    assert card.endswith("# model 1\n")


def test_a_threshold_chosen_since_is_no_other_network(tmp_path: Path) -> None:
    first = written(tmp_path / "1", CONFIG, 1)
    second = written(tmp_path / "2", replace(CONFIG, segment_from=0.7), 2)
    average.average({"1": first, "2": second}, [1, 1], tmp_path / "mean")
    assert checkpoint.load(tmp_path / "mean").config == CONFIG


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"side": 64}, "side is 64, of"),
        ({"glass": "b"}, "glass is b, of"),
        ({"domains": Domains(a="hat", b="scarf")}, "'b': 'scarf'}, of"),
    ],
)
def test_another_network_is_refused(
    dida: Dida, tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    first = written(tmp_path / "first", CONFIG, 1)
    second = written(tmp_path / "second", replace(CONFIG, **other), 2)
    result = dida("models", "average", first, second, "-o", tmp_path / "mean")
    assert result.code == 1 and result.err.count("\n") == 1
    assert result.err.startswith(f"dida: {second}: ") and words in result.err
    assert not (tmp_path / "mean").exists()


def test_wrong_use_says_what_to_type(dida: Dida, model_folder: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other", CONFIG, 1)
    for arguments, code, words in (
        ((model_folder,), 1, "give another one"),
        ((model_folder, model_folder), 2, "give each once, with its --share"),
        ((model_folder, other, "--share", 1), 1, "one for each model; or leave --share out"),
        ((model_folder, other, "--share", 1, "--share", -1), 1, "positive numbers"),
        ((model_folder, other, "--share", 1, "--share", "nan"), 1, "positive numbers"),
        ((model_folder, tmp_path / "nowhere"), 1, "nowhere"),
    ):
        result = dida("models", "average", *arguments, "-o", tmp_path / "mean")
        assert result.code == code and words in result.err and result.err.count("\n") == 1
        assert not (tmp_path / "mean").exists()


def test_what_stands_in_the_way_is_kept(dida: Dida, tmp_path: Path) -> None:
    first, second = (written(tmp_path / str(seed), CONFIG, seed) for seed in (1, 2))
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    result = dida("models", "average", first, second, "-o", first)
    assert result.code == 1 and "is not empty; choose another folder with --out" in result.err
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


def test_large_weights_do_not_overflow_on_the_way(tmp_path: Path) -> None:
    folders = {}
    for seed in (1, 2):
        model = checkpoint.build(CONFIG).eval()
        torch.nn.init.constant_(next(model.decoder.parameters()), 3e38)
        folders[str(seed)] = tmp_path / str(seed)
        checkpoint.write_folder(folders[str(seed)], checkpoint.model_files(model, "# huge\n"))
    average.average(folders, [3, 3], tmp_path / "mean")
    mean = checkpoint.load(tmp_path / "mean")
    assert (next(mean.decoder.parameters()) == torch.tensor(3e38)).all()
