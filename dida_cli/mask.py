"""Mask Based Unsupervised Content Transfer (Mokady, Benaim, Wolf, Bermano; ICLR 2020), and beyond.

A decoder of a part gives a picture and a mask, and an edit repaints only what the mask covers.
Both models here say the same two things of codes, and share how an edit is made of them:

    base       a picture with no part       what shows where a part is taken off
    layer      a picture and its mask       what a part paints, and where

Where the own mask of a dropped part lies, the base comes through; where the guide's mask lies,
the guide's layer is painted. Everywhere else a picture stays as it is, bit for bit, and also where
nobody would see it change (`codes.FAINT`).

`Mask` is the published, one-sided model: A has a part, B has nothing. The release's names:

    term              weight in the release    formula
    reconstruction_b  delta                    |D_A(E1(b), 0) - b|
    reconstruction_a  gama                     |D_B(E1(a), E2(a); onto D_A(E1(a), 0)) - a|
    repaint_a         alpha1                   |D_B(E1(a), E2(a); onto a) - a|
    repaint_b         alpha2                   |D_B(E1(b), 0; onto b) - b|
    cycle_common      beta1                    (E1(c) - E1(b))^2,  c = D_B(E1(b), E2(a); onto b)
    cycle_separate    beta2                    (E2(c) - E2(a))^2
    common            discweight               as in DIDD, on E1's codes

E1 is `encoders.common`, E2 `encoders.separate_a`, D_A `plain` (base), D_B `painter` (layer).

`Layers` is ours: one decoder for everything, and a layer for each domain that has a part.

    base     rgb of (c, 0, 0)           layer A    rgb, mask of (c, a, 0)
                                        layer B    rgb, mask of (c, 0, b)

    term              formula                              what it does
    reconstruction    |blend(layer, base, m) - x|          the model as in DIDD, through the mask
    repaint           |blend(layer, x, m) - x|             the layer's colours fit the picture
    mask              cost of m, also of (c, 0, 0) and     small masks, none where no part is; solid
                      of the exchanged m'                  or shut, or of glass as clear as can be
    base              |base - x|                           what is no part is in the common code
    exchange          |blend(layer', base, m') - x|        a layer is of its separate code alone:
                                                           ' with a common code of the other domain
                                                           (`hides`: near m its base, too)
    open              -log(mean of m's largest hundredth)  no mask is shut where a part is
    alike             BCE(d'(base), 1/2), both domains     no part is left in a base: d' is a critic
                                                           of pictures, which tells A's from B's
    paint             |layer - x| where base is wrong,     layers know the part before their masks
                      |layer' - x| where layer is better   have opened for it
    claim             BCE(m and m', layer' is better)      masks open where the part is
    cover             |rebuilt of (c', a) - x'| where a     what lies over a part is the picture's
                      stroke is: ' with one over the part  own
    blind             |E_A(x') - a| / |a|                  nor does a separate code tell of it
    smooth            |next pixel - pixel| of a base       what is under a part has no speckles
                      where both are under m
    information       |a|^2 / (2 noise^2), in nats         a separate code says no more than it must
    cycle_common      |E_c(edit) - c| / |c|                what shows through a part is seen there
    cycle             |edit, part taken off, - x| where m' and is there when the part is taken off
    cycle_separate    |E_A(edit) - a| / |a|                an edit has the guide's part
    domain            BCE(d'(edit), the guide's domain)    an edit is of the domain it was moved to
    zero, common      see `losses`                         the split, as in DIDD

All from `exchange` on are for a guide that is obeyed. Nothing above tells a kind of smile from what
faces share: the common code may say "mouth 3", which is the third smile in A and the third other
mouth in B, or the separate code may carry the brows. With a common code of the other domain a layer
must still make the picture whole (`exchange`): a part that a mask covers moves into the separate
code. A thin smile that the base can show opens no mask, and the common code can keep it: it holds
more than the critic d, which learns beside it, ever finds. So every picture of A must open its mask
somewhere, and where the smiles are is the cheapest place (`open`); and a base must not tell its
domain to anyone who looks at it (`alike`). Neither is enough without the other. d' learns from the
pictures themselves as well as from bases: it then knows the part from the beginning, and finds what
a blurry base still shows of it. Shown pictures with their part taken off instead of bases, d' finds
the seams, wins, and spoils the base. Speckles mislead d' as well as a part of the other domain
does, and under a layer nobody else sees the base: `smooth` leaves none. (Not of what glass shows:
eyes would be blurred.)

With just any face of the other domain `exchange` asks for the impossible: a smile that was seen on
pale skin must be whole by the common code of a dark face, or of one with a moustache where this one
has none. So separate codes come to carry skin, and smiles to lie over moustaches. `lookalikes` are
faces of the other domain that are alike around the part. Where a part lies in the place of
something else (`hides`: a smile where another mouth is), the lookalike's base is what the layer is
painted on near the part, weighed by how alike it is: whatever the other mouth was, the picture must
be made whole. Without that, more is left of a mouth that was wider than the smile.

A mask that has closed over a pale beard lets no gradient through to the layer below it, and a layer
that has no beard opens no mask. `paint` and `claim` break that: the layer learns the part whether
its mask shows it or not, weighed by where base and layers err, and the mask is told where the
layer that knows only the separate code beats the base (`MARGIN`), by a loss that does not
saturate.

A moustache lies over a smile. By `exchange` alone the separate code says where: its smile is
painted whole onto a moustache, or brings the gap of the guide's moustache. So a stroke is drawn
over the part, and the picture with it must be made whole by the separate code of the one without
(`cover`): a mask leaves out what the common code knows to lie over the part. And separate codes
are to be the same with a stroke and without (`blind`). Both are moved, and the measure too: if only
the code with a stroke were, all would grow, for a stroke hides some of the part; measured in nats,
all would shrink, and say less of the part as well. (`beneath` goes on, by real moustaches.)

With `information` separate codes are sent through noise of a fixed size and pay for their power:
what the common code can say for nothing (brows, eyes behind glass) is not said twice (the
variational bottleneck of Alemi et al., 2017, with a prior at "nothing").

Dark glass shows the eyes behind it. On its own picture a layer that paints glass and eyes by a
solid mask is as good as dark glass that is seen through; on another it brings the guide's eyes.
The mean of a mask presses no more once the sigmoid is flat, the `cost` of glass does. `repaint`
says the contrary, that a layer has the colours of the whole picture: both together are not for
parts that are seen through. Such a part (`glass`) is taken off by what it lets through
(`taken_off`). The mask of any other part costs less the more solid it is: a pale beard that a half
open mask paints well enough on its own face would be lost on another.

The last four look at edits. The picture that an edit was painted on is known: so the common
encoder learns to see through painted glass (`cycle_common`, which is the paper's), masks to find
what was painted, and the base to paint what it hid (`cycle`). These two take edits as they are:
with a gradient to them masks would get holes that hide the content's code. `cycle_separate` and
`domain` teach the edit alone, by those who know the part from pictures that nobody edited, and are
held still: a separate encoder has to find the guide's part, none where one was taken off, and d'
the guide's domain. Shown to d' as false ones, edits would be known by their seams.

Where both domains have a part, no base learns of edits by these two, nor is anything said of the
part that was taken off. None of those who judge has ever seen a picture with neither part, and
specks in the right places of their grid tell them anything: bases came to have these at eyes and in
the mouth's place, and masks of smiles to open over them, and over what was left of glasses.

`repaint`, `mask` and the four that look at edits start at 0 and rise from step 1500 to 2500
(`MASK_RAMP`): on from the start, the mask dies at 0 and never comes back. The others from
`exchange` on rise from 100 to 400 (`EXCHANGE_RAMP`). A training begun from a model with masks needs
no rise (`rise`). Once the split is learned, in the second half of a training, `mask` rises on to
`mask_late`: what the base can show is then left to the picture. Pressed so from the start, the
common code keeps the part.

`base` moves what is no part (eyes, brows) into the common code. Strong (0.5), kept on to the end of
a training, and pressed by `mask_late`, it brings the part as well, and removals fail. Weak beside
the others, it loses brows, which the glasses of B hide, to the layer of A, whose masks open there:
above the nose by 2.4 % with `base` 0.125, `alike` 0.03 and `mask` 0.02, by 0.7 % after 1,000 steps
with 0.8, 0.02 and 0.06 (of the weight of the reconstruction; 64 px; all three changed at once).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import losses, nets, occlusion
from dida_cli.codes import Codes, MaskModel, Strokes
from dida_cli.config import PARTS, CriticTarget, ModelConfig, Part, Weights
from dida_cli.lookalikes import Lookalikes, around
from dida_cli.losses import Losses, error, mean_over, relative
from dida_cli.painting import Step, blend, of_any_strength, opened, put_on, taken_off

MASK_RAMP = (1500, 2500)  # steps between which the weights of repaint, mask and CYCLED rise
EXCHANGE_RAMP = (100, 400)  # the same for exchange and all that makes guides obeyed
EXCHANGED = "exchange open alike paint claim cover blind smooth information".split()
CYCLED = ("cycle", "cycle_common", "cycle_separate", "domain")  # all that look at edits
LATE_RAMP = (0.5, 0.75)  # shares of a training between which `mask` rises to `mask_late`
OPEN_SHARE = 100  # of a mask's pixels, one is open at least
SHUT = 1e-8  # what a mask is at least, that has a logarithm
SURE = 1e-6  # a mask comes no nearer to 0 or 1 in a cross entropy or a cost
FIRST_MASK = 1.0  # added to the mask's logit in `Layers`: the first masks are open
SAME = 1e-4  # of a code's size; a difference up to here is rounding
MARGIN = 0.04  # of 2, the range of a picture: a layer that is better by so much claims a pixel
SOFTNESS = 0.05  # of that claim
STRENGTH = (0.5, 1.3)  # of the edits that the encoders see: from faint to more solid than made


class Painter(MaskModel, nn.Module):
    """What both models share: edits of a picture by a base and masked layers."""

    encoders: nets.Encoders

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        return self.encoders(image)  # type: ignore[no-any-return]

    def base(self, codes: Codes) -> Tensor:
        """The picture with no part, of the common code alone: (N, 3, side, side) in [-1, 1]."""
        raise NotImplementedError

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """What codes paint (N, 3, side, side) in [-1, 1], where (N, 1, side, side) in [0, 1]."""
        raise NotImplementedError

    def segment(self, image: Tensor, *parts: Part) -> Tensor:
        """The mask of the parts that pictures (N, 3, side, side) have, (N, 1, side, side)."""
        codes = self.encode(image)
        return torch.stack([self.where(codes, part) for part in parts]).amax(0)

    def where(self, codes: Codes, part: Part) -> Tensor:
        """Where pictures of these codes have a part, (N, 1, side, side) in [0, 1]."""
        return opened(self.layer(codes.alone(part))[1])

    def strokes(self, codes: Codes, own: Codes, *, every: bool = False) -> Strokes:
        """What turns a picture of the codes `own` into one of `codes`.

        A step that touches no picture of the batch is left out; with `every` none is, which comes
        to the same: a graph that is traced once must serve all batches.
        """
        base = self.base(codes)
        # First everything is taken off, then painted: the own part may lie where the new one goes.
        steps = []
        for part in self.config.parts:
            dropped = changed(own, codes, part) & present(own, part)  # (N, 1, 1, 1)
            if every or dropped.any():
                layer = self.layer(own.alone(part))
                steps.append(
                    taken_off(base, *layer, glass=part in self.config.glass_parts).of(dropped)
                )
        for part in self.config.parts:
            added = changed(own, codes, part) & present(codes, part)
            if every or added.any():
                rgb, mask = self.layer(codes.alone(part))
                steps.append(put_on(rgb, opened(mask)).of(added))
        nothing = torch.zeros_like(base[:, :1])  # (N, 1, h, w)
        made = Step(nothing, nothing + 1, torch.zeros_like(base))
        for step in steps:
            made = step.after(made)
        return Strokes(base, *made)


class Mask(Painter):
    """The published model: two encoders, a plain decoder, a decoder with a mask. One-sided."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nets.Encoders(config)
        self.plain = nets.decoder(config)
        self.painter = nets.decoder(config, out=4)

    def base(self, codes: Codes) -> Tensor:
        """D_A(E1(x), 0)."""
        bare = codes.without("a")
        return torch.tanh(self.plain(torch.cat([bare.common, bare.a], dim=1)))

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """D_B before its blend."""
        raw = self.painter(torch.cat([codes.common, codes.a], dim=1))  # (N, 4, side, side)
        return torch.tanh(raw[:, 1:]), torch.sigmoid(raw[:, :1])


class Layers(Painter):
    """Three encoders (two where B has no part) and one decoder that also gives a mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nets.Encoders(config)
        self.decoder = nets.decoder(config, out=4)

    def base(self, codes: Codes) -> Tensor:
        """The layer of the common code alone, without its mask."""
        return self.layer(codes.without("a", "b"))[0]

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """What codes paint, and where."""
        return painted(self.decoder, codes)


def painted(decoder: nn.Module, codes: Codes) -> tuple[Tensor, Tensor]:
    """What the decoder of `Layers` makes of codes: (N, 3, side, side), where (N, 1, side, side)."""
    raw = decoder(torch.cat(codes, dim=1))  # (N, 4, side, side)
    # in half precision a mask would come no nearer to 1 than 1 itself, and stay there
    return torch.tanh(raw[:, :3]), torch.sigmoid(raw[:, 3:].float() + FIRST_MASK)


def present(codes: Codes, part: Part) -> Tensor:
    """Whether each picture has a code of a part that is not nothing: bool (N, 1, 1, 1)."""
    return codes.of(part).flatten(1).any(1)[:, None, None, None]


def changed(before: Codes, after: Codes, part: Part) -> Tensor:
    """Whether each picture's code of a part is another one: bool (N, 1, 1, 1).

    A picture encoded in another batch gives other last digits, which are no change.
    """
    own = before.of(part).flatten(1)
    moved = (after.of(part).flatten(1) - own).abs().sum(1)
    return (moved > SAME * own.abs().sum(1))[:, None, None, None]


def mask_loss(
    model: Mask,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
) -> Losses:
    """The published loss on pictures a and b, each (B, 3, side, side); terms as in the table.

    The domains go through the networks one after the other, as in the release, for batch norm
    looks at all pictures of a pass.
    """
    of_a = model.encode(a)
    common_b = model.encoders.common(b)  # (B, C, grid, grid)
    of_b = Codes(common_b, torch.zeros_like(of_a.a), of_a.b)
    own, mask = model.layer(of_a)
    nothing, closed = model.layer(of_b)
    moved = model.layer(of_b._replace(a=of_a.a))
    cycled = model.encode(blend(moved[0], b, moved[1]))
    terms = {
        "reconstruction_a": F.l1_loss(blend(own, model.base(of_a), mask), a),
        "reconstruction_b": F.l1_loss(model.base(of_b), b),
        "repaint_a": F.l1_loss(blend(own, a, mask), a),
        "repaint_b": F.l1_loss(blend(nothing, b, closed), b),
        "cycle_common": F.mse_loss(cycled.common, of_b.common),
        "cycle_separate": F.mse_loss(cycled.a, of_a.a),
    }
    codes = Codes(torch.cat([of_a.common, common_b]), of_a.a, of_a.b)
    terms["common"] = losses.common(critic, codes, target)
    return losses.weighted(terms, weights, codes.common)


def layers_loss(
    model: Layers,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
    lookalikes: Lookalikes | None = None,
) -> Losses:
    """The loss of `Layers` on pictures a and b, each (B, 3, side, side); terms as in the table.

    `lookalikes` have been shown these pictures; without them any other face serves `exchange`.
    """
    both, half = torch.cat([a, b]), len(a)
    codes = model.encode(both)
    own = losses.own_parts(codes)
    told = losses.noisy(own) if weights.information else own
    layer, base, mask, closed = layers_and_bases(model, told)
    rebuilt, repainted = blend(layer, base, mask), blend(layer, both, mask)
    with_part = slice(0, half if model.config.separate_b == 0 else None)
    # what the same parts are with common codes of the other domain
    common = losses.other(own.common)
    moved, where = model.layer(told._replace(common=common))
    swap = Exchange(moved, where, base, torch.ones_like(where[:, :, :1, :1]))
    if lookalikes:
        swap = exchange(model, both, told, base, mask, lookalikes)
    paint, claimed = paint_loss(both, base, layer, swap)
    terms = {
        "reconstruction_a": F.l1_loss(rebuilt[:half], a),
        "reconstruction_b": F.l1_loss(rebuilt[half:], b),
        "repaint_a": F.l1_loss(repainted[:half], a),
        "repaint_b": F.l1_loss(repainted[half:], b),
        "exchange": (error(blend(swap.layer, swap.canvas, swap.where), both) * swap.alike).mean(),
        "mask": mask_cost(model, mask, closed, where),
        "base": F.l1_loss(base, both),
        "paint": paint,
        "claim": claim_loss(claimed[0][with_part], mask[with_part])
        + claim_loss(claimed[1][with_part], swap.where[with_part], swap.alike[with_part]),
        "open": open_loss(mask[with_part]),
        "information": losses.information(own),
        "zero": losses.zero(codes),
        "common": losses.common(critic, codes, target),
        **dict.fromkeys(("alike", "cover", "blind", "smooth", *CYCLED), both.new_zeros(())),
    }
    if weights.cover or weights.blind:
        terms |= cover_losses(model, both, own, told, mask)
    if weights.smooth:
        terms["smooth"] = smooth_loss(base, opaque(model, mask))
    if weights.alike:
        terms["alike"] = losses.alike(critic, base)
    if any(getattr(weights, name) for name in CYCLED):
        removed = bare(model, both, base, layer, mask)
        given = losses.other(removed)
        terms |= cycle_losses(model, moved, given, where, common)
        if model.config.separate_b:  # nobody has ever seen a picture with neither part
            given, removed = given.detach(), removed.detach()
        edits = blend(moved, given, where)
        terms["cycle_separate"] = cycle_separate(model, edits, removed, own)
        if weights.domain:
            terms["domain"] = losses.domain(critic, edits) + losses.domain(critic, rebuilt)
    made = losses.weighted(terms, weights, codes.common)
    return made._replace(shown=torch.cat([base, both])) if critic.looks else made


class Exchange(NamedTuple):
    """Layers with a common code of the other domain, and what they are painted on."""

    layer: Tensor  # (N, 3, side, side) in [-1, 1]
    where: Tensor  # (N, 1, side, side) in [0, 1]
    canvas: Tensor  # (N, 3, side, side) in [-1, 1]: the own base, or near the part the other's
    alike: Tensor  # (N, 1, 1, 1) in [0, 1]: how much there is to be learned from the other


def exchange(
    model: Layers, both: Tensor, told: Codes, base: Tensor, mask: Tensor, lookalikes: Lookalikes
) -> Exchange:
    """The exchange with lookalikes of pictures (N, 3, side, side), their codes, bases and masks."""
    others, alike = lookalikes.of(both, mask)
    with torch.no_grad():
        codes = model.encode(others)
    layer, where = model.layer(told._replace(common=codes.common))
    if not lookalikes.hidden:  # the most alike is better than any face, however unlike
        return Exchange(layer, where, base, torch.ones_like(alike))
    with torch.no_grad():
        canvas = blend(model.base(codes), base, around(mask))
    return Exchange(layer, where, canvas, alike)


def paint_loss(
    both: Tensor, base: Tensor, layer: Tensor, swap: Exchange
) -> tuple[Tensor, list[Tensor]]:
    """`paint`, and what masks and exchanged masks should claim, (N, 1, side, side) in [0, 1].

    Of pictures (N, 3, side, side), their bases, their layers, and their exchanged layers.
    """
    wrong = [error(canvas, both).detach() for canvas in (base, swap.canvas)]  # (N, 1, side, side)
    with torch.no_grad():
        better = (wrong[1] - error(layer, both) - MARGIN).clamp_min(0) * swap.alike
        margin = error(swap.layer, both) + MARGIN
        claimed = [torch.sigmoid((lost - margin) / SOFTNESS) for lost in wrong]
    paint = mean_over(wrong[0], error(layer, both))
    return paint + mean_over(better, error(swap.layer, both)), claimed


def claim_loss(claimed: Tensor, mask: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """The cross entropy of masks with what they should claim, both (N, 1, side, side) in [0, 1].

    `weight`: (N, 1, 1, 1), of each picture.
    """
    sure = mask.float().clamp(SURE, 1 - SURE)  # torch's own of probabilities refuses autocast
    loss = claimed * sure.log() + (1 - claimed) * (1 - sure).log()
    return -(weight * loss).mean()


def cover_losses(
    model: Layers, both: Tensor, own: Codes, told: Codes, mask: Tensor
) -> dict[str, Tensor]:
    """`cover` and `blind` of pictures (N, 3, side, side), their codes, masks (N, 1, side, side).

    `told` are the own codes through noise, which is what a layer is made of.
    """
    covered, where = occlusion.drawn_over(both, mask)
    seen = losses.own_parts(model.encode(covered))
    layer, base, masks, _ = layers_and_bases(model, told._replace(common=seen.common))
    blind = both.new_zeros(())
    for part in model.config.parts:
        blind = blind + relative(seen.of(part), own.of(part))
    cover = mean_over(where, error(blend(layer, base, masks), covered))
    return {"cover": cover, "blind": blind}


def smooth_loss(base: Tensor, mask: Tensor) -> Tensor:
    """`smooth`: the total variation of bases (N, 3, side, side) under masks (N, 1, side, side).

    Mean |difference| of neighbours, down and to the right, where both are hidden (Rudin, Osher,
    Fatemi, 1992). Masks learn nothing of it.
    """
    hidden, loss = mask.detach(), base.new_zeros(())
    for axis in (2, 3):
        size = base.shape[axis] - 1
        step = error(base.narrow(axis, 1, size), base.narrow(axis, 0, size))
        both = torch.minimum(hidden.narrow(axis, 1, size), hidden.narrow(axis, 0, size))
        loss = loss + mean_over(both, step)
    return loss


def mask_cost(model: Layers, *masks: Tensor) -> Tensor:
    """`mask`: what the masks of pictures cost, each (N, 1, side, side), A's first; in all."""
    loss = masks[0].new_zeros(())
    for part, *of_part in zip(PARTS, *(values.chunk(2) for values in masks), strict=True):
        loss = loss + sum(cost(values, glass=seen_through(model, part)) for values in of_part) / 2
    return loss


def cost(masks: Tensor, *, glass: bool) -> Tensor:
    """The mean price of masks in [0, 1]: of a small one, what it covers.

    A part that is seen through: -log(1 - m) = m + m^2 / 2 + ... One that is all but solid costs
    more the more solid it is, and is always told so: the sigmoid does not saturate here. So dark
    glass, which a solid layer paints as well as a dark one that is seen through, becomes what it
    is. Any other part: m - m^2 / 2. It is there or not: to half open what was shut costs more than
    to open what is half open, and a solid mask is told nothing. So a pale beard is whole, and what
    is not beard is not touched.
    """
    if glass:
        return -(1 - masks.clamp_max(1 - SURE)).log().mean()
    return (masks - masks.square() / 2).mean()


def cycle_losses(
    model: Layers, moved: Tensor, given: Tensor, where: Tensor, common: Tensor
) -> dict[str, Tensor]:
    """`cycle_common` and `cycle`, of edits of any strength that are taken as they are.

    `cycle` is the mean over what was painted. Edits paint `moved` (N, 3, side, side) by masks
    `where` onto pictures `given`, whose common codes are (N, C, grid, grid), each by a strength of
    its own.
    """
    edits = blend(moved, given, of_any_strength(where, *STRENGTH)).detach()
    wanted, seen = common.detach(), losses.own_parts(model.encode(edits))
    layer, base, mask, _ = layers_and_bases(model, seen)
    again = bare(model, edits, base, layer, mask, held=True)
    return {
        "cycle_common": relative(seen.common, wanted),
        "cycle": mean_over(where.detach(), error(again, given.detach())),
    }


def cycle_separate(model: Layers, edits: Tensor, removed: Tensor, own: Codes) -> Tensor:
    """mean |E_A(edit) - a| / mean |a|, and so for B, of separate encoders that are held still.

    `edits` (N, 3, side, side) were given the parts of `own`, `removed` had those taken off: what
    a separate encoder still finds there has to go. Where both domains have a part, an edit is asked
    for the one that it was given alone.
    """
    loss = edits.new_zeros(())
    seen = nets.shrunk(torch.cat([edits, removed]), model.config.shrink)
    for part in model.config.parts:
        encoder = getattr(model.encoders, f"separate_{part}")
        still = {name: value.detach() for name, value in encoder.named_parameters()}
        found = torch.func.functional_call(encoder, still, (seen,))  # (2 N, S, grid, grid)
        given, left = found.chunk(2)
        if model.config.separate_b:
            given = given * present(own, part)
        wanted = own.of(part).detach()
        missed = (F.l1_loss(given, wanted) + left.abs().mean()) / 2
        loss = loss + missed / wanted.abs().mean()
    return loss


def layers_and_bases(model: Layers, codes: Codes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layers and bases (N, 3, side, side) of codes, and their masks (N, 1, side, side)."""
    pairs = zip(codes, codes.without("a", "b"), strict=True)
    rgb, masks = model.layer(Codes(*(torch.cat(pair) for pair in pairs)))
    layer, base = rgb.chunk(2)
    mask, closed = masks.chunk(2)
    return layer, base, mask, closed


def bare(
    model: Layers,
    pictures: Tensor,
    base: Tensor,
    layer: Tensor,
    mask: Tensor,
    *,
    held: bool = False,
) -> Tensor:
    """Pictures (N, 3, side, side), A's first, with their own layers taken off.

    With `held`, layers of glass learn nothing of it: they would turn solid, and leave all to the
    base.
    """
    made = []
    halves = (values.chunk(2) for values in (pictures, base, layer, mask))
    for part, (picture, *own) in zip(PARTS, zip(*halves, strict=True), strict=True):
        glass = seen_through(model, part)
        if held and glass:
            own[1:] = (values.detach() for values in own[1:])
        step = taken_off(*own, glass=glass)
        made.append(step.on(picture))
    return torch.cat(made)


def opaque(model: Layers, mask: Tensor) -> Tensor:
    """Masks (N, 1, side, side), A's first, of parts that hide what is under them; 0 for glass."""
    halves = zip(PARTS, mask.chunk(2), strict=True)
    return torch.cat([half * (not seen_through(model, part)) for part, half in halves])


def seen_through(model: Layers, part: Part) -> bool:
    """Whether the masks of a domain's pictures are of a part that is seen through.

    A domain that has no part of its own has the masks of the other's.
    """
    return (part if part in model.config.parts else "a") in model.config.glass_parts


def open_loss(mask: Tensor) -> Tensor:
    """-log of the mean of each mask's largest hundredth; masks (N, 1, side, side) in [0, 1].

    The logarithm, since a mask that is all but shut has no other gradient left.
    """
    values = mask.float().flatten(1)  # (N, side * side)
    largest = values.topk(max(1, values.shape[1] // OPEN_SHARE), dim=1).values
    return -(largest.mean(1) + SHUT).log().mean()
