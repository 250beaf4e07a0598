"""How real pictures look, how much they vary, and how near two of them are.

Whatever needs a feature network takes the features that `features_of` made with one of two
networks: the bundled classifier (256 numbers, made for avatars, always there) or Inception v3 (2048
numbers, what publications use, its weights brought by the user). Figures of different networks
cannot be compared. torchmetrics does the sums of FID, KID and SSIM; it is imported inside the
functions because it brings torchvision along, which costs as much as torch again.
"""

import hashlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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
    "perceptual": "mean squared difference between the unit-length activations of the bundled "
    "classifier's four stages, as LPIPS (Zhang et al. 2018) but of our own network; 0 = the same, "
    "2 = nothing in common",
    "ssim": "structural similarity (Wang et al. 2004), Gaussian window of 11 pixels and sigma 1.5, "
    "pictures in [0, 1]; 1 = the same",
    "psnr": "mean over pictures of 10 log10(1 / mean squared error) among the pixels of a region, "
    "pictures in [0, 1], in dB",
}

Network = Callable[[Tensor], Tensor]  # pictures (N, 3, h, w) in [-1, 1] to features (N, d)

BATCH = 50
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def bundled(judge: FactorClassifier) -> Network:
    """The 256 features, all >= 0, from which the bundled classifier names an avatar's factors."""
    return lambda pictures: judge.trunk(F.adaptive_avg_pool2d(pictures, SIDE))


def inception(weights: Path) -> Network:
    """The 2048 features of Inception v3, from a local file of its weights (nothing is downloaded).

    Pictures are rounded to 8 bits and scaled to 299 pixels with antialiasing, torchmetrics' way.
    The file is a pickle, so it is opened only if it is, by its checksum, the one everybody uses.
    Raises DidaError when the package torch-fidelity is not installed or the file is not that one.
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

    Keys: n, fid, kid, kid_std, kid_subset_size; see `DEFINITIONS`. Equal for equal seeds.
    Raises DidaError when either side has fewer than two pictures.
    """
    subsets = kid(real, made, seed=seed)
    return {
        "n": min(len(real), len(made)),
        "fid": fid(real, made),
        "kid": subsets.mean,
        "kid_std": subsets.std,
        "kid_subset_size": subsets.subset_size,
    }


def fid(real: Tensor, made: Tensor) -> float:
    """Frechet distance between features (N, d) and (M, d), cut to equal n; 0 or more.

    Heusel et al. 2017, equation 6: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), in float64.
    It is biased: at small n it lies above what endless pictures would give, by about a constant
    over n (Binkowski et al. 2018, section 4), so only figures of equal n and one network compare.
    With n <= d the covariances are singular; the figure is still defined, its bias is large.
    Raises DidaError when either side has fewer than two pictures.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, made = _even(real, made)
    metric = FrechetInceptionDistance(_Ready(real.shape[1]))
    metric.update(real, real=True)
    metric.update(made, real=False)
    return max(0.0, metric.compute().item())  # rounding may put equal sets a hair below 0


class Kid(NamedTuple):
    """Mean and standard deviation of the squared MMD over random subsets of the pictures."""

    mean: float
    std: float
    subset_size: int


def kid(real: Tensor, made: Tensor, *, seed: int = 0) -> Kid:
    """Kernel distance between features (N, d) and (M, d), cut to equal n (Binkowski et al. 2018).

    The unbiased estimate with the kernel (x.y / d + 1)^3, over 100 subsets of half the pictures
    (at least 2, at most 1000): subsets as large as n would all be the same and their spread 0.
    The global random state is left as it was. Raises DidaError as `fid` does.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    real, made = _even(real, made)
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
    return Kid(mean.item(), std.item(), size)


class _Ready(nn.Identity):
    """The feature network that torchmetrics is given: passes on features made before."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def _even(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """The first n of both, n being the shorter one's length, in float64."""
    n = min(len(real), len(made))
    if n < 2:
        raise DidaError(f"FID and KID need 2 pictures or more on each side, not {n}")
    return real[:n].double(), made[:n].double()


def diversity(edits: Tensor) -> float:
    """How much the guide matters: 0 when every guide gives the same picture.

    `edits` are features (contents, guides, d): row i holds the edits of content i by each guide,
    `features_of(...).reshape(contents, guides, -1)`. Returns the mean over contents and over pairs
    of different guides of the Euclidean distance. The same figure of the true answers is its
    ceiling. Raises DidaError when there are fewer than two guides.
    """
    contents, guides = edits.shape[:2]
    if guides < 2:
        raise DidaError(f"diversity needs 2 guides or more for each content, not {guides}")
    exact = "donot_use_mm_for_euclid_dist"  # the quick way is not 0 between equal rows
    between = torch.cdist(edits.double(), edits.double(), compute_mode=exact)
    return between.sum().item() / (contents * guides * (guides - 1))


def similarity(a: Tensor, b: Tensor) -> float:
    """Mean cosine between features (N, d) of pictures and of what became of them, row by row.

    Tell it twice, against the photo and against the model's own reconstruction of it: a blurred
    reconstruction alone lowers the first. Features that are all >= 0, as the bundled ones, give
    unrelated pictures well over 0; `similarity(a, b.roll(1, 0))` is that floor.
    """
    return F.cosine_similarity(a.double(), b.double()).mean().item()


def perceptual_map(network: FactorClassifier, x: Tensor, y: Tensor) -> Tensor:
    """How differently the classifier sees x and y (N, 3, h, w) at every pixel: (N, 1, h, w).

    As LPIPS (Zhang et al. 2018, equation 1) without learned weights and with our own network: after
    each of the four stages the activations at every place are made unit length; the squared length
    of their difference is spread over the pixels of the place and averaged over stages. 0 = the
    same; at most 2 where activations are not negative.
    """
    with torch.no_grad():
        batches = zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True)
        return torch.cat([_perceptual(network, *rows) for rows in batches])


def _perceptual(network: FactorClassifier, x: Tensor, y: Tensor) -> Tensor:
    pairs = zip(stages(network, x), stages(network, y), strict=True)
    apart = [(of_x - of_y).square().sum(1, keepdim=True) for of_x, of_y in pairs]
    return torch.stack([F.interpolate(one, x.shape[-2:], mode="nearest") for one in apart]).mean(0)


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

    Wang et al. 2004, equation 13, mean over the three channels; h and w 6 or more. Its mean over
    everything is the usual SSIM; `mean_within` averages it inside a region.
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
    """(N,) float64: the mean of each picture's `values` inside its region; NaN where that is empty.

    Both (N, 1, h, w).
    """
    inside = region.flatten(1).double()
    return (values.flatten(1).double() * inside).sum(1) / inside.sum(1)


def _known(means: Tensor) -> Tensor:
    known = means[~means.isnan()]
    if not len(known):
        raise DidaError("no picture has a pixel in the region to average over; give other pictures")
    return known
