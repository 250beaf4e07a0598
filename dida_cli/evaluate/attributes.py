"""Classifiers that judge edits: of an avatar's factors, or of the domain of any picture.

They learn from training pictures alone, with mild noise and blur so that a decoder's softness does
not decide; their accuracy on real pictures is told beside what they say of edited ones.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import checkpoint, images
from dida_cli.config import CARD, CONFIG, WEIGHTS, Part, read_json
from dida_cli.data import avatars, celeba, folders, vary
from dida_cli.data.folders import File, Progress, unheard
from dida_cli.errors import DidaError

SIDE = 64  # pixels the classifier sees; larger pictures are averaged down
WIDTHS = (32, 64, 96, 128)
EPOCHS, BATCH, RATE = 6, 64, 2e-3
EPOCHS_OF_PARTS = 20  # of pictures of which there are few, and which are therefore varied
LEAST_STEPS = 200
LEARNED = 2000  # pictures with a part, and without it, are enough to tell them apart by
UNKNOWN = -100  # as a true class: what cross entropy leaves out

Many = TypeVar("Many", Sequence[File], np.ndarray)
Heads = Mapping[str, Sequence[str]]  # factor -> its values in the order of a judge's outputs
FACTORS: Heads = {
    "glasses": [avatars.NONE, *avatars.GLASSES],
    "mouth": [*avatars.SMILES, *avatars.OTHER_MOUTHS],
    "beard": [avatars.NONE, *avatars.BEARDS],
    "hair": avatars.HAIR,
    "hair_color": avatars.HAIR_COLORS,
    "skin": avatars.SKIN_COLORS,
    "eyebrows": avatars.EYEBROWS,
    "eyes": avatars.EYES,
    "clothes": avatars.CLOTHES,
    "clothes_color": avatars.CLOTHES_COLORS,
    "background": avatars.BACKGROUNDS,
}


class FactorClassifier(nn.Module):
    """Pictures (N, 3, h, w) in [-1, 1], h and w multiples of 64, to logits for every factor."""

    def __init__(self, factors: Heads = FACTORS) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for c_in, c_out in zip((3, *WIDTHS), WIDTHS, strict=False):
            blocks += [
                nn.Conv2d(c_in, c_out, 4, stride=2, padding=1),
                nn.GroupNorm(8, c_out),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(
            *blocks, nn.Flatten(), nn.Linear(WIDTHS[-1] * 16, 256), nn.ReLU(inplace=True)
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(256, len(values)) for name, values in factors.items()}
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits (N, values) by factor."""
        features = self.trunk(F.adaptive_avg_pool2d(image, SIDE))
        return {name: head(features) for name, head in self.heads.items()}


def labels(faces: Sequence[avatars.Factors]) -> dict[str, Tensor]:
    """The true class (N,) of every factor."""
    return {
        name: torch.tensor([values.index(getattr(face, name)) for face in faces])
        for name, values in FACTORS.items()
    }


def probability(logits: dict[str, Tensor], attribute: str) -> Tensor:
    """log p(attribute present) and log p(absent), (N, 2), from a face's logits."""
    factors, present, _ = avatars.ATTRIBUTES[attribute]
    log_p = logits[factors[0]].log_softmax(dim=1)
    is_present = torch.tensor([value in present for value in FACTORS[factors[0]]])
    return torch.stack([log_p[:, is_present].logsumexp(1), log_p[:, ~is_present].logsumexp(1)], 1)


def train(
    root: Path,
    seed: int = 0,
    on_progress: Progress = unheard,
    *,
    steps: int = 0,
    batch: int = BATCH,
) -> FactorClassifier:
    """A factor classifier of the training partition of the avatar set in `root`, as `fit` says."""
    learned = faces(root, folders.TRAIN)
    return fit(FactorClassifier(), *learned, seed, on_progress, steps=steps, batch=batch)


def faces(root: Path, kind: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A partition of the avatar set in `root`: uint8 pictures (N, 3, h, w), and true classes (N,).

    Raises DidaError when `root` is no avatar set.
    """
    factors = root / avatars.FACTORS_LIST
    if not factors.exists():
        raise DidaError(f"{root}: holds no avatars; draw some with dida data avatars --out {root}")
    records = [json.loads(line) for line in factors.read_text().splitlines()]
    names = [record.pop("image") for record in records]
    kinds = celeba.read_partition(root / celeba.PARTITION_LIST, names)
    chosen = [i for i in range(len(names)) if kinds[i] == kind]
    # Twice the side, as most models' pictures come, then averaged down.
    pictures = folders.load([root / "images" / names[i] for i in chosen], 2 * SIDE)
    return pictures, labels([avatars.Factors(**records[i]) for i in chosen])


def right(
    classifier: FactorClassifier, pictures: Tensor, truth: Mapping[str, Tensor]
) -> dict[str, float]:
    """The share of pictures, as `faces` gives them, whose class is told right, by factor."""
    with torch.inference_mode():
        told = [classifier(images.to_unit(some)) for some in torch.split(pictures, BATCH)]
    said = {name: torch.cat([one[name].argmax(1) for one in told]) for name in truth}
    return {name: (said[name] == truth[name]).float().mean().item() for name in truth}


def of_parts(parts: Sequence[Part]) -> dict[str, list[str]]:
    """The factors of pictures of which no more is known than whether they have these parts."""
    return {part: ["with", "without"] for part in parts}


def some(files: Many) -> Many:
    """At most `LEARNED` of files, or of their rows, evenly spread."""
    return files[:: max(1, -(-len(files) // LEARNED))]


def train_on_parts(
    sides: Mapping[Part, tuple[Tensor, Tensor]],
    seed: int = 0,
    on_progress: Progress = unheard,
    *,
    margin: float = 0.0,
) -> FactorClassifier:
    """A classifier of uint8 pictures (N, 3, h, h) with each part, and without it.

    margin: of a picture's side, that these show beyond what it will be asked about.
    """
    side = round(SIDE * (1 + 2 * margin))
    both = [_averaged(torch.cat(pictures), side) for pictures in sides.values()]
    truth: dict[str, Tensor] = {}
    for place, (part, (has, lacks)) in enumerate(sides.items()):
        classes = [torch.full((len(pictures),), UNKNOWN) for pictures in both]
        classes[place] = torch.tensor([0] * len(has) + [1] * len(lacks))
        truth[part] = torch.cat(classes)
    return fit(
        FactorClassifier(of_parts([*sides])),
        torch.cat(both),
        truth,
        seed,
        on_progress,
        epochs=EPOCHS_OF_PARTS,
        spoil=_moved,
    )


def fit(
    classifier: FactorClassifier,
    pictures: Tensor,
    truth: Mapping[str, Tensor],
    seed: int,
    on_progress: Progress,
    *,
    steps: int = 0,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    spoil: Callable[[Tensor], Tensor] | None = None,
) -> FactorClassifier:
    """Train on uint8 pictures (N, 3, h, w) and true classes (N,) by factor; returned in eval mode.

    A class may be `UNKNOWN`. 0 steps: the epochs, or 200 steps if that is more. Every batch is
    seen as `spoil` leaves it, by default a little blurred and noisy. Raises DidaError without a
    whole batch.
    """
    spoil = spoil or _spoil
    a_epoch = len(pictures) // batch
    if not a_epoch:
        raise DidaError(f"the classifier needs {batch} pictures to learn from, not {len(pictures)}")
    total = steps or a_epoch * max(epochs, -(-LEAST_STEPS // a_epoch))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in classifier.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
        optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=total)
        for step in range(total):
            if step % a_epoch == 0:
                order = torch.randperm(len(pictures))
            rows = order[step % a_epoch * batch :][:batch]
            logits = classifier(spoil(images.to_unit(pictures[rows])))
            losses = [
                F.cross_entropy(logits[name], classes[rows])
                for name, classes in truth.items()
                if (classes[rows] != UNKNOWN).any()
            ]
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            on_progress(step + 1, total)
    return classifier.eval().requires_grad_(False)


def _spoil(pictures: Tensor) -> Tensor:
    """Half of the pictures blurred, a little noise on all: what decoders do to pictures."""
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = torch.rand(len(pictures), 1, 1, 1) * (torch.rand(len(pictures), 1, 1, 1) < 0.5)
    return pictures + amount * (blurred - pictures) + 0.05 * torch.randn_like(pictures)


def _averaged(pictures: Tensor, side: int) -> Tensor:
    """uint8 pictures averaged to a side."""
    small = (F.adaptive_avg_pool2d(images.to_unit(p), side) for p in torch.split(pictures, BATCH))
    return torch.cat([images.to_levels(p) for p in small])


def _moved(pictures: Tensor) -> Tensor:
    """The same of their middles, half of them mirrored, in another place, size, turn and light."""
    mirrored = torch.where(torch.rand(len(pictures), 1, 1, 1) < 0.5, pictures.flip(-1), pictures)
    random = np.random.default_rng(int(torch.randint(2**31, (1,))))
    return _spoil(vary.varied(mirrored, SIDE, random))


def save(classifier: FactorClassifier, folder: Path, card: str, factors: Heads = FACTORS) -> None:
    """Write the classifier as a folder, beside the models it judges."""
    files: dict[str, bytes | dict[str, Tensor]] = {
        CONFIG: (json.dumps(_description(factors)) + "\n").encode(),
        CARD: card.encode(),
        WEIGHTS: dict(classifier.state_dict()),
    }
    checkpoint.write_folder(folder, files)


def _description(factors: Heads) -> dict[str, object]:
    return {"method": "factors", "side": SIDE, "factors": factors}


def load(folder: Path, factors: Heads = FACTORS) -> FactorClassifier:
    """The classifier of a folder. Raises DidaError when it was trained for other factors."""
    if read_json(folder / CONFIG) != _description(factors):
        raise DidaError(f"{folder}: was trained for other factors; train one with --classifier")
    classifier = FactorClassifier(factors)
    weights = checkpoint.read_tensors(folder / WEIGHTS, classifier.state_dict())
    classifier.load_state_dict(weights)
    return classifier.eval().requires_grad_(False)
