"""Pictures of the other domain that look alike around a part.

Nobody shows the same face with two smiles. But of some hundred faces that do not smile one is much
like any that does, if only the skin, the beard and the nose around the smile are asked for: on it a
smile must look the same, and whatever it has in the smile's place must be hidden (`mask`, the term
`exchange`). With just any face, a smile would have to bring the skin it was seen on.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

OPEN = 0.3  # of a mask: from here on there is a part
REACH = 16  # of a mask's side, one is how far around the part is looked
DETAIL = 32  # pixels at a side that are compared
ALIKE = 0.08  # of 2, the range of a picture: a mean difference that is none yet
UNLIKE = 0.2  # of it: nothing is learned from such a face
FIRST = 2  # the most alike, of which one is taken: lest all be of the one best
TIE = 1e-4  # of pictures that are equally alike, any


class Lookalikes:
    """The last pictures of both domains, and who of them is like another around a part."""

    def __init__(self, size: int, *, hidden: bool = False) -> None:
        """`size` pictures of each domain are remembered.

        `hidden`: what a lookalike shows in the part's place is to be hidden by the part.
        """
        self.size, self.hidden = size, hidden
        # A's and B's, the last ones first: (3, h, w), and (3, h', w') in which they are compared
        self.pictures: list[list[Tensor]] = [[], []]
        self.small: list[list[Tensor]] = [[], []]

    def add(self, *domains: Tensor) -> None:
        """Remember pictures (B, 3, h, w) of A and of B, and forget the oldest."""
        for new, pictures, small in zip(domains, self.pictures, self.small, strict=True):
            pictures[:] = [*new, *pictures][: self.size]
            small[:] = [*compared(new), *small][: self.size]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def of(self, both: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """For each of 2 B pictures, A's first, a lookalike of the other domain, and how alike.

        Pictures (2 B, 3, h, w); their parts' masks (2 B, 1, h, w) in [0, 1]. Two of them:
        (2 B, 3, h, w), and (2 B, 1, 1, 1) in [0, 1].
        """
        beside = compared(around(masks) * (1 - masks))  # (2 B, 1, h', w')
        halves = (compared(both).chunk(2), beside.chunk(2), self.pictures[::-1], self.small[::-1])
        found, likeness = [], []
        for wanted, where, others, known in zip(*halves, strict=True):
            error = (wanted[:, None] - torch.stack(known)).abs().mean(2) * where  # (B, N, h', w')
            distance = error.sum((2, 3)) / where.sum((2, 3)).clamp_min(1e-6)  # (B, N)
            distance = distance + TIE * torch.rand_like(distance)
            first = distance.topk(min(FIRST, len(others)), largest=False).indices
            chosen = first.gather(1, torch.randint_like(first[:, :1], first.shape[1]))  # (B, 1)
            found += [others[i] for i in chosen[:, 0].tolist()]
            likeness.append((UNLIKE - distance.gather(1, chosen)) / (UNLIKE - ALIKE))
        return torch.stack(found), torch.cat(likeness).clamp(0, 1)[:, :, None, None]


def compared(pictures: Tensor) -> Tensor:
    """Pictures (N, C, h, w) as they are compared, about `DETAIL` pixels at a side."""
    return F.avg_pool2d(pictures, max(1, pictures.shape[-1] // DETAIL))


def around(masks: Tensor) -> Tensor:
    """1 where a part is or is near, else 0: (N, 1, h, w) from masks (N, 1, h, w) in [0, 1]."""
    reach = max(1, masks.shape[-1] // REACH)
    return F.max_pool2d((masks > OPEN).to(masks.dtype), 2 * reach + 1, stride=1, padding=reach)
