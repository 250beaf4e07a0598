"""Can a small network tell edits from real pictures? Where it cannot, it is right in 50 of 100.

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017): a network learns half of the edits
and as many real pictures, and is asked of the other half, whose contents it has not seen. It reads
pictures at their full resolution, as people see them, in 8 bits: rims, ghosts and specks are what
gives edits away.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import images
from dida_cli.evaluate import pairs
from dida_cli.evaluate.counterfactual import with_interval

WIDTHS = (16, 32, 48, 64)  # only the first layer keeps all pixels, the others halve
DETAIL = 10.0  # what tells a pixel from its neighbours counts so many times as much
EPOCHS, STEPS = 20, 200  # of the two what is less
BATCH, RATE = 8, 4e-3  # pictures of each kind in a step

DEFINITIONS = {
    "told_apart": "share of right answers of a small network that is asked whether a picture is an "
    "edit or real (a classifier two-sample test: Lopez-Paz and Oquab, 2017), with a Wilson 95 % "
    "interval (told_apart_low, told_apart_high); it learns half of the edits and as many real "
    "pictures, true answers where they are known, else of the target domain, and is asked of the "
    "other half, of other contents; 0.5: edits look real",
    "told_apart_of_real": "the same of real pictures that are split in two: what chance does",
    "asked": "pictures that the network is asked about",
}


class Inspector(nn.Module):
    """Pictures (N, 3, h, w) in [-1, 1] to logits (N,): above 0, they were edited.

    Without norms, which would even out how little it is that a picture differs by.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place, (c_in, c_out) in enumerate(zip((6, *WIDTHS), WIDTHS, strict=False)):
            stride = 2 if place else 1
            layers += [nn.Conv2d(c_in, c_out, 3, stride, padding=1), nn.LeakyReLU(0.2)]
        self.patches = nn.Sequential(*layers)
        self.verdict = nn.Linear(2 * WIDTHS[-1], 1)

    def forward(self, picture: Tensor) -> Tensor:
        around = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        found = self.patches(torch.cat([picture, DETAIL * (picture - around)], dim=1))
        everywhere = [found.mean((2, 3)), found.amax((2, 3))]  # a speck is in one place alone
        verdict: Tensor = self.verdict(torch.cat(everywhere, dim=1))
        return verdict[:, 0]


def score(edits: Tensor, real: Tensor, *, seed: int = 0) -> dict[str, float]:
    """How well edits are told from real pictures, and real ones from real ones.

    As many of both, (N, 3, h, w) in [-1, 1], N 4 or more. Equal for equal seeds; the global random
    state is left as it was. See `DEFINITIONS`.
    """
    right, asked = share_right(edits, real, seed=seed)
    of_real, _ = share_right(real[0::2], real[1::2], seed=seed)
    figures = with_interval("told_apart", right, asked)
    return figures | {"told_apart_of_real": of_real, "asked": asked}


def share_right(edits: Tensor, real: Tensor, *, seed: int = 0) -> tuple[float, int]:
    """The share of right answers about the second half of both, and how many were asked.

    The first half is learned. Picture i of both may be of one content: neither half has both.
    """
    count = min(len(edits), len(real))
    learned = count // 2
    edits, real = (images.to_unit(images.to_levels(p[:count])) for p in (edits, real))
    inspector = _trained(edits[:learned], real[:learned], seed)
    right = (_asked(inspector, edits[learned:]) > 0).sum()
    right += (_asked(inspector, real[learned:]) <= 0).sum()
    asked = 2 * (count - learned)
    return right.item() / asked, asked


def _trained(edits: Tensor, real: Tensor, seed: int) -> Inspector:
    """A network that has learned which is which; pictures of one content come together."""
    count = len(edits)
    batch = min(BATCH, count)
    steps = min(STEPS, EPOCHS * -(-count // batch))
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        inspector = Inspector()
        optimizer = torch.optim.Adam(inspector.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        order = torch.cat([torch.randperm(count) for _ in range(-(-steps * batch // count))])
        truth = torch.tensor([1.0, 0.0]).repeat_interleave(batch)
        for rows in order[: steps * batch].reshape(steps, batch):
            turned = (torch.rand(batch) < 0.5).repeat(2)[:, None, None, None]
            pictures = torch.cat([edits[rows], real[rows]])
            pictures = torch.where(turned, pictures.flip(-1), pictures)
            loss = F.binary_cross_entropy_with_logits(inspector(pictures), truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return inspector


def _asked(inspector: Inspector, pictures: Tensor) -> Tensor:
    """Logits (N,), the mean of a picture's and of its mirror image's."""
    with torch.no_grad():
        batches = torch.split(pictures, pairs.BATCH)
        return torch.cat([(inspector(x) + inspector(x.flip(-1))) / 2 for x in batches])
