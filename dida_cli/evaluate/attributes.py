"""A classifier that reads an avatar's factors from its picture: the judge of every edit.

It is trained on the training partition of an avatar set alone, with mild noise and blur so that a
decoder's softness does not decide, and its own accuracy on real pictures is always told beside
what it says of edited ones.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import checkpoint, images
from dida_cli.config import ModelConfig
from dida_cli.data import avatars
from dida_cli.errors import DidaError

SIDE = 64  # pixels the classifier sees; larger pictures are averaged down
WIDTHS = (32, 64, 96, 128)
EPOCHS, BATCH, RATE = 6, 64, 2e-3

# Factor -> its values in the order of the classifier's outputs.
FACTORS: dict[str, list[str]] = {
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

    def __init__(self) -> None:
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
            {name: nn.Linear(256, len(values)) for name, values in FACTORS.items()}
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits (N, values) by factor, in the order of `FACTORS`."""
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
    factor, present = {
        "Smiling": ("mouth", avatars.SMILES),
        "Eyeglasses": ("glasses", avatars.GLASSES),
        "Beard": ("beard", avatars.BEARDS),
    }[attribute]
    log_p = logits[factor].log_softmax(dim=1)
    is_present = torch.tensor([value in present for value in FACTORS[factor]])
    return torch.stack([log_p[:, is_present].logsumexp(1), log_p[:, ~is_present].logsumexp(1)], 1)


def train(
    root: Path, seed: int = 0, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> FactorClassifier:
    """A classifier trained on the training partition of the avatar set in `root`."""
    from dida_cli.data import celeba, folders

    records = [json.loads(line) for line in (root / "factors.jsonl").read_text().splitlines()]
    names = [record.pop("image") for record in records]
    parts = celeba.read_partition(root / celeba.PARTITION_LIST, names)
    chosen = [i for i in range(len(names)) if parts[i] == celeba.TRAIN]
    config = ModelConfig(side=2 * SIDE)  # as most models' pictures come, then averaged down
    pictures = folders.load([root / "images" / names[i] for i in chosen], config)
    truth = labels([avatars.Factors(**records[i]) for i in chosen])
    torch.manual_seed(seed)
    classifier = FactorClassifier()
    total = EPOCHS * (len(chosen) // BATCH)
    if not total:
        raise DidaError(f"{root}: needs {BATCH} training avatars or more to train the classifier")
    optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=total)
    step = 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(chosen))[: total // EPOCHS * BATCH].split(BATCH):  # type: ignore[no-untyped-call]
            logits = classifier(_spoil(images.to_unit(pictures[rows])))
            loss = sum(F.cross_entropy(logits[name], truth[name][rows]) for name in FACTORS)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
            schedule.step()
            step += 1
            on_progress(step, total)
    return classifier.eval().requires_grad_(False)


def _spoil(pictures: Tensor) -> Tensor:
    """Half of the pictures blurred, a little noise on all: what decoders do to pictures."""
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = torch.rand(len(pictures), 1, 1, 1) * (torch.rand(len(pictures), 1, 1, 1) < 0.5)
    return pictures + amount * (blurred - pictures) + 0.05 * torch.randn_like(pictures)


def save(classifier: FactorClassifier, folder: Path, card: str) -> None:
    """Write the classifier as a folder, beside the models it judges."""
    description = {"method": "factors", "side": SIDE, "factors": FACTORS}
    checkpoint.write_folder(
        folder,
        {
            checkpoint.CONFIG: (json.dumps(description) + "\n").encode(),
            checkpoint.CARD: card.encode(),
            checkpoint.WEIGHTS: dict(classifier.state_dict()),
        },
    )


def load(folder: Path) -> FactorClassifier:
    """The classifier of a folder. Raises DidaError when it was trained for other factors."""
    description = checkpoint.read_json(folder / checkpoint.CONFIG)
    if description != {"method": "factors", "side": SIDE, "factors": FACTORS}:
        raise DidaError(f"{folder}: was trained for other factors; train one with --classifier")
    classifier = FactorClassifier()
    expected = {name: (t.shape, t.dtype) for name, t in classifier.state_dict().items()}
    classifier.load_state_dict(checkpoint.read_tensors(folder / checkpoint.WEIGHTS, expected))
    return classifier.eval().requires_grad_(False)


def to_batch(pictures: Sequence[images.Picture], side: int) -> Tensor:
    """RGB pictures of one size to (N, 3, side, side) in [-1, 1]."""
    return images.to_tensor(pictures, ModelConfig(side=side))
