"""How a base and the layers of parts become an edit, for every method that has them."""

import torch
from torch import Tensor

from dida_cli import nets
from dida_cli.codes import Codes, Rendering
from dida_cli.players import Network

FAINT = 3 / 127.5  # three levels of 255: nobody sees a pixel change by less


class Painter(Network):
    """A network that edits by a base, the picture with no part, and a masked layer for each part.

    First everything that changes is taken off, so that the base shows; then what is wanted is
    painted, for the old part may lie where the new one goes.
    """

    def base(self, codes: Codes) -> Tensor:
        """The picture with no part, of the common code alone: (N, 3, side, side) in [-1, 1]."""
        raise NotImplementedError

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """What codes paint (N, 3, side, side) in [-1, 1], where (N, 1, side, side) in [0, 1]."""
        raise NotImplementedError

    def removal(self, mask: Tensor) -> Tensor:
        """Where the base is shown when a part with this mask, (N, 1, side, side), is taken off."""
        raise NotImplementedError

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """Codes painted onto pictures (N, 3, side, side) in [-1, 1], or whole, onto their base.

        A pixel of `onto` that nobody would see change is left as it is.
        """
        base = self.base(codes)
        if onto is None:
            return Rendering(self._painted(codes, codes.without("a", "b"), base, base)[0], None)
        own = self.encode(onto) if own is None else own
        image, mask = self._painted(codes, own, base, onto)
        most = (image - onto).abs().amax(1, keepdim=True)  # (N, 1, side, side)
        seen = (most / FAINT - 1).clamp(0, 1)  # whole from twice FAINT on
        return Rendering(blend(image, onto, seen).clamp(-1, 1), mask * seen)

    def _painted(
        self, codes: Codes, own: Codes, base: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The picture of the codes `own` as one of `codes`, and where it was painted."""
        mask = torch.zeros_like(image[:, :1])
        changes = {p: nets.changed(own.of(p), codes.of(p)) for p in self.config.parts}
        for part, is_changed in changes.items():
            dropped = is_changed & nets.present(own.of(part))
            if self.every or dropped.any():
                where = dropped * self.removal(self.layer(own.alone(part))[1])
                image, mask = blend(base, image, where), _either(mask, where)
        for part, is_changed in changes.items():
            added = is_changed & nets.present(codes.of(part))
            if self.every or added.any():
                rgb, where = self.layer(codes.alone(part))
                where = added * where
                image, mask = blend(rgb, image, where), _either(mask, where)
        return image, mask


def _either(mask: Tensor, other: Tensor) -> Tensor:
    return 1 - (1 - mask) * (1 - other)


def blend(new: Tensor, onto: Tensor, mask: Tensor) -> Tensor:
    """mask * new + (1 - mask) * onto; where the mask is 0 it is `onto` bit for bit (ICLR 2020)."""
    return onto + mask * (new - onto)
