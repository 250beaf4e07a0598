"""Probes must find what is there, find nothing where nothing is, and never look at the answer."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dida_cli.codes import Codes
from dida_cli.evaluate import probes

pytestmark = pytest.mark.usefixtures("thorough_judges")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid_codes(count: int, *channels: int, seed: int) -> Codes:
    return Codes(*(normal(count, c, 2, 2, seed=10 * seed + i) for i, c in enumerate(channels)))


def test_a_linear_probe_reads_what_is_linearly_there() -> None:
    code = normal(300, 4, 2, 2, seed=1)
    truth = code.flatten(1)[:, :3].argmax(1)
    code[torch.arange(300), truth, 0, 0] += 3  # three classes, far apart
    found = probes.probe(code, truth)
    assert found.accuracy >= 0.97 and found.held_out == 150
    assert 1 / 3 <= found.chance <= 0.45


def test_a_probe_finds_nothing_in_noise_though_it_could_learn_it_by_heart() -> None:
    code, truth = normal(400, 150, 2, 2, seed=1), torch.arange(400) % 2
    found = probes.probe(code, truth)
    assert abs(found.accuracy - 0.5) < 0.12 and 0.5 <= found.chance < 0.6


def test_chance_is_the_most_frequent_class_and_what_a_constant_code_gets() -> None:
    truth = (torch.arange(400) % 4 == 0).long()
    found = probes.probe(torch.full((400, 3, 1, 1), 0.1), truth)
    assert found.accuracy == found.chance == pytest.approx(0.75, abs=0.06)
    assert probes.probe(normal(10, 2, seed=1), torch.zeros(10).long()) == (1, 1, 5)


def test_the_scale_of_a_code_does_not_matter() -> None:
    code = normal(200, 3, 2, 2, seed=1).double()
    truth = (code[:, 0, 0, 0] + normal(200, seed=2) > 0).long()
    plain, small = probes.probe(code, truth), probes.probe(1e-6 * code + 1, truth)
    assert 0.6 < plain.accuracy < 1
    assert small.accuracy == pytest.approx(plain.accuracy, abs=0.011)


def test_probes_are_the_same_for_a_seed() -> None:
    code, truth = normal(60, 5, seed=1), torch.arange(60) % 3
    torch.manual_seed(0)
    first = probes.probe(code, truth, seed=4)
    torch.manual_seed(1)
    assert probes.probe(code, truth, seed=4) == first
    assert len({probes.probe(code, truth, seed=seed) for seed in range(6)}) > 1


def test_probes_work_on_codes_of_inference_mode_and_inside_it() -> None:
    code, truth = normal(40, 5, seed=1), torch.arange(40) % 2
    wanted = probes.probe(code, truth)
    with torch.inference_mode():
        made_there = code * 1
        assert probes.probe(made_there, truth * 1) == wanted
    with torch.no_grad():
        assert probes.probe(made_there, truth) == wanted


def test_the_table_puts_each_factor_where_it_is() -> None:
    codes = grid_codes(200, 4, 2, 2, seed=1)
    domain, mouth = torch.arange(200) % 2, torch.arange(200) // 2 % 2
    codes.a[:, 0] += 4 * domain[:, None, None]
    codes.b[:, 1] += 4 * domain[:, None, None]
    codes.b[:, 0] += 4 * mouth[:, None, None]
    found = probes.table(codes, {"domain": domain, "mouth": mouth})
    assert list(found) == ["domain", "mouth"] and list(found["mouth"]) == ["common", "a", "b"]
    high = {(f, c) for f, row in found.items() for c, p in row.items() if p["accuracy"] > 0.95}
    assert high == {("domain", "a"), ("domain", "b"), ("mouth", "b")}
    assert all(
        abs(p["accuracy"] - 0.5) < 0.15
        for f, row in found.items()
        for c, p in row.items()
        if (f, c) not in high
    )


def test_a_model_without_a_code_of_b() -> None:
    of_a, of_b = (grid_codes(12, 8, 3, 0, seed=seed) for seed in (1, 2))
    found = probes.table(of_a, {"domain": torch.arange(12) % 2})
    assert list(found["domain"]) == ["common", "a"]
    assert list(probes.leak(of_a, of_b)) == ["a"]
    assert list(probes.independence(of_a, of_b, permutations=10)) == ["a"]


def test_a_model_without_a_common_code() -> None:
    of_a, of_b = (grid_codes(12, 0, 3, 2, seed=seed) for seed in (1, 2))
    found = probes.table(of_a, {"domain": torch.arange(12) % 2})
    assert list(found["domain"]) == ["a", "b"]
    assert list(probes.leak(of_a, of_b)) == ["a", "b"]
    assert probes.independence(of_a, of_b, permutations=10) == {}


def test_wide_codes_are_probed_along_their_axes_with_the_same_answers() -> None:
    code, truth = normal(40, 70, seed=1).double(), torch.arange(40) % 3
    code[:, :3] += 2 * torch.nn.functional.one_hot(truth, 3)
    held_out = slice(20, None)
    wide = code - code[:20].mean(0)
    weights, bias = probes._fit(wide[:20], truth[:20], 3)
    narrow = probes._rotated(wide, torch.arange(20))
    rotated, shift = probes._fit(narrow[:20], truth[:20], 3)
    assert narrow.shape == (40, 19)  # means were taken off
    answers = wide[held_out] @ weights + bias
    torch.testing.assert_close(narrow[held_out] @ rotated + shift, answers, rtol=1e-3, atol=1e-3)


def test_leak_by_hand() -> None:
    def constant(common: float, a: float, b: float) -> Codes:
        return Codes(*(torch.full((3, 2, 2, 2), value) for value in (common, a, b)))

    of_a, of_b = constant(9, -4, 1), constant(9, 1, -2)
    assert probes.leak(of_a, of_b) == {"a": 0.25, "b": 0.5}
    assert probes.leak(of_a, of_b.without("a"))["a"] == 0
    assert probes.leak(of_a.without("a"), of_b)["a"] == math.inf
    assert probes.leak(of_a, of_b.take(slice(0, 1))) == {"a": 0.25, "b": 0.5}


def test_hsic_is_the_trace_formula() -> None:
    x, y = normal(30, 2, 2, seed=1), normal(30, 3, seed=2)

    def kernel(values: np.ndarray) -> np.ndarray:
        apart = np.array([[np.linalg.norm(u - v) for v in values] for u in values])
        width = np.quantile(apart[np.triu_indices(30, 1)], 0.5, method="lower")
        return np.exp(-(apart**2) / (2 * width**2))

    k, l = (kernel(v.flatten(1).double().numpy()) for v in (x, y))  # noqa: E741
    h = np.eye(30) - 1 / 30
    wanted = np.trace(k @ h @ l @ h) / 30**2
    assert probes.dependence(x, y).hsic == pytest.approx(wanted, rel=1e-9)


def test_dependence_without_correlation_is_found() -> None:
    x = normal(150, 1, seed=1)
    found = probes.dependence(x, x.square() + 0.3 * normal(150, 1, seed=2))
    assert found.p == pytest.approx(1 / 201) and found.n == 150
    assert found.hsic > 3 * found.hsic_shuffled > 0


def test_p_is_spread_out_for_independent_codes() -> None:
    p = [
        probes.dependence(
            normal(40, 3, seed=2 * s), normal(40, 2, seed=2 * s + 1), permutations=40, seed=s
        ).p
        for s in range(40)
    ]
    assert sum(value <= 0.1 for value in p) <= 9  # 4 expected
    assert 0.35 < sum(p) / 40 < 0.65 and max(p) > 0.8


def test_independence_asks_each_domain_about_its_own_part() -> None:
    of_a, of_b = grid_codes(80, 2, 2, 2, seed=1), grid_codes(80, 2, 2, 2, seed=2)
    of_a = of_a._replace(a=of_a.common.clone())  # E_A(A) copies E_c(A); E_B(B) is free
    found = probes.independence(of_a, of_b, permutations=99)
    assert found["a"].p == 0.01 and found["b"].p > 0.05


def test_the_test_is_the_same_for_a_seed_and_looks_at_500_rows() -> None:
    x, y = normal(520, 2, seed=1), normal(520, 2, seed=2)
    first = probes.dependence(x, y, permutations=20, seed=3)
    assert first.n == 500
    torch.manual_seed(9)
    assert probes.dependence(x[:500], y[:500], permutations=20, seed=3) == first
    assert probes.dependence(x, y, permutations=20, seed=4) != first


def test_a_dead_code_is_independent_of_everything() -> None:
    x = normal(40, 2, seed=1)
    for pair in ((x, torch.zeros(40, 3)), (torch.full((40, 3), 0.1), x)):
        found = probes.dependence(*pair)
        assert found.hsic == pytest.approx(0, abs=1e-15) and found.p == 1
    nearly = torch.zeros(40, 30)
    nearly[0] = 1  # most distances are 0: the median of all would be too
    assert 0 < probes.dependence(x, nearly).hsic < 1
