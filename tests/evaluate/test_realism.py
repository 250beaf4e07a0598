"""FID, KID, SSIM and the rest against formulas written out again in numpy."""

import hashlib
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dida_cli import hub
from dida_cli.errors import DidaError
from dida_cli.evaluate import attributes, counterfactual, realism
from dida_cli.evaluate.attributes import FactorClassifier

pytestmark = pytest.mark.usefixtures("thorough_judges")


@pytest.fixture(scope="module")
def judge() -> FactorClassifier:
    return attributes.load(hub.BUNDLED / hub.JUDGE)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def pictures(count: int, side: int = 64, seed: int = 0) -> Tensor:
    """Smooth random colours in [-1, 1]."""
    coarse = normal(count, 3, 5, 5, seed=seed).float()
    return nn.functional.interpolate(coarse, size=side, mode="bicubic").tanh()


def with_moments(n: int, mean: Tensor, deviation: Tensor, seed: int) -> Tensor:
    """n rows whose sample mean and sample deviation are exactly these, uncorrelated."""
    rows = normal(n, len(mean), seed=seed)
    white, _ = torch.linalg.qr(rows - rows.mean(0))
    white = white - white.mean(0)
    return white * (n - 1) ** 0.5 * deviation + mean


def test_fid_of_gaussians_is_the_closed_formula() -> None:
    mean = torch.tensor([0.5, -1.0, 2.0]).double()
    one, two = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 1.0]).double()
    x = with_moments(300, torch.zeros(3).double(), one, seed=1)
    y = with_moments(300, mean, two, seed=2)
    wanted = (0.25 + 1 + 4) + (4 + 0 + 0.25)  # |m1 - m2|^2 + sum (s1 - s2)^2
    assert realism.fid(x, y) == pytest.approx(wanted, rel=1e-9)


def test_fid_of_correlated_features_in_numpy() -> None:
    x = normal(200, 6, seed=1) @ normal(6, 6, seed=2)
    y = normal(200, 6, seed=3) @ normal(6, 6, seed=4) + 0.3
    s1, s2 = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(s1)
    root = vectors @ np.diag(values**0.5) @ vectors.T
    cross = np.linalg.eigvalsh(root @ s2 @ root) ** 0.5
    gap = ((x.mean(0) - y.mean(0)) ** 2).sum().item()
    assert realism.fid(x, y) == pytest.approx(
        gap + np.trace(s1) + np.trace(s2) - 2 * cross.sum(), rel=1e-9
    )


def test_fid_holds_with_fewer_pictures_than_features() -> None:
    """There tr (S1 S2)^1/2 is the sum of the singular values of X Y^T / (n - 1)."""
    x, y = normal(20, 256, seed=1), normal(20, 256, seed=2) + 0.1
    a, b = (x - x.mean(0)).numpy(), (y - y.mean(0)).numpy()
    overlap = np.linalg.svd(a @ b.T / 19, compute_uv=False).sum()
    spread = ((a**2).sum() + (b**2).sum()) / 19
    gap = ((x.mean(0) - y.mean(0)) ** 2).sum().item()
    assert realism.fid(x, y) == pytest.approx(gap + spread - 2 * overlap, rel=1e-5)
    assert realism.fid(x, x) == pytest.approx(0, abs=1e-3)


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD under the cubic kernel, sums over pairs written out."""
    n, d = x.shape

    def kernel(u: np.ndarray, v: np.ndarray) -> float:
        return float((u @ v / d + 1) ** 3)

    within = sum(
        kernel(x[i], x[j]) + kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j
    )
    across = sum(kernel(x[i], y[j]) for i in range(n) for j in range(n))
    return within / (n * (n - 1)) - 2 * across / n**2


def test_kid_is_the_mmd_of_seeded_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism, "KID_SUBSETS", 5)
    x, y = normal(16, 3, seed=1), normal(16, 3, seed=2) + 0.5
    generator = torch.Generator().manual_seed(7)
    wanted = []
    for _ in range(5):
        rows = [torch.randperm(16, generator=generator)[:8] for _ in "xy"]
        wanted.append(mmd(x[rows[0]].numpy(), y[rows[1]].numpy()))
    found = realism.kid(x, y, seed=7)
    assert found == pytest.approx(
        {"kid": np.mean(wanted), "kid_std": np.std(wanted), "kid_subset_size": 8}, rel=1e-9
    )


def test_kid_is_about_zero_for_one_distribution_and_not_for_two() -> None:
    x, same, other = (normal(400, 8, seed=seed) for seed in (1, 2, 3))
    near, far = realism.kid(x, same), realism.kid(x, other + 1)
    assert abs(near["kid"]) < 0.05 and near["kid_std"] > 0
    assert far["kid"] > 1


def test_kid_is_the_same_for_a_seed_and_leaves_the_global_random_state_alone() -> None:
    x, y = normal(40, 4, seed=1), normal(40, 4, seed=2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = realism.kid(x, y, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert realism.kid(x, y, seed=1) == first
    assert realism.kid(x, y, seed=2) != first


def test_the_longer_side_is_cut() -> None:
    x, y = normal(30, 4, seed=1), normal(50, 4, seed=2)
    figures = realism.score(x, y)
    assert figures == realism.score(x, y[:30]) == realism.score(x, y[:30].clone())
    assert figures["n"] == 30 and figures["kid_subset_size"] == 15
    assert all(any(key.startswith(name) for name in realism.DEFINITIONS) for key in figures)


def test_two_pictures_are_enough() -> None:
    x, y = normal(2, 4, seed=1), normal(2, 4, seed=2)
    figures = realism.score(x, y)
    assert figures["kid"] == pytest.approx(mmd(x.numpy(), y.numpy()))
    assert figures["kid_std"] == pytest.approx(0, abs=1e-12) and figures["kid_subset_size"] == 2


def test_the_bundled_features_are_those_the_classifier_decides_by(judge: FactorClassifier) -> None:
    rows = pictures(realism.BATCH + 3, side=128)
    found = realism.features_of(realism.bundled(judge), rows)
    assert found.shape == (len(rows), 256) and found.dtype == torch.float64
    for name, logits in counterfactual.classify(judge, rows).items():
        torch.testing.assert_close(judge.heads[name](found.float()), logits, rtol=0, atol=1e-3)


def test_bundled_features_see_more_change_as_a_larger_distance(judge: FactorClassifier) -> None:
    real, fresh = pictures(40, seed=1), pictures(40, seed=2)
    of_real, *others = (
        realism.features_of(realism.bundled(judge), p) for p in (real, fresh, fresh * 0.3)
    )
    close, far = (realism.score(of_real, other) for other in others)
    assert close["fid"] < far["fid"] and close["kid"] < far["kid"]


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of the published file, which cannot be had in a test."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / realism.INCEPTION_FILE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.load", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("any", ["2048"], "unread")
    torch.save(network.state_dict(), path)
    return path


def test_inception_from_its_file(inception_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    monkeypatch.setattr(realism, "INCEPTION_SHA256", digest)
    network = realism.inception(inception_weights)
    inception_weights.unlink()  # 95 MB
    levels = (127.5 * (pictures(2, side=32) + 1)).round()
    found = realism.features_of(network, levels / 127.5 - 1)
    assert found.shape == (2, 2048) and not torch.equal(found[0], found[1])
    nearly = (levels + 0.4) / 127.5 - 1  # the same once written to a file, white included
    assert torch.equal(realism.features_of(network, nearly), found)


def test_inception_opens_no_other_pickle(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DidaError, match=r"weights\.pth: not the Inception weights.*get .* again"):
        realism.inception(path)
    assert not (tmp_path / "ran").exists()


def test_inception_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DidaError, match=r"none\.pth: cannot be read \(No such file.*get weights-"):
        realism.inception(tmp_path / "none.pth")
    with pytest.raises(DidaError, match=r"cannot be read \(Is a directory"):
        realism.inception(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DidaError, match=r"type: pip install 'dida\[inception\]'"):
        realism.inception(tmp_path / "none.pth")


def test_diversity_by_hand() -> None:
    line = torch.tensor([[[0.0, 0], [3, 4], [0, 1]]])  # distances 5, 1, sqrt(18)
    wanted = (5 + 1 + 18**0.5) / 3
    assert realism.diversity(line) == pytest.approx(wanted)
    assert realism.diversity(torch.cat([line, 2 * line])) == pytest.approx(1.5 * wanted)


def test_diversity_is_zero_when_the_guide_is_ignored() -> None:
    contents = 100 * normal(3, 1, 256, seed=1)
    assert realism.diversity(contents.expand(3, 40, 256)) == 0


def test_similarity_by_hand() -> None:
    a = torch.tensor([[1.0, 0], [0, 2], [3, 0]])
    b = torch.tensor([[5.0, 0], [1, 0], [1, 1]])
    assert realism.similarity(a, b) == pytest.approx((1 + 0 + 0.5**0.5) / 3)


def test_perceptual_distance_written_out(judge: FactorClassifier) -> None:
    x, y = pictures(2, seed=1), pictures(2, seed=2)
    seen: list[np.ndarray] = []
    hooks = [
        judge.trunk[stage].register_forward_hook(lambda *call: seen.append(call[2].numpy().copy()))
        for stage in (2, 5, 8, 11)
    ]
    for rows in (x, y):
        judge(rows)
    for hook in hooks:
        hook.remove()
    wanted = 0.0
    for of_x, of_y in zip(seen[:4], seen[4:], strict=True):
        u, v = (t / np.maximum(np.sqrt((t**2).sum(1, keepdims=True)), 1e-12) for t in (of_x, of_y))
        wanted += ((u - v) ** 2).sum(1).mean() / 4
    assert wanted > 0.05
    assert realism.perceptual_map(judge, x, y).mean().item() == pytest.approx(wanted, rel=1e-4)
    assert realism.perceptual_map(judge, y, x).mean().item() == pytest.approx(wanted, rel=1e-4)
    assert realism.perceptual_map(judge, x, x).mean().item() == 0


def test_perceptual_distance_does_not_depend_on_the_batch(
    judge: FactorClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = pictures(5, seed=1), pictures(5, seed=2)
    whole = realism.perceptual_map(judge, x, y).mean().item()
    monkeypatch.setattr(realism, "BATCH", 2)  # the last batch is smaller: a mean of means is wrong
    assert realism.perceptual_map(judge, x, y).mean().item() == pytest.approx(whole, rel=1e-5)


def test_ssim_at_one_pixel_written_out() -> None:
    x, y = pictures(1, side=24, seed=1), pictures(1, side=24, seed=2)
    found = realism.ssim_map(x, y)
    assert found.shape == (1, 1, 24, 24)
    offsets = np.arange(-5, 6)
    bell = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    wanted = 0.0
    for channel in range(3):
        a, b = (((p[0, channel, 7:18, 5:16] + 1) / 2).double().numpy() for p in (x, y))
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * a**2).sum() - mean_a**2, (window * b**2).sum() - mean_b**2
        cov = (window * a * b).sum() - mean_a * mean_b
        wanted += (
            ((2 * mean_a * mean_b + 0.01**2) * (2 * cov + 0.03**2))
            / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
            / 3
        )
    assert found[0, 0, 12, 10].item() == pytest.approx(wanted, abs=1e-4)
    torch.testing.assert_close(realism.ssim_map(x, x), torch.ones(1, 1, 24, 24))


def test_averages_inside_a_region_by_hand() -> None:
    values = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]).reshape(3, 1, 2, 2)
    region = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool().reshape(3, 1, 2, 2)
    assert realism.mean_within(values, region) == pytest.approx((1.5 + 8) / 2)
    assert realism.mean_within(values, ~region) == pytest.approx((3.5 + 6 + 9) / 3)
    with pytest.raises(DidaError, match="no picture has a pixel in the region"):
        realism.mean_within(values, torch.zeros_like(region))


def test_psnr_inside_and_outside() -> None:
    before = torch.zeros(1, 3, 2, 2)
    after = before.clone()
    after[:, :, 0, 0] = 0.2  # an error of 0.1 in [0, 1]: 20 dB
    region = torch.zeros(1, 1, 2, 2).bool()
    region[..., 0, 0] = True
    assert realism.psnr_within(before, after, region) == pytest.approx(20)
    assert realism.psnr_within(before, after, ~region) == pytest.approx(100)
    x, y = pictures(3, seed=1), pictures(3, seed=2)
    everywhere = torch.ones(3, 1, 64, 64).bool()
    assert realism.psnr_within(x, y, everywhere) == pytest.approx(counterfactual.psnr(x, y))
