"""The released networks, written from their tables, and checkpoints as their programs save them.

Not the authors' code: only the layouts, the tensors' names and the arithmetic are theirs. Weights
are random, the running means of batch norms too. `width` is 512 in every release.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

SEP, WIDTH = 25, 512
Tensors = dict[str, Any]


class SpectralNorm(nn.Module):
    """Before every use, in eval mode too: a step of power iteration, then weight_bar / sigma."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        weight = conv.weight.detach()
        del conv.weight
        rows, columns = weight.flatten(1).shape
        conv.weight_u = nn.Parameter(unit(torch.randn(rows)), requires_grad=False)
        conv.weight_v = nn.Parameter(unit(torch.randn(columns)), requires_grad=False)
        conv.weight_bar = nn.Parameter(weight)
        self.module = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.module
        matrix = conv.weight_bar.flatten(1)
        conv.weight_v.data = unit(matrix.t() @ conv.weight_u)
        conv.weight_u.data = unit(matrix @ conv.weight_v)
        conv.weight = conv.weight_bar / (conv.weight_u @ (matrix @ conv.weight_v))
        return conv(x)


def unit(vector: Tensor) -> Tensor:
    return vector / (vector.norm() + 1e-12)


def named(**parts: nn.Module) -> nn.Module:
    """Modules one after the other, by their names in the checkpoint."""
    return nn.Sequential(OrderedDict(parts))


def down(c_in: int, c_out: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, 4, stride=2, padding=1)


def up(c_in: int, c_out: int) -> nn.Module:
    return nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1)


def upto(width: int, *channels: int) -> list[int]:
    return [min(width, c) for c in channels]


def didd_encoder(channels: Iterable[int], *, slip: bool = False) -> nn.Module:
    """l1 to l6; with the slip, l2 has no norm."""
    stages = {}
    for i, (c_in, c_out) in enumerate(pairwise([3, *channels]), 1):
        norm = [] if slip and i == 2 else [nn.InstanceNorm2d(c_out)]
        stages[f"l{i}"] = nn.Sequential(
            SpectralNorm(down(c_in, c_out)), *norm, nn.LeakyReLU(0.2, inplace=True)
        )
    return named(**stages, flat=nn.Flatten())


def didd_decoder(size: int, width: int) -> nn.Module:
    """l1 to l5 with spectral norm, l6 without."""
    stages = {}
    for i, (c_in, c_out) in enumerate(pairwise([width, *upto(width, 512, 256, 128, 64, 32)]), 1):
        stages[f"l{i}"] = nn.Sequential(
            SpectralNorm(up(c_in, c_out)), nn.InstanceNorm2d(c_out), nn.ReLU(inplace=True)
        )
    last = nn.Sequential(up(32, 3), nn.Tanh())
    return named(square=nn.Unflatten(1, (width, size, size)), **stages, l6=last)


def flat_encoder(channels: Iterable[int], norm: Callable[[int], nn.Module]) -> nn.Module:
    """The encoders of the other two releases: everything in `full`."""
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise([3, *channels]):
        layers += [down(c_in, c_out), norm(c_out), nn.LeakyReLU(0.2, inplace=True)]
    return named(full=nn.Sequential(*layers), flat=nn.Flatten())


def flat_decoder(
    size: int,
    width: int,
    out: int,
    norm: Callable[[int], nn.Module],
    activation: Callable[[], nn.Module],
    end: nn.Module,
) -> nn.Module:
    """The decoders of the other two releases: everything in `main`."""
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise([width, *upto(width, 512, 256, 128, 64, 32)]):
        layers += [up(c_in, c_out), norm(c_out), activation()]
    main = nn.Sequential(*layers, up(32, out), end)
    return named(square=nn.Unflatten(1, (width, size, size)), main=main)


class Painter(nn.Module):
    """D_B: what the code paints onto a picture, and the mask."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.main = decoder.main
        self.square = decoder.square

    def forward(self, code: Tensor, onto: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.main(self.square(code))
        mask = raw[:, :1].sigmoid()
        return mask * raw[:, 1:].tanh() + (1 - mask) * onto, mask


def critic(code: int) -> nn.Module:
    layers = [nn.Linear(code, 512), nn.LeakyReLU(0.2, inplace=True), nn.Linear(512, 1)]
    return named(flat=nn.Flatten(), classify=nn.Sequential(*layers, nn.Sigmoid()))


def didd(size: int = 2, width: int = WIDTH, sep: int = SEP) -> dict[str, nn.Module]:
    """Domain Intersection and Domain Difference, by keys of the checkpoint; 64 * size pixels."""
    common = width - 2 * sep
    early = upto(width, 32, 64, 128, 256)
    return randomized(
        {
            "e_common": didd_encoder([*early, width - sep, common], slip=True),
            "e_separate_A": didd_encoder([*early, width, sep]),
            "e_separate_B": didd_encoder([*early, width, sep]),
            "decoder": didd_decoder(size, width),
            "disc": critic(common * size**2),
        }
    )


def mask(size: int = 2, width: int = WIDTH, sep: int = SEP) -> dict[str, nn.Module]:
    """Mask Based Unsupervised Content Transfer, by keys of the checkpoint."""
    norm, leaky = nn.BatchNorm2d, lambda: nn.LeakyReLU(0.2, inplace=True)
    nets = one_sided(size, width, sep, norm)
    nets["d_a"] = flat_decoder(size, width, 3, norm, leaky, nn.Tanh())
    nets["d_b"] = Painter(flat_decoder(size, width, 4, norm, leaky, nn.Identity()))
    return randomized(nets)


def press(size: int = 2, width: int = WIDTH, sep: int = SEP) -> dict[str, nn.Module]:
    """Guided content transfer, by keys of the checkpoint."""
    norm = nn.InstanceNorm2d
    nets = one_sided(size, width, sep, norm)
    nets["decoder"] = flat_decoder(size, width, 3, norm, nn.ReLU, nn.Tanh())
    return randomized(nets)


def one_sided(
    size: int, width: int, sep: int, norm: Callable[[int], nn.Module]
) -> dict[str, nn.Module]:
    common, narrow = width - sep, width // 4
    return {
        "e1": flat_encoder([*upto(width, 32, 64, 128, 256), common, common], norm),
        "e2": flat_encoder([*upto(narrow, 32, 64, 128, 128, 128), sep], norm),
        "disc": critic(common * size**2),
    }


def randomized(nets: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """In eval mode, with batch norms as if trained: scales, shifts, running means and variances."""
    for net in nets.values():
        net.eval().requires_grad_(False)
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.3)
                layer.running_mean.normal_(std=0.3)
                layer.running_var.uniform_(0.2, 2)
                layer.num_batches_tracked.fill_(150_000)
    return nets


def saved(nets: dict[str, nn.Module], names: dict[str, str] | None = None) -> Tensors:
    """The dictionary that a released program pickles; `names` are older keys."""
    autoencoder = [p for key, net in nets.items() if key != "disc" for p in net.parameters()]
    others = [*nets["disc"].parameters()]
    optimizers = {
        "ae_opt": torch.optim.Adam(autoencoder, lr=2e-4, betas=(0.5, 0.999)),
        "disc_opt": torch.optim.Adam(others, lr=2e-4, betas=(0.5, 0.999)),
    }
    for parameter in others:
        parameter.grad = torch.zeros_like(parameter)
    optimizers["disc_opt"].step()
    states = {
        (names or {}).get(key, key): OrderedDict(
            (n, t.clone()) for n, t in net.state_dict().items()
        )
        for key, net in nets.items()
    }
    return states | {key: one.state_dict() for key, one in optimizers.items()} | {"iters": 1234}
