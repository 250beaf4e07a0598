"""Going on with a model of masks: its common encoder alone learns to see through glass.

In a training of everything an edit teaches the common encoder what glass hid (`mask`, the terms
`cycle` and `cycle_common`) at the price of a pass of all networks, and by glass that is never quite
solid. Here all else stands still, and the common encoder as it was in the model that was begun from
is the teacher (a distillation, Hinton et al., 2015). Faces of the domain without the part are given
it, and as far as can be the encoder is to say of them what it said of the bare face:

    term              formula                              what it does
    cycle             |base - base*| where was painted     eyes and brows are seen through glass
    cycle_common      |E_c(edit) - c*| / |c*|, and the     so is all else, and bare faces stay what
                      same of the bare face                they are
    exchange          |blend(layer, base, m) - the same*|  so does the bare face's own part: its
                      of (E_c(edit), the own part)         smile does not come over a moustache
    reconstruction    |blend(layer, base, m) - x|          and real glass is seen as painted is
                      of pictures with the part
    common            see `losses`

* is the teacher's, of the bare face. Edits are the teacher's too, but more as they would be drawn:
half of the faces keep their own part; and where a layer that knows nothing of the face it was seen
on is as its picture is (`TRUE`), the part hides all there is, and the picture's own pixels are
pasted. A frame is then a frame, for painted glass is never quite solid, and what shines through it
would be learned instead.

The decoder is not to learn from edits. Of a brow that may be here or there half a brow is the best
guess: one that learned it, in 1,500 steps, showed brows and eyes under glasses by 68 % of their
contrast instead of 72, and fewer were told apart, though pictures came 0.9 dB nearer to the truth.
Left still, it showed 75 %, at 1.0 dB.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes
from dida_cli.config import OTHER, PARTS, CriticTarget, Part, Weights
from dida_cli.losses import Losses, error, mean_over, relative
from dida_cli.mask import Layers, layers_and_bases, seen_through
from dida_cli.painting import blend, of_any_strength, taken_off

OWN = 0.5  # of the faces that are given a part keep their own
STRENGTH = (0.8, 1.6)  # of an edit: fainter and more solid than made
PASTED = 0.6  # of edits have the picture's own pixels where the part hides all
TRUE = 0.15  # of 2, the range of a picture: so near a layer comes to its picture there
SOLID = 0.5  # of a mask: from here on a part may hide all


class Faces(NamedTuple):
    """Pictures of one domain, and what is known of them."""

    pictures: Tensor  # (B, 3, side, side) in [-1, 1]
    known: Codes  # with the teacher's common code
    common: Tensor  # (B, C, grid, grid): what the encoder that learns says


def refine_loss(
    model: Layers,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
    teacher: nn.Module,
) -> Losses:
    """The loss of going on on pictures a and b, each (B, 3, side, side).

    `teacher` is the model's common encoder as it was; all else of the model stands still.
    """
    both, half = torch.cat([a, b]), len(a)
    codes = losses.own_parts(model.encode(both))
    with torch.no_grad():
        known = codes._replace(common=see(teacher, model, both))
    domains = {
        part: Faces(both[rows], known.take(rows), codes.common[rows])
        for part, rows in zip(PARTS, (slice(0, half), slice(half, None)), strict=True)
    }
    terms = {"common": losses.common(critic, codes, target)}
    for part in model.config.glass_parts:
        found = see_through(model, domains[OTHER[part]], domains[part], part)
        terms |= {name: terms.get(name, 0) + term for name, term in found.items()}
    return losses.weighted(terms, weights, codes.common)


def see_through(model: Layers, clear: Faces, worn: Faces, part: Part) -> dict[str, Tensor]:
    """The terms of clear faces that are given a part, which `worn` have, each B of them."""
    with torch.no_grad():
        taught = Shown.by(model, clear.known)
        own_glass = seen_through(model, OTHER[part])
        bare = taken_off(*taught, glass=own_glass).on(clear.pictures)
        onto = torch.where(torch.rand_like(bare[:, :1, :1, :1]) < OWN, clear.pictures, bare)
        given = model.layer(worn.known._replace(common=clear.known.common))
        edits, where = wearing(onto, *given, worn.pictures)
    through = see(model.encoders.common, model, edits)
    made = Shown.by(model, clear.known._replace(common=through))
    rebuilt = Shown.by(model, worn.known._replace(common=worn.common)).rebuilt
    wanted = clear.known.common
    return {
        "cycle": mean_over(where, error(made.base, taught.base)),
        "cycle_common": relative(through, wanted) + relative(clear.common, wanted),
        "exchange": F.l1_loss(made.rebuilt, taught.rebuilt),
        f"reconstruction_{part}": F.l1_loss(rebuilt, worn.pictures),
    }


class Shown(NamedTuple):
    """What a decoder makes of codes with one part."""

    base: Tensor  # (B, 3, side, side) in [-1, 1]
    layer: Tensor  # (B, 3, side, side) in [-1, 1]
    mask: Tensor  # (B, 1, side, side) in [0, 1]

    @classmethod
    def by(cls, model: Layers, codes: Codes) -> Self:
        """The decoder's of a model, whose common code may be anybody's."""
        layer, base, mask, _ = layers_and_bases(model, codes)
        return cls(base, layer, mask)

    @property
    def rebuilt(self) -> Tensor:
        """The picture that the codes are of, (B, 3, side, side)."""
        return blend(self.layer, self.base, self.mask)


def see(encoder: nn.Module, model: Layers, pictures: Tensor) -> Tensor:
    """A common encoder's codes (N, C, grid, grid) of pictures (N, 3, side, side)."""
    return encoder(nets.shrunk(pictures, model.config.shrink))  # type: ignore[no-any-return]


def wearing(onto: Tensor, layer: Tensor, mask: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Faces that wear a part as if they were drawn with it, and where it lies.

    `onto` (N, 3, h, w) in [-1, 1] are given a layer (N, 3, h, w) by masks (N, 1, h, w), of the
    parts that pictures `source` (N, 3, h, w) have.
    """
    where = of_any_strength(mask, *STRENGTH)
    pasted = torch.rand_like(mask[:, :, :1, :1]) < PASTED  # (N, 1, 1, 1)
    hides_all = (error(layer, source) < TRUE) & (mask > SOLID) & pasted
    return torch.where(hides_all, source, blend(layer, onto, where)), where
