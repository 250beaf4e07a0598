"""Going on with a model of masks: its common encoder alone learns to see through glass.

In a training of everything an edit teaches the common encoder what glass hid (`mask`, the terms
`cycle` and `cycle_common`) at the price of a pass of all networks, and by glass that is never quite
solid. Here all else stands still, as it was in the model that was begun from, the teacher (a
distillation, Hinton et al., 2015). Faces of the domain without the part are given it, and as far as
can be the encoder is to say of them what it said of the bare face:

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
from torch import Tensor
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes
from dida_cli.config import OTHER, PARTS, CriticTarget, Weights
from dida_cli.losses import Losses, error, mean_over, relative
from dida_cli.mask import Layers, layers_and_bases
from dida_cli.painting import blend, taken_off

OWN = 0.5  # of the faces that are given a part keep their own
STRENGTH = (0.8, 1.6)  # of an edit: fainter and more solid than made
PASTED = 0.6  # of edits have the picture's own pixels where the part hides all
TRUE = 0.15  # of 2, the range of a picture: so near a layer comes to its picture there
SOLID = 0.5  # of a mask: from here on a part may hide all


def refine_loss(
    model: Layers,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
    teacher: Layers,
) -> Losses:
    """The loss of going on with `teacher` on pictures a and b, each (B, 3, side, side)."""
    both = torch.cat([a, b])
    with torch.no_grad():
        known = losses.own_parts(teacher.encode(both))
    common = see(model, both)
    halves = (slice(0, len(a)), slice(len(a), None))
    own = {
        part: (both[rows], known.take(rows), common[rows])
        for part, rows in zip(PARTS, halves, strict=True)
    }
    terms = {"common": losses.common(critic, known._replace(common=common), target)}
    for part in model.config.glass_parts:
        found = see_through(model, teacher, own[OTHER[part]], own[part])
        found[f"reconstruction_{part}"] = found.pop("reconstruction")
        terms |= {name: terms.get(name, 0) + term for name, term in found.items()}
    return losses.weighted(terms, weights, common)


Faces = tuple[Tensor, Codes, Tensor]  # pictures, the teacher's codes, the learning encoder's


def see_through(model: Layers, teacher: Layers, clear: Faces, worn: Faces) -> dict[str, Tensor]:
    """The terms of clear faces that are given the part of others, each B of them."""
    bare, known, common = clear
    pictures, of_part, common_of_part = worn
    with torch.no_grad():
        taught = Shown.by(teacher, known)
        layer, mask = teacher.layer(of_part._replace(common=known.common))
        edits, where = wearing(taken_off_half(bare, taught), layer, mask, pictures)
    through = see(model, edits)
    made = Shown.by(model, known._replace(common=through))
    rebuilt = Shown.by(model, of_part._replace(common=common_of_part)).rebuilt
    return {
        "cycle": mean_over(where, error(made.base, taught.base)),
        "cycle_common": relative(through, known.common) + relative(common, known.common),
        "exchange": F.l1_loss(made.rebuilt, taught.rebuilt),
        "reconstruction": F.l1_loss(rebuilt, pictures),
    }


class Shown(NamedTuple):
    """What a decoder makes of codes with one part."""

    base: Tensor  # (B, 3, side, side) in [-1, 1]
    layer: Tensor  # (B, 3, side, side) in [-1, 1]
    mask: Tensor  # (B, 1, side, side) in [0, 1]

    @classmethod
    def by(cls, model: Layers, codes: Codes) -> Self:
        """The decoder's of a model."""
        layer, base, mask, _ = layers_and_bases(model, codes)
        return cls(base, layer, mask)

    @property
    def rebuilt(self) -> Tensor:
        """The picture that the codes are of, (B, 3, side, side)."""
        return blend(self.layer, self.base, self.mask)


def see(model: Layers, pictures: Tensor) -> Tensor:
    """Common codes (N, C, grid, grid) of pictures (N, 3, side, side), and of nothing else."""
    return model.encoders.common(nets.shrunk(pictures, model.config.shrink))  # type: ignore[no-any-return]


def taken_off_half(faces: Tensor, shown: Shown) -> Tensor:
    """Faces (B, 3, side, side), all but `OWN` of them with their own part taken off."""
    bare = taken_off(*shown, glass=False).on(faces)
    return torch.where(torch.rand_like(faces[:, :1, :1, :1]) < OWN, faces, bare)


def wearing(onto: Tensor, layer: Tensor, mask: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Faces that wear a part as if they were drawn with it, and where it lies.

    `onto` (N, 3, h, w) in [-1, 1] are given a layer (N, 3, h, w) by masks (N, 1, h, w), of the
    parts that pictures `source` (N, 3, h, w) have.
    """
    some = torch.empty_like(mask[:, :, :1, :1])  # (N, 1, 1, 1)
    where = (some.uniform_(*STRENGTH) * mask).clamp_max(1)
    hides_all = (error(layer, source) < TRUE) & (mask > SOLID) & (some.uniform_() < PASTED)
    return torch.where(hides_all, source, blend(layer, onto, where)), where
