"""Mask Based Unsupervised Content Transfer (Mokady, Benaim, Wolf, Bermano; ICLR 2020), two-sided.

The paper's decoder of A's part also gives a mask, and only what the mask covers is repainted. The
paper is one-sided: B has nothing of its own. Here both domains have a layer. One decoder reads the
three codes and gives a picture and a mask:

    base       rgb of (c, 0, 0)          the face with neither part
    layer A    rgb, mask of (c, a, 0)    what A's part paints, and where
    layer B    rgb, mask of (c, 0, b)

Each picture is its layer blended onto its base. An edit of a real picture x works on x itself:
where x's own mask of a dropped part lies, the base comes through; where the guide's mask lies, the
guide's layer is painted. Everywhere else x stays as it is.

    term            formula                              what it does
    reconstruction  |blend(layer, base, m) - x|          the model as in DIDD, through the mask
    repaint         |blend(layer, x, m) - x|             the layer's colours fit the picture around
    mask            mean m + mean m of (c, 0, 0)         small masks; none where there is no part
    zero, common    see `losses`                         the split, as in DIDD

`repaint` and `mask` start at 0 and rise from step 800 to 1600 (`MASK_RAMP`): on from the start,
the mask dies at 0 and never comes back. A strong critic with a light mask weight keeps the base
from showing the part that it should lack.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import losses, nets
from dida_cli.codes import Codes, Rendering
from dida_cli.config import CriticTarget, ModelConfig, Part, Weights
from dida_cli.losses import Losses

MASK_RAMP = (800, 1600)  # steps between which the weights of repaint and mask rise to their value
FIRST_MASK = 1.0  # added to the mask's logit: the first masks are open
REMOVED_FROM = 0.1  # of a part's own mask on, the base replaces the picture when it is dropped


class TwoSidedMask(nn.Module):
    """Three encoders and one decoder that also gives a mask. Parameters only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nets.Encoders(config)
        self.decoder = nets.decoder(config, out=4)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E_c(x), E_A(x), E_B(x))."""
        return self.encoders(image)  # type: ignore[no-any-return]

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """What codes paint (N, 3, side, side) in [-1, 1], where (N, 1, side, side) in [0, 1]."""
        raw = self.decoder(torch.cat(codes, dim=1))  # (N, 4, side, side)
        return torch.tanh(raw[:, :3]), torch.sigmoid(raw[:, 3:] + FIRST_MASK)

    def compose(self, codes: Codes, onto: Tensor | None = None) -> Rendering:
        """Codes painted onto pictures (N, 3, side, side) in [-1, 1], or onto their own base.

        A part that is the picture's own is left as it is, so that unchanged codes change nothing.
        """
        base, _ = self.layer(codes.without("a", "b"))
        if onto is None:
            onto, own = base, codes.without("a", "b")
        else:
            own = self.encode(onto)
        parts: tuple[Part, ...] = ("a", "b")
        changed = [part for part in parts if not torch.equal(own.of(part), codes.of(part))]
        # First everything is taken off, then painted: the own part may lie where the new one goes.
        steps = [
            (base, removal_mask(self.layer(own.alone(part))[1]))
            for part in changed
            if own.of(part).any()
        ]
        steps += [self.layer(codes.alone(part)) for part in changed if codes.of(part).any()]
        image, untouched = onto, torch.ones_like(onto[:, :1])  # (N, 1, side, side)
        for new, mask in steps:
            image = blend(new, image, mask)
            untouched = untouched * (1 - mask)
        return Rendering(image, 1 - untouched)


def blend(new: Tensor, onto: Tensor, mask: Tensor) -> Tensor:
    """mask * new + (1 - mask) * onto; where the mask is 0 it is `onto` bit for bit (ICLR 2020)."""
    return onto + mask * (new - onto)


def removal_mask(mask: Tensor) -> Tensor:
    """Where a dropped part goes: its own mask from a threshold on, one pixel grown, feathered.

    (N, 1, h, w) in [0, 1]. A soft mask would leave a shadow of the part.
    """
    grown = F.max_pool2d((mask >= REMOVED_FROM).to(mask.dtype), 3, stride=1, padding=1)
    return F.avg_pool2d(grown, 3, stride=1, padding=1, count_include_pad=False)


def autoencoder_loss(
    model: TwoSidedMask,
    critic: nets.Critic,
    a: Tensor,
    b: Tensor,
    weights: Weights,
    target: CriticTarget,
) -> Losses:
    """The encoders' and the decoder's loss on pictures a and b, each (B, 3, side, side).

    Terms as in the module's docstring, each the sum of both domains' means.
    """
    both = torch.cat([a, b])
    codes = model.encode(both)
    own = losses.own_parts(codes)
    bare = own.without("a", "b")
    rgb, masks = model.layer(Codes(*(torch.cat(pair) for pair in zip(own, bare, strict=True))))
    size = len(both)
    layer, base, mask = rgb[:size], rgb[size:], masks[:size]
    terms = {
        "reconstruction": 2 * F.l1_loss(blend(layer, base, mask), both),
        "repaint": 2 * F.l1_loss(blend(layer, both, mask), both),
        "mask": 2 * masks.mean(),
        "zero": losses.zero(codes),
        "common": losses.common(critic, codes, target),
    }
    total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    return Losses(total, terms, codes.common)
