"""Models without weights: what is judged is made on purpose."""

import torch
from torch import Tensor

from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import Domains, ModelConfig

SIDE = 64
TWO_PARTS = Domains(a="smile", b="glasses")


class Copies:
    """Gives the content back, whatever is asked of it; its codes are small pictures."""

    abilities: frozenset[Ability] = frozenset({"two parts", "common code"})

    def __init__(self, domains: Domains = TWO_PARTS, side: int = SIDE) -> None:
        self.config = ModelConfig(method="copies", domains=domains, side=side)

    def encode(self, image: Tensor) -> Codes:
        small = image[:, :, ::8, ::8]
        return Codes(small, small.clone(), small[:, : 3 * len(self.config.domains.b)].clone())

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        assert onto is not None
        return Rendering(onto, None)


class Pastes(Copies):
    """Lays the guide's lower half (part a) or its upper half (part b) over the content, and grey
    where a part is taken off: masks, and no common code."""

    abilities: frozenset[Ability] = frozenset({"masks", "two parts"})

    def encode(self, image: Tensor) -> Codes:
        return Codes(image[:, :0], image, image if self.config.domains.b else image[:, :0])

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        assert onto is not None
        own = own or self.encode(onto)
        image, mask = onto.clone(), torch.zeros_like(onto[:, :1])
        half = onto.shape[-1] // 2
        for part, rows in (("a", slice(half, None)), ("b", slice(0, half))):
            if part in self.config.parts and not torch.equal(codes.of(part), own.of(part)):
                image[:, :, rows], mask[:, :, rows] = codes.of(part)[:, :, rows], 0.8
        return Rendering(image, mask)
