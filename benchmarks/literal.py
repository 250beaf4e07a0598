"""A training step of Domain Intersection and Domain Difference as the release makes it.

Written anew from the equations and the released settings, with the release's habits: each domain
through each network apart, the critic's codes encoded once more with their graph kept, a power
iteration in every forward of a normed convolution, Adam one tensor at a time, no running mean.
"""

import torch
from dida_cli.didd import Didd
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli.config import ModelConfig, Weights
from dida_cli.nets import Critic
from dida_cli.train import BETAS

SLOPE, EPSILON, CLIP = 0.2, 1e-12, 5.0


class SpectralNorm(nn.Module):
    """A convolution whose weight is divided by its largest singular value, estimated anew."""

    def __init__(self, module: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.module = module
        weight = module.weight
        del module._parameters["weight"]
        rows = weight.shape[0]
        self.weight_bar = nn.Parameter(weight.detach().clone())
        self.u = nn.Parameter(F.normalize(torch.randn(rows), dim=0), requires_grad=False)
        self.v = nn.Parameter(torch.zeros(weight.numel() // rows), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight_bar.view(self.weight_bar.shape[0], -1)
        v = torch.mv(matrix.data.t(), self.u.data)
        self.v.data = v / (v.norm() + EPSILON)
        u = torch.mv(matrix.data, self.v.data)
        self.u.data = u / (u.norm() + EPSILON)
        sigma = self.u.dot(matrix.mv(self.v))
        self.module.weight = self.weight_bar / sigma
        return self.module(x)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self, widths: list[int], *, slip: bool = False) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(zip([3, *widths], widths, strict=False)):
            blocks.append(SpectralNorm(nn.Conv2d(c_in, c_out, 4, 2, 1)))
            if not (slip and i == 1):
                blocks.append(nn.InstanceNorm2d(c_out))
            blocks.append(nn.LeakyReLU(SLOPE, inplace=True))
        self.main = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x).flatten(1)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.channels = channels
        blocks: list[nn.Module] = []
        for c_in, c_out in zip([channels, *widths], widths, strict=False):
            blocks.append(SpectralNorm(nn.ConvTranspose2d(c_in, c_out, 4, 2, 1)))
            blocks += [nn.InstanceNorm2d(c_out), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*blocks, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, *codes: Tensor) -> Tensor:
        joined = torch.cat(codes, 1)
        grid = round((joined.shape[1] / self.channels) ** 0.5)
        return self.main(joined.view(-1, self.channels, grid, grid))  # type: ignore[no-any-return]


class Literal:
    """Both players and their optimizers; `paper` networks of any width."""

    def __init__(self, config: ModelConfig, weights: Weights, rate: float, device: str) -> None:
        wide, stages = config.width, config.stages
        doubling = [min(32 << k, wide) for k in range(stages - 1)]
        common = [*doubling[:-1], config.channels - config.separate_a, config.common]
        self.weights, self.device = weights, device
        self.e_common = Encoder(common, slip=True).to(device)
        self.e_a = Encoder([*doubling, config.separate_a]).to(device)
        self.e_b = Encoder([*doubling, config.separate_b]).to(device)
        self.decoder = Decoder(config.channels, doubling[::-1]).to(device)
        self.critic = nn.Sequential(
            nn.Linear(config.common * config.grid**2, 512),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(512, 1),
            nn.Sigmoid(),
        ).to(device)
        parts = (self.e_common, self.e_a, self.e_b, self.decoder)
        self.parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
        unfused = {"lr": rate, "betas": BETAS, "foreach": False, "fused": False}
        self.adam = torch.optim.Adam(self.parameters, **unfused)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), **unfused)

    def autoencoder_terms(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        common_a, common_b = self.e_common(a), self.e_common(b)
        a_of_a, a_of_b = self.e_a(a), self.e_a(b)
        b_of_a, b_of_b = self.e_b(a), self.e_b(b)
        rebuilt_a = self.decoder(common_a, a_of_a, torch.zeros_like(b_of_a))
        rebuilt_b = self.decoder(common_b, torch.zeros_like(a_of_b), b_of_b)
        verdict_a, verdict_b = self.critic(common_a), self.critic(common_b)
        return {
            "reconstruction_a": F.l1_loss(rebuilt_a, a),
            "reconstruction_b": F.l1_loss(rebuilt_b, b),
            "zero": a_of_b.abs().mean() + b_of_a.abs().mean(),
            "common": F.binary_cross_entropy(verdict_a, torch.ones_like(verdict_a))
            + F.binary_cross_entropy(verdict_b, torch.ones_like(verdict_b)),
        }

    def critic_term(self, a: Tensor, b: Tensor) -> Tensor:
        verdict_a, verdict_b = self.critic(self.e_common(a)), self.critic(self.e_common(b))
        loss = F.binary_cross_entropy(verdict_a, torch.zeros_like(verdict_a))
        return loss + F.binary_cross_entropy(verdict_b, torch.ones_like(verdict_b))

    def terms(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """All losses, unweighted, of pictures (B, 3, side, side) in [-1, 1]; nothing is learned."""
        a, b = a.to(self.device), b.to(self.device)
        return self.autoencoder_terms(a, b) | {"critic": self.critic_term(a, b)}

    def advance(self, a: Tensor, b: Tensor) -> None:
        """One step of both players on pictures (B, 3, side, side) in [-1, 1]."""
        a, b = a.to(self.device), b.to(self.device)
        terms = self.autoencoder_terms(a, b)
        self.adam.zero_grad()
        sum(getattr(self.weights, name) * term for name, term in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.adam.step()
        self.critic_adam.zero_grad()
        self.critic_term(a, b).backward()
        torch.nn.utils.clip_grad_norm_(self.critic.parameters(), CLIP)
        self.critic_adam.step()

    @torch.no_grad()
    def take_over(self, model: Didd, critic: Critic) -> None:
        """The weights of ours, with both power iterations at their fixed point.

        They make one step in ours and several here, so only there are they the same.
        """
        ours = model.encoders
        parts = {self.e_common: ours.common, self.e_a: ours.separate_a, self.e_b: ours.separate_b}
        for literal, own in [*parts.items(), (self.decoder, model.decoder)]:
            normed = [m for m in literal.modules() if isinstance(m, SpectralNorm)]
            sources = [m for m in own.modules() if hasattr(m, "parametrizations")]
            for to, source in zip(normed, sources, strict=True):
                norm, weight = source.parametrizations.weight[0], source.parametrizations.weight
                matrix = weight.original.flatten(1)
                norm._u.copy_(_first_singular(matrix))
                norm._v.copy_(F.normalize(matrix.t() @ norm._u, dim=0))
                to.weight_bar.copy_(weight.original)
                to.u.copy_(norm._u)
                to.module.bias.copy_(source.bias)
        last, own_last = self.decoder.main[-2], model.decoder[-1]
        last.load_state_dict(own_last.state_dict())
        own_critic = [layer for layer in critic.layers if isinstance(layer, nn.Linear)]
        for to, source in zip((self.critic[0], self.critic[2]), own_critic, strict=True):
            to.load_state_dict(source.state_dict())


def _first_singular(matrix: Tensor) -> Tensor:
    """The left singular vector of the largest singular value, in double precision."""
    wide = matrix.double()
    return torch.linalg.eigh(wide @ wide.t()).eigenvectors[:, -1].float()
