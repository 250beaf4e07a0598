"""The blocks that methods share: encoders, a decoder, and the critic that learns beside them.

Group norm keeps the flat colours that instance norm throws away, and channels halve from the
deepest stage outwards, so that twice the side costs little more.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise, product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from dida_cli.codes import Codes, Rendering
from dida_cli.config import CHANNELS, SIDES, Json, Part, require, require_rate
from dida_cli.errors import DidaError
from dida_cli.players import Batch, Network, Players

Architecture = Literal["compact", "paper"]  # these blocks, or a released layout (`paper.layouts`)
CriticTarget = Literal["half", "paper", "other"]

SLOPE = 0.2  # of the leaky ReLU
LEAST_WIDTH = 16  # channels of the outermost stages
UNSHUFFLED = 4  # pixels each way that become channels before a `Retoucher` begins
CHANGED = -3.0  # logits of what an untrained `Retoucher` changes, and of what a layer hides
TONED = -5.0  # the same of what it hides in the colour of what lies around
FAR, LITTLE = 0.02, 1e-5  # how much pixels count that are some way off, and pixels of grey
SHARP = 4  # the power of what a layer leaves, by which that counts as around it
SAME = 1e-4  # of a code's size; a difference up to here is rounding


@dataclass(frozen=True, kw_only=True)
class Settings(Json):
    """What every method with a common code is told.

    Attributes:
        grid: side of the codes' grid in cells; the picture's side halves to it.
        width: channels of the deepest stage of the common encoder and of the decoder.
        common, separate: channels of the common code, and of the code of a part.
        confusion: weight of the encoder's game with the critic.
        critic_target: what the encoder wants the critic to say of every picture: half, that it
            cannot tell; paper, that it comes from B; other, from the other domain.
        critic_start: steps before the encoder first answers to the critic.
        rate: learning rate at the start.
    """

    grid: int = 4
    width: int = 192
    common: int = 64
    separate: int = 8
    confusion: float = 0.2
    critic_target: CriticTarget = "half"
    critic_start: int = 200
    rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise DidaError(f"grid must be 2 cells or more, not {self.grid}")
        require(self, "width", "common", "separate", least=1, most=CHANNELS)
        require_rate(self, "rate")
        require(self, *(n for n, value in asdict(self).items() if isinstance(value, int | float)))

    def stages(self, side: int) -> int:
        """How often pictures are halved. Raises DidaError when they do not come to the grid."""
        stages = (side // self.grid).bit_length() - 1
        if stages < 2 or side != self.grid << stages:
            fitting = [s for k in range(2, 8) if SIDES[0] <= (s := self.grid << k) <= SIDES[1]]
            tip = f"try side {' or '.join(map(str, fitting))}" if fitting else "try grid 4"
            raise DidaError(
                f"side {side} does not halve two or more times to a grid of {self.grid}; {tip}"
            )
        return stages

    def widths(self, side: int) -> list[int]:
        """Channels after each halving of the common encoder, outermost first."""
        return [max(LEAST_WIDTH, self.width >> k) for k in reversed(range(self.stages(side)))]


def encoder(widths: list[int], code: int) -> nn.Module:
    """Pictures (N, 3, side, side) to a code (N, code, grid, grid)."""
    stages = [halved(*pair) for pair in pairwise([3, *widths])]
    return nn.Sequential(*chain(*stages), nn.Conv2d(widths[-1], code, 3, padding=1))


def decoder(settings: Settings, side: int, parts: int, out: int = 3) -> nn.Module:
    """Codes side by side (N, channels, grid, grid) to `out` raw channels (N, out, side, side)."""
    widths = settings.widths(side)[::-1]
    channels = settings.common + parts * settings.separate
    stages = [doubled(*pair) for pair in pairwise([channels, *widths])]
    return nn.Sequential(*chain(*stages), nn.Conv2d(widths[-1], out, 3, padding=1))


def same(before: int, after: int) -> nn.Sequential:
    """A 3x3 convolution, normed: (N, before, h, w) to (N, after, h, w)."""
    return _normed(nn.Conv2d(before, after, 3, padding=1))


def halved(before: int, after: int) -> nn.Sequential:
    """The same to half the side."""
    return _normed(nn.Conv2d(before, after, 4, stride=2, padding=1))


def doubled(before: int, after: int) -> nn.Sequential:
    """The same to twice the side."""
    return _normed(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    channels = conv.out_channels
    norm = nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.Sequential(conv, norm, nn.LeakyReLU(SLOPE, inplace=True))


class Encoders(nn.Module):
    """The common encoder, and a separate one for each part."""

    def __init__(
        self, common: nn.Module, separate_a: nn.Module, separate_b: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.common = common
        self.separate_a = separate_a
        self.separate_b = separate_b

    def forward(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        common = self.common(image)  # (N, C, grid, grid)
        b = common[:, :0] if self.separate_b is None else self.separate_b(image)
        return Codes(common, self.separate_a(image), b)


def encoders(settings: Settings, side: int, parts: int) -> Encoders:
    """Encoders of which the separate ones are half as wide."""
    widths = settings.widths(side)
    narrow = [max(LEAST_WIDTH, width // 2) for width in widths]
    common = encoder(widths, settings.common)
    return Encoders(common, *(encoder(narrow, settings.separate) for _ in range(parts)))


class Critic(nn.Module):
    """d: tells from a common code which domain its picture came from."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(settings.common * settings.grid**2, 512),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(512, 1),
        )

    def forward(self, common: Tensor) -> Tensor:
        """Common codes (N, C, grid, grid) to the logit (N,) that they come from B."""
        logits: Tensor = self.layers(common)
        return logits.squeeze(1).float()


class PartEncoder(nn.Module):
    """E_k: pictures (N, 3, s, s) to the code of a part (N, code + 1, s / 8, s / 8).

    All but the last channel are normalised, so that a code cannot shrink to nothing; the last one
    says how much of the part there is: 1.
    """

    def __init__(self, code: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            same(3 * UNSHUFFLED**2, width),
            halved(width, 2 * width),
            same(2 * width, 2 * width),
            nn.Conv2d(2 * width, code, 1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        code = normalised(self.layers(F.pixel_unshuffle(picture, UNSHUFFLED)).float())
        return torch.cat([code, torch.ones_like(code[:, :1])], dim=1)


class LayerEncoder(nn.Module):
    """E_k: a picture, and the same with a part taken off, to the part as a layer (N, 6, s, s).

    The layer is what was changed, how much it hides of what lies below, and how much it does so in
    the colour of what lies around there; these two are all that the network, a U-Net, has to find.
    The last channel is 1, as in `PartEncoder`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width]
        self.first = same(6 * UNSHUFFLED**2, width)
        self.down = nn.ModuleList(halved(*pair) for pair in pairwise(widths))
        self.middle = same(widths[2], widths[2])
        self.up = nn.ModuleList(doubled(*pair) for pair in pairwise(reversed(widths)))
        self.join = nn.ModuleList([same(widths[1], widths[1]), same(width, width)])
        self.last = nn.Conv2d(width, 2 * UNSHUFFLED**2, 3, padding=1)
        weight, bias = self.last.parameters()
        nn.init.zeros_(weight)
        nn.init.constant_(bias, CHANGED)
        nn.init.constant_(bias[UNSHUFFLED**2 :], TONED)

    def forward(self, picture: Tensor, bare: Tensor, mask: Tensor) -> Tensor:
        """picture, and bare, without the part: (N, 3, s, s); a layer hides nothing where the mask
        (N, 1, s, s) is 0."""
        both = F.pixel_unshuffle(torch.cat([picture, bare], dim=1), UNSHUFFLED)
        fine = self.first(both)
        coarse = self.down[0](fine)
        values = self.join[0](self.up[0](self.middle(self.down[1](coarse))) + coarse)
        values = self.join[1](self.up[1](values) + fine)
        logits = F.pixel_shuffle(self.last(values), UNSHUFFLED).float()
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
        shares = mask * logits.softmax(1)[:, 1:]
        hides = torch.cat([torch.zeros_like(picture), shares], dim=1)
        below = laid_over(bare, hides)
        added = picture - below  # over bare it gives the picture again
        added = torch.where(added < 0, added / (below + 1 + LITTLE), added)
        return torch.cat([added, shares, torch.ones_like(mask)], dim=1)


def laid_over(picture: Tensor, layer: Tensor) -> Tensor:
    """A picture (N, 3, s, s) in [-1, 1] with a layer (N, 5, s, s) over it: what that adds to red,
    green and blue or, below 0, which share of them it takes, so that what is dark loses less; how
    much it hides of what lies below, and of how much of that the colour of what lies around takes
    the place."""
    added, hidden, toned = layer[:, :3], layer[:, 3:4], layer[:, 4:]
    around = surroundings(picture, (1 - toned) ** SHARP)
    below = picture - (hidden + toned) * picture + toned * around
    added = torch.where(added < 0, added * (below + 1), added)
    return (below + added).clamp(-1, 1)


class Retoucher(nn.Module):
    """A U-Net on the picture, unshuffled by 4, that is told late what to change.

    Of each pixel it keeps a share, a share becomes what lies around, a share is painted. Where
    things are taken off, what lies around has the very colour that paint would have to meet. It
    begins by keeping nearly all. `smooth`: paint is what lies around in other colours, so that it
    is never far off, without the grid of dots that a critic asks for where paint has no grain.
    """

    def __init__(self, told: int, width: int, *, smooth: bool = False) -> None:
        super().__init__()
        self.smooth = smooth
        widths = [width, 2 * width, 8 * width // 3]  # a quarter, an eighth, a sixteenth of the side
        self.first = same(3 * UNSHUFFLED**2, widths[0])
        self.down = nn.ModuleList(halved(*pair) for pair in pairwise(widths))
        self.middle = nn.Sequential(same(widths[2] + told, widths[2]), same(widths[2], widths[2]))
        self.up = nn.ModuleList(doubled(*pair) for pair in pairwise(reversed(widths)))
        self.join = nn.ModuleList([same(widths[1] + told, widths[1]), same(widths[0], widths[0])])
        self.last = nn.Conv2d(widths[0], 5 * UNSHUFFLED**2, 3, padding=1)
        weight, bias = self.last.parameters()
        nn.init.zeros_(weight)
        nn.init.zeros_(bias)
        nn.init.constant_(bias[3 * UNSHUFFLED**2 :], CHANGED)

    def forward(self, picture: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """picture (N, 3, s, s) in [-1, 1], told (N, told, s / 8, s / 8) to another picture, and
        which share of each pixel is not kept: (N, 1, s, s)."""
        fine = self.first(F.pixel_unshuffle(picture, UNSHUFFLED))
        coarse = self.down[0](fine)
        values, told = self.down[1](coarse), told.to(fine.dtype)
        values = self.middle(torch.cat([values, F.avg_pool2d(told, 2)], dim=1))
        values = self.join[0](torch.cat([self.up[0](values) + coarse, told], dim=1))
        values = self.join[1](self.up[1](values) + fine)
        made = F.pixel_shuffle(self.last(values), UNSHUFFLED).float()
        made = without_grid(made) if self.smooth else made
        colours, logits = made[:, :3], made[:, 3:]
        shares = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).softmax(1)
        kept, around, painted = shares[:, :1], shares[:, 1:2], shares[:, 2:]
        near = surroundings(picture, kept)
        paint = (near + 2 * (colours / 2).tanh()).clamp(-1, 1) if self.smooth else colours.tanh()
        return kept * picture + around * near + painted * paint, around + painted


def surroundings(picture: Tensor, seen: Tensor) -> Tensor:
    """For each pixel the mean of those around it, weighed by how much is seen of them, the near
    ones first (normalised convolution: Knutsson and Westin, 1993).

    picture (N, 3, s, s); seen (N, 1, s, s) in [0, 1]; what is far from all that is seen is grey.
    """
    near = F.avg_pool2d(torch.cat([seen * picture, seen], dim=1), UNSHUFFLED)
    far = F.interpolate(F.avg_pool2d(near, UNSHUFFLED), near.shape[2:], mode="bilinear")
    weighed = box(near) + FAR * far
    total = F.interpolate(weighed, picture.shape[2:], mode="bilinear")
    return total[:, :3] / (total[:, 3:] + LITTLE)


def without_grid(values: Tensor) -> Tensor:
    """Maps (N, C, h, w) without what repeats every 4 pixels or every 2, as dots do that come of
    shuffling by 4 (Sugawara et al., 2018)."""
    values = F.pad(values, (2, 2, 2, 2), mode="replicate")
    for dim, step in product((-2, -1), (1, 2, 1)):  # 4 pixels, then 2
        values = summed(values, dim, (0, step))
    return values / 64


def box(pictures: Tensor) -> Tensor:
    """The mean of each pixel and its eight neighbours."""
    pictures = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    for dim in (-2, -1):
        pictures = summed(pictures, dim, (0, 1, 2))
    return pictures / 9


def summed(values: Tensor, dim: int, steps: Sequence[int]) -> Tensor:
    """Each value and those that lie so many further along a dimension, which gets shorter by the
    last: several times faster on a processor than pooling."""
    size = values.shape[dim] - steps[-1]
    first, *others = (values.narrow(dim, step, size) for step in steps)
    return sum(others, first)


class PictureCritic(nn.Module):
    """Tells real pictures from made ones, patch by patch, with a head for each kind of them.

    Spectral norm keeps its slope in bounds (Miyato et al., 2018).
    """

    def __init__(self, kinds: int, width: int) -> None:
        super().__init__()
        widths = [12, width, 2 * width, 3 * width]
        convs = [nn.Conv2d(*pair, 4, stride=2, padding=1) for pair in pairwise(widths)]
        convs += [nn.Conv2d(widths[-1], wide, 3, padding=1) for wide in (widths[-1], kinds)]
        layers = chain(*((spectral(conv), nn.LeakyReLU(SLOPE, inplace=True)) for conv in convs))
        self.layers = nn.Sequential(*layers)[:-1]

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures (N, 3, s, s) to what is said of each patch: (N, kinds, s / 16, s / 16)."""
        said: Tensor = self.layers(F.pixel_unshuffle(picture, 2))
        return said.float()


class Translator(Network):
    """Moves pictures from one domain to the other; `encode` gives the contents that the encoders of
    A and of B find, side by side, as the common code.

    It does nothing else: where codes ask for both parts or for none, pictures are left as they are.
    """

    def decode(self, content: Tensor, style: Tensor, part: Part) -> Tensor:
        """A content and what tells the domain's pictures apart, drawn in the domain of a part."""
        raise NotImplementedError

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """Pictures moved to the domain of the one part that codes ask for."""
        of_a, of_b = codes.common.chunk(2, dim=1)
        has_a, has_b = present(codes.a), present(codes.b)
        to_a, to_b = self.decode(of_b, codes.a, "a"), self.decode(of_a, codes.b, "b")
        image = torch.where(has_a, to_a, to_b)
        if onto is not None:
            image = torch.where(has_a ^ has_b, image, onto)
        return Rendering(image, None)


def players(network: Network) -> Players:
    """A network against a critic of its common codes, both by Adam as the papers have it."""
    settings, betas = network.settings, (0.5, 0.999)
    assert isinstance(settings, Settings)
    critic = Critic(settings)
    return Players(network, critic, rate=settings.rate, betas=betas, clip=5.0, critic_betas=betas)


def domains(batch: Batch) -> tuple[Tensor, Tensor]:
    """Pictures of domain A and of domain B, each (B, 3, side, side)."""
    return batch["a"].has, batch["b"].has if "b" in batch else batch["a"].lacks


def own_parts(codes: Codes) -> Codes:
    """Each picture's common code with its own domain's part alone: (c, E_A(a), 0), (c, 0, E_B(b)).

    `codes` are of 2 B pictures, A's first.
    """
    (a, other_a), (other_b, b) = codes.a.chunk(2), codes.b.chunk(2)
    own_a, own_b = [a, torch.zeros_like(other_a)], [torch.zeros_like(other_b), b]
    return Codes(codes.common, torch.cat(own_a), torch.cat(own_b))


def zero(codes: Codes) -> Tensor:
    """mean |E_A(b)| + mean |E_B(a)| of 2 B pictures, A's first (ICCV 2019, "Zero" loss)."""
    a_in_b, b_in_a = codes.a.chunk(2)[1].float(), codes.b.chunk(2)[0].float()
    loss = a_in_b.abs().mean()
    return loss + b_in_a.abs().mean() if b_in_a.numel() else loss


def game(critic: nn.Module, common: Tensor, settings: Settings, step: int) -> dict[str, Tensor]:
    """The game over common codes (2 B, C, grid, grid), A's first (ICCV 2019, "common" loss).

    confusion     BCE(d(E_c(a)), t) + BCE(d(E_c(b)), t), weighted; the paper's t is 1, half is 0.5,
                  other is what d should not say
    critic        BCE(d(E_c(a)), 0) + BCE(d(E_c(b)), 1), of codes that are held still
    critic_right  the share that d gets right: 0.5 is what the encoder wants; a figure
    """
    still = {name: value.detach() for name, value in critic.named_parameters()}
    said = torch.func.functional_call(critic, still, (common,))
    weight = settings.confusion if step >= settings.critic_start else 0.0
    heard = critic(common.detach())
    truth = torch.zeros_like(heard)
    truth[len(truth) // 2 :] = 1
    target = settings.critic_target
    wanted = (
        1 - truth if target == "other" else torch.full_like(said, 0.5 if target == "half" else 1)
    )
    return {
        "confusion": weight * 2 * F.binary_cross_entropy_with_logits(said, wanted),
        "critic": 2 * F.binary_cross_entropy_with_logits(heard, truth),
        "critic_right": ((heard.detach() > 0) == (truth > 0.5)).float().mean(),
    }


def normalised(code: Tensor) -> Tensor:
    """Codes of mean 0 and mean square 1; nothing stays nothing."""
    return F.group_norm(code, 1, eps=1e-8)


def present(code: Tensor) -> Tensor:
    """Whether each picture's code of a part is not nothing: bool (N, 1, 1, 1)."""
    return code.flatten(1).any(1)[:, None, None, None]


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Whether each picture's code of a part is another one: bool (N, 1, 1, 1).

    A picture encoded in another batch gives other last digits, which are no change.
    """
    moved = (after - before).flatten(1).abs().sum(1)
    return (moved > SAME * before.flatten(1).abs().sum(1))[:, None, None, None]


def spectral(conv: nn.Module) -> nn.Module:
    """Spectral norm over the weight's first dimension x the rest, as released."""
    return parametrizations.spectral_norm(conv, dim=0, eps=1e-12)


def bake_spectral(modules: Iterable[nn.Module]) -> None:
    """Replace every normed weight by its value, in place: what a saved model holds."""
    for module in modules:
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
