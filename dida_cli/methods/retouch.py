"""Retouch, ours: one network changes the picture itself, and all that it is taught is real.

For each part k (smile, glasses) there are pictures that have it, W, and pictures that lack it and
are otherwise alike, V. No two of them are of one face.

    T(x, k, code | nothing)    puts the part of a code on, or takes it off, by laying over x what
                               lies around, and paint
    E_k(w)                     the code of a part, of a picture that has it
    d                          the critic: of W, or of V, patch by patch

A part with `code = 0` T takes off alone, and E_k(w) is a layer: what taking the part off w changes,
how much that hides of what lies below, and how much of it in the colour of what lies around there.
It is laid over x as it is.

A step edits real pictures, w taken off, v put on by the code of some w. Then every edit is taught
to become the picture again that it was made of. Its input is an edit, its target is real
(back-translation: Sennrich et al., 2016; Lample et al., 2018; residual edits: Shen and Liu, 2017;
image critics with cycles: Zhu et al., 2017).

    back      |T(visible T(v, k, E(w)), k, nothing) - v| and |T(visible T(w, k, nothing), k, E(w)) -
              w|; the input is now and then the target itself; what was changed counts more. A layer
              gives w again as it is, so the second is of codes alone
    realism   d says that T(w, k, nothing) is of V and T(v, k, E(w)) of W
    change    mean over pixels of the largest |edit - x| near: what need not change stays, and no
              half of the pixels is cheaper than all of them
    taught    |edit - teacher's edit| at the teacher's side, if there is a teacher, a model that
              learned the parts by another method: from step to step less where the teacher
              changes a picture, to the end where it does not
    drawn     where the part was put into pictures, which so are pairs, T makes each of the other,
              by the code of another face with the same part, and leaves a third of those without
              it as they are. Layers are learned from these alone then, and `realism` asks for
              nothing where no pair of the batch differs
    open      -log of the share of a pixel that T does not keep, where these pairs differ and no
              teacher begins
    critic    hinge of d: real pictures against edits, and against real ones of the other side

Without `realism`, a teacher or pairs nothing begins, and a teacher's edits are the first inputs of
`back`. Paint is poor at first, so T would keep every pixel, and a share that is nothing has no
gradient: hence `open`. `change` and targets as inputs keep edits from touching the rest. What an
edit leaves could tell the way back, so that no code is needed. Therefore a change that nobody sees
is none (`visible`), inputs are made with more or less of their change, with some of the change of
other pictures, and are seen, with their targets, through a blur.
There is no common code. Whether a picture has a part is told by how much of it taking it off would
change (`least`).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import disturbed, nets, teacher
from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import CHANNELS, Json, ModelConfig, Part, require, require_rate
from dida_cli.disturbed import largest, resized, some, visible
from dida_cli.errors import DidaError
from dida_cli.methods import settings_of
from dida_cli.players import Batch, Pairs, Players, Sides, of_part
from dida_cli.players import Network as Base

ABILITIES: frozenset[Ability] = frozenset({"masks", "two parts"})
TAKES = "parts"

PER_PART = "code", "realism", "least"
SEEN = 0.1  # of 2: pixels that were changed by more count as changed
GRID = 8  # pixels each way that a cell of a code is for
UNWORN = 0.35  # of the pairs have nothing that could be taken off
NEGATIVE = 0.4  # of the critic's negatives are real pictures of the other side
OPEN, TINY = 0.05, 1e-30  # weight of the term, and the smallest share it tells from none


@dataclass(frozen=True, kw_only=True)
class Settings(Json):
    """What a recipe may say.

    Attributes:
        code: channels of a part's code, of each part or of all; 0: it is a layer.
        width: channels of the outermost stage of T; the others have 2 and 8/3 times as many.
        encoder_width, critic_width: the same of E and of d.
        rate, critic_rate: learning rates at the start.
        realism: weight of the term, of each part or of all.
        change: weight of the term.
        focus: how many times more a changed pixel counts in `back` and in `taught`.
        least: share of a picture that taking a part off changes where it is there, of each part or
            of all.
        teacher: the model that begins the training, a name or a folder; empty: none does.
        lessons: steps in which the teacher's part falls to nothing.
    """

    code: list[int] = field(default_factory=lambda: [16])
    width: int = 48
    encoder_width: int = 24
    critic_width: int = 32
    rate: float = 8e-4
    critic_rate: float = 4e-4
    realism: list[float] = field(default_factory=lambda: [0.08])
    change: float = 0.1
    focus: float = 8.0
    least: list[float] = field(default_factory=lambda: [0.004])
    teacher: str = ""
    lessons: int = 2000

    def __post_init__(self) -> None:
        if not all(0 <= code <= CHANNELS // 16 for code in self.code):
            raise DidaError(f"code must be 0, for a layer, to {CHANNELS // 16}, not {self.code}")
        require(self, "width", "encoder_width", "critic_width", least=1, most=CHANNELS // 16)
        require_rate(self, "rate", "critic_rate")
        for name in PER_PART:
            if len(getattr(self, name)) not in (1, 2):
                raise DidaError(f"{name} must be one number, or one for each part")
        require(self, *PER_PART, "change", "focus", "lessons")

    def of(self, name: Literal["code", "realism", "least"], place: int) -> float:
        """What is said of each part, or of all, of the part of this place."""
        values: list[float] = getattr(self, name)
        return values[place % len(values)]


class Network(Base):
    """T and the encoders of the parts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        settings: Settings = settings_of(config)
        if config.side % (2 * GRID):
            raise DidaError(f"side {config.side} is no multiple of 16; try 64, 96 or 128")
        self.settings, count = settings, len(config.parts)
        self.abilities = ABILITIES if count == 2 else ABILITIES - {"two parts"}
        self.channels = [int(settings.of("code", place)) for place in range(count)]
        self.laid = [code == 0 for code in self.channels]
        told = sum(self.channels) + count
        self.retoucher = nets.Retoucher(told, settings.width, smooth=all(self.laid))
        self.encoders = nn.ModuleList(
            nets.LayerEncoder(settings.encoder_width)
            if code == 0
            else nets.PartEncoder(code, settings.encoder_width)
            for code in self.channels
        )

    def encode(self, image: Tensor) -> Codes:
        """The codes of the parts that pictures have; nothing where taking off changes little."""
        codes = []
        for place in range(len(self.encoders)):
            off = self.off(image, place)
            mask = visible(image, visible(image, off)[0])[1]
            has = mask.mean((1, 2, 3), keepdim=True) > self.settings.of("least", place)
            codes.append(self.encoded(image, place, off) * has)
        none = codes[0][:, :0]
        return Codes(none, *codes, *([none] * (2 - len(codes))))

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """What changes is taken off first, then put on; all else of `onto` stays bit for bit."""
        assert onto is not None, "there is no picture but the one that is changed"
        own = self.encode(onto) if own is None else own
        image = onto
        changes = {p: nets.changed(own.of(p), codes.of(p)) for p in self.config.parts}
        for place, (part, changed) in enumerate(changes.items()):
            dropped = changed & nets.present(own.of(part))
            if self.every or dropped.any():
                image = torch.where(dropped, self.taken_off(image, place), image)
        for place, (part, changed) in enumerate(changes.items()):
            added = changed & nets.present(codes.of(part))
            if self.every or added.any():
                image = torch.where(added, self.put_on(image, place, codes.of(part)), image)
        return Rendering(*visible(onto, image.clamp(-1, 1)))

    def encoded(self, image: Tensor, place: int, off: Tensor | None = None) -> Tensor:
        """E_k(w); `off` is T(w, k, nothing), where that is known already."""
        if not self.laid[place]:
            code: Tensor = self.encoders[place](image)
            return code
        if off is None:
            with torch.no_grad():
                off = self.off(image, place)
        bare, mask = visible(image, off.detach())  # T is not to change more for a layer's sake
        layer: Tensor = self.encoders[place](image, bare, largest(mask, 3))
        return layer

    def taken_off(self, image: Tensor, place: int) -> Tensor:
        """Pictures without the part of this place, where people see that it is gone."""
        return visible(image, self.off(image, place))[0]

    def put_on(self, image: Tensor, place: int, code: Tensor) -> Tensor:
        """Pictures that lack the part of this place with that of a code, as much as it says."""
        amount = code[:, -1:].mean((2, 3), keepdim=True)
        code = code[:, :-1]
        code = code / (amount + nets.LITTLE) if self.laid[place] else nets.normalised(code)
        return image + amount * (visible(image, self.on(image, place, code))[0] - image)

    def off(self, image: Tensor, place: int) -> Tensor:
        """T(x, k, nothing)."""
        return self.retouched(image, place, None)[0]

    def on(self, image: Tensor, place: int, code: Tensor) -> Tensor:
        """T(x, k, code); code: (N, code, s / 8, s / 8), or a layer."""
        if self.laid[place]:
            return nets.laid_over(image, code)
        return self.retouched(image, place, code)[0]

    def retouched(self, image: Tensor, place: int, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """What T makes of pictures, and which share of each pixel it does not keep, (N, 1, s, s).

        It is told a code of each part and 1 where it is put on, 0 and -1 where it is taken off, all
        0 for the parts that are not at this place.
        """
        nothing = torch.zeros_like(image[:, :1, ::GRID, ::GRID])
        of_all = [nothing.expand(-1, channels + 1, -1, -1) for channels in self.channels]
        if code is None:
            of_all[place] = torch.cat([of_all[place][:, 1:], nothing - 1], dim=1)
        else:
            of_all[place] = torch.cat([code, nothing + 1], dim=1)
        made: tuple[Tensor, Tensor] = self.retoucher(image, torch.cat(of_all, dim=1))
        return made


def players(network: Base) -> Players:
    """T and E against d."""
    settings: Settings = settings_of(network.config)
    critic = nets.PictureCritic(2 * len(network.config.parts), settings.critic_width)
    rates = {"rate": settings.rate, "critic_rate": settings.critic_rate}
    return Players(network, critic, betas=(0.5, 0.99), critic_betas=(0.0, 0.99), clip=1.0, **rates)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted, each the mean over the parts."""
    network = players.network
    assert isinstance(network, Network)
    found, drawn = [], []
    for part in network.config.parts:
        sides, pairs = of_part(batch, part)
        found.append(_of_part(players, part, sides, pairs, step))
        if pairs is not None:
            drawn.append(_of_pairs(players, part, pairs))
    terms = [*found, *drawn]
    names = dict.fromkeys(name for of in terms for name in of)
    return {name: torch.stack([of[name] for of in terms if name in of]).mean() for name in names}


def _of_part(
    players: Players, part: Part, sides: Sides, pairs: Pairs | None, step: int
) -> dict[str, Tensor]:
    """The terms of one part, weighted."""
    network, critic = players.network, players.critic
    assert isinstance(network, Network)
    place, settings = network.config.parts.index(part), network.settings
    real = torch.cat(sides)  # W, then V
    off = network.off(sides.has, place)
    code = network.encoded(sides.has, place, off)[:, :-1]
    edit = torch.cat([off, network.on(sides.lacks, place, code)])
    # layers learn from true pairs alone, where there are any
    laid = network.laid[place]
    learns = slice(len(off) if laid and pairs is not None else None)
    terms, asked = {}, edit
    if pairs is not None:  # nothing is asked for where no pair differs
        asked = real + _where(pairs) * (edit - real)
    shift = (asked - real).detach()
    if players.teacher is not None:
        rest = max(0.0, 1 - step / settings.lessons) if settings.lessons else 0.0
        told = teacher.told(players.teacher, part, sides)
        taught = (edit - real)[learns], told[learns]
        terms["taught"] = teacher.taught(*taught, rest, settings.focus)
        shift = torch.where(some(real, rest), resized(told, real.shape[-1]), shift)
    with torch.no_grad():
        bare, worn = disturbed.inputs(real, shift).chunk(2)
    undone = torch.cat([worn - sides.lacks, bare - sides.has])
    critic.requires_grad_(False)
    courted = _of_side(critic(asked), place, edited=True)[learns]
    terms |= {
        "back": _back(network, place, None if laid else code, Sides(worn, bare), sides, undone)[0],
        "realism": -settings.of("realism", place) * courted.mean(),
        "change": settings.change * largest(edit - real, 5)[learns].mean(),
    }
    critic.requires_grad_(True)
    of_real, of_edit = critic(torch.cat([real, asked.detach()])).chunk(2)
    true = _of_side(of_real, place, edited=False)
    false, other = (_of_side(said, place, edited=True) for said in (of_edit, of_real))
    terms["critic"] = F.relu(1 - true).mean() + (
        (1 - NEGATIVE) * F.relu(1 + false).mean() + NEGATIVE * F.relu(1 + other).mean()
    )
    return terms


def _of_pairs(players: Players, part: Part, pairs: Pairs) -> dict[str, Tensor]:
    """The terms of a part that was put into pictures, weighted.

    Where a guide's face is another, what its code tells but the part is of no use.
    """
    network = players.network
    assert isinstance(network, Network)
    place = network.config.parts.index(part)
    code = network.encoded(pairs.guide, place)[:, :-1]
    change = pairs.has - pairs.lacks
    worn = torch.where(some(change, UNWORN), pairs.lacks, pairs.has)
    given, sides = Sides(worn, pairs.lacks), Sides(pairs.has, pairs.lacks)
    error, open_at = _back(network, place, code, given, sides, torch.cat([change, change]))
    if players.teacher is not None:
        return {"drawn": error}
    differs = largest(torch.cat([worn - pairs.lacks, change]), 3)[: len(open_at)] > SEEN
    shut = -(differs * open_at.clamp_min(TINY).log()).sum() / (differs.sum() + 1)
    return {"drawn": error, "open": OPEN * shut}


def _where(pairs: Pairs) -> Tensor:
    """Where any of the pairs differ, and near: (1, 1, s, s) in [0, 1]."""
    differs = (largest(pairs.has - pairs.lacks, 5) > SEEN).float().amax(0, keepdim=True)
    return nets.box(nets.box(largest(differs, 5)))


def _back(
    network: Network, place: int, code: Tensor | None, given: Sides, target: Sides, change: Tensor
) -> tuple[Tensor, Tensor]:
    """How far pictures that lose a part, and if there is a code others that get it, are from what
    they should be, and which share of their pixels T did not keep; `change` is between given and
    target, first of those that lose it."""
    (worn, bare), (has, lacks) = given, target
    with torch.no_grad():
        worn, lacks = disturbed.seen(worn, lacks)
    made, open_at = network.retouched(worn, place, None)
    wanted = lacks
    if code is not None:
        if network.laid[place]:  # a layer looks at nothing below
            put_on = network.on(bare, place, code)
        else:  # T is to find no trace of its target
            with torch.no_grad():
                bare, has = disturbed.seen(bare, has)
            put_on, also = network.retouched(bare, place, code)
            open_at = torch.cat([open_at, also])
        made, wanted = torch.cat([made, put_on]), torch.cat([wanted, has])
    return _error(made, wanted, change[: len(made)], network.settings.focus), open_at


def _error(made: Tensor, target: Tensor, change: Tensor, focus: float) -> Tensor:
    """mean |made - target|, pixels near those that were changed counting 1 + focus times."""
    weight = 1 + focus * (largest(change, 5) > SEEN).float()
    return ((made - target).abs() * weight).mean() / weight.mean()


def _of_side(said: Tensor, place: int, *, edited: bool) -> Tensor:
    """What d says of W, then V: whether they are of their own side, or `edited` to the other."""
    has, lacks = said[:, 2 * place + 1], said[:, 2 * place]
    half = len(said) // 2
    return torch.cat([lacks[:half], has[half:]] if edited else [has[:half], lacks[half:]])
