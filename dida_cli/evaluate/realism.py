"""How real pictures look, how much they vary, and how near two of them are.

Features are those of the bundled classifier (256 numbers, made for avatars) or of Inception v3
(2048, what publications use, its weights brought by the user); figures of different networks cannot
be compared. torchmetrics is imported where it is used, because it brings torchvision along, which
costs as much as torch again.
"""

import hashlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import images
from dida_cli.errors import DidaError
from dida_cli.evaluate.attributes import SIDE, FactorClassifier

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # the size is an upper bound

DEFINITIONS = {
    "n": "pictures on each side of FID and KID; the longer side was cut to the shorter",
    "fid": "Frechet distance between Gaussians fitted to the features of real and of made pictures "
    "(Heusel et al. 2017); 0 = the same; grows as n shrinks, so compare at equal n only",
    "kid": "squared maximum mean discrepancy of the features under the kernel (x.y / d + 1)^3 "
    f"(Binkowski et al. 2018), mean over {KID_SUBSETS} random subsets of kid_subset_size pictures; "
    "kid_std is its standard deviation over them; about 0 = the same, may be a little below; not "
    "biased by n",
    "diversity": "mean Euclidean distance between the features of two edits of one content by "
    "different guides; 0 = the guide is ignored",
    "similarity": "mean cosine between the features of a picture and of its edit; 1 = the same",
}

Network = Callable[[Tensor], Tensor]  # pictures (N, 3, h, w) in [-1, 1] to features (N, d)

BATCH = 50
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def bundled(judge: FactorClassifier) -> Network:
    """The 256 features, all >= 0, from which the bundled classifier names an avatar's factors."""
    return lambda pictures: judge.trunk(F.adaptive_avg_pool2d(pictures, SIDE))


def inception(weights: Path) -> Network:
    """The 2048 features of Inception v3, from a local file of its weights.

    The file is a pickle, so it is opened only if it is, by its checksum, the one everybody uses.
    Raises DidaError when it is not, or when the package torch-fidelity is not installed.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise DidaError(
            "Inception needs the package torch-fidelity; type: pip install 'dida[inception]'"
        )
    _check_inception(weights)
    from torchmetrics.image.fid import NoTrainInceptionV3

    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    return lambda pictures: network(images.to_levels(pictures))


def _check_inception(weights: Path) -> None:
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DidaError(
            f"{weights}: cannot be read ({error.strerror}); get {INCEPTION_FILE} from the v0.2.0 "
            "release of toshas/torch-fidelity on GitHub and give its path"
        ) from None
    if found != INCEPTION_SHA256:
        raise DidaError(
            f"{weights}: not the Inception weights that FID is defined by (sha256 {found[:12]}..., "
            f"wanted {INCEPTION_SHA256[:12]}...); get {INCEPTION_FILE} again"
        )


def features_of(network: Network, pictures: Tensor) -> Tensor:
    """Features (N, d) in float64 of pictures (N, 3, h, w) in [-1, 1], made a batch at a time."""
    with torch.no_grad():
        return torch.cat([network(rows) for rows in torch.split(pictures, BATCH)]).double().cpu()


def score(real: Tensor, made: Tensor, *, seed: int = 0) -> dict[str, float]:
    """FID and KID of made against real pictures, from their features (N, d) and (M, d).

    The longer is cut to the shorter, which are two or more. Equal for equal seeds.
    """
    n = min(len(real), len(made))
    real, made = real[:n].double(), made[:n].double()
    return {"n": n, "fid": fid(real, made)} | kid(real, made, seed=seed)


def fid(real: Tensor, made: Tensor) -> float:
    """Frechet distance between features (N, d) in float64; 0 or more.

    Heusel et al. 2017, equation 6: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2). At small n it lies
    above what endless pictures would give, by about a constant over n (Binkowski et al. 2018,
    section 4); with n <= d it is still defined, its bias is large.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Ready(real.shape[1]))
    metric.update(real, real=True)
    metric.update(made, real=False)
    return max(0.0, metric.compute().item())  # rounding may put equal sets a hair below 0


def kid(real: Tensor, made: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Kernel distance between features (N, d) in float64 (Binkowski et al. 2018).

    Over subsets of half the pictures: those as large as n would all be the same and their spread 0.
    The global random state is left as it was.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = max(2, min(KID_SUBSET_SIZE, len(real) // 2))
    with warnings.catch_warnings():
        # It says that it keeps all features; here they are kept anyway, and are small.
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(
            _Ready(real.shape[1]), subsets=KID_SUBSETS, subset_size=size
        )
    metric.update(real, real=True)
    metric.update(made, real=False)
    with torch.random.fork_rng(devices=[]):  # subsets are drawn from the global CPU generator
        torch.default_generator.manual_seed(seed)
        mean, std = metric.compute()
    return {"kid": mean.item(), "kid_std": std.item(), "kid_subset_size": size}


class _Ready(nn.Identity):
    """The feature network that torchmetrics is given: passes on features made before."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def diversity(edits: Tensor) -> float:
    """How much the guide matters, from features (contents, guides, d) of edits.

    The mean over contents and over pairs of different guides, 2 or more, of their distance.
    """
    contents, guides = edits.shape[:2]
    exact = "donot_use_mm_for_euclid_dist"  # the quick way is not 0 between equal rows
    between = torch.cdist(edits.double(), edits.double(), compute_mode=exact)
    return between.sum().item() / (contents * guides * (guides - 1))


def similarity(a: Tensor, b: Tensor) -> float:
    """Mean cosine between features (N, d) of pictures and of what became of them, row by row.

    A blurred reconstruction alone lowers it, and features that are all >= 0, as the bundled ones,
    give unrelated pictures well over 0: tell it beside `similarity(a, b.roll(1, 0))`.
    """
    return F.cosine_similarity(a.double(), b.double()).mean().item()


def perceptual_map(network: FactorClassifier, x: Tensor, y: Tensor) -> Tensor:
    """How differently the classifier sees x and y (N, 3, h, w) at every pixel: (N, 1, h, w).

    As LPIPS (Zhang et al. 2018, equation 1) without learned weights and with our own network: the
    squared distance of the stages' activations, spread over the pixels of each place and averaged
    over stages. 0 = the same; at most 2 where activations are not negative.
    """
    maps = []
    with torch.no_grad():
        for rows in zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True):
            pairs = zip(*(stages(network, pictures) for pictures in rows), strict=True)
            apart = [(of_x - of_y).square().sum(1, keepdim=True) for of_x, of_y in pairs]
            spread = [F.interpolate(one, x.shape[-2:], mode="nearest") for one in apart]
            maps.append(torch.stack(spread).mean(0))
    return torch.cat(maps)


def stages(network: FactorClassifier, pictures: Tensor) -> list[Tensor]:
    """Unit-length activations (N, channels, grid, grid) after each stage of the trunk."""
    made = []
    activations = F.adaptive_avg_pool2d(pictures, SIDE)
    for layer in network.trunk:
        if isinstance(layer, nn.Flatten):
            break
        activations = layer(activations)
        if isinstance(layer, nn.ReLU):
            made.append(F.normalize(activations, dim=1))
    return made


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (N, 1, h, w) at every pixel of pictures (N, 3, h, w) in [-1, 1].

    Wang et al. 2004, equation 13, mean over the three channels; h and w 6 or more.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    maps = []
    for rows_x, rows_y in zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True):
        _, full = structural_similarity_index_measure(
            (rows_x + 1) / 2, (rows_y + 1) / 2, data_range=1.0, return_full_image=True
        )
        maps.append(full.mean(1, keepdim=True))
    return torch.cat(maps)


def mean_within(values: Tensor, region: Tensor) -> float:
    """Mean over pictures of the mean of `values` (N, 1, h, w) inside `region`, bool (N, 1, h, w).

    Pictures whose region is empty are left out. Raises DidaError when all are.
    """
    return _known(each_within(values, region)).mean().item()


def psnr_within(x: Tensor, y: Tensor, region: Tensor) -> float:
    """Mean over pictures of the PSNR in dB among the pixels of `region`, bool (N, 1, h, w).

    x and y (N, 3, h, w) in [-1, 1]; equal pictures count as 100 dB. Empty regions as `mean_within`.
    """
    errors = _known(each_within(squared_error(x, y), region))
    return (-10 * errors.clamp_min(1e-10).log10()).mean().item()


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean over channels, (N, 1, h, w), of pictures (N, 3, h, w) in [-1, 1] as if in [0, 1]."""
    return ((x - y) / 2).double().square().mean(1, keepdim=True)


def each_within(values: Tensor, region: Tensor) -> Tensor:
    """(N,) float64: the means of `values` in each picture's region, both (N, 1, h, w), or NaN."""
    inside = region.flatten(1).double()
    return (values.flatten(1).double() * inside).sum(1) / inside.sum(1)


def _known(means: Tensor) -> Tensor:
    known = means[~means.isnan()]
    if not len(known):
        raise DidaError("no picture has a pixel in the region to average over; give other pictures")
    return known
