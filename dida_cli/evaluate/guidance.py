"""Does the output carry this guide's part? Asked of any pictures, with no factors known.

Where a model painted the part (where the output differs from the content with neither part), the
classifier's features of the output are compared with those of every guide at the same place; the
nearest should be the true one. That is what separates content transfer from switching an attribute
on. Guides of one kind look alike there, which bounds the best rank: among 64 faces with 4 kinds of
mouth it is about 8.5, with 8 kinds of glasses about 4.5.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import Edits, Pairs
from dida_cli.evaluate.realism import stages

DEFINITIONS = {
    "retrieval_first": "share of outputs whose true guide is the nearest of the candidates by the "
    "classifier's features where the part was painted; _chance: a guess",
    "retrieval_rank": "mean rank of the true guide among the candidates, 1 = always the nearest; "
    "_chance: that of a guess",
    "candidates": "guides to choose from, the true one among them",
}
CANDIDATES = 64
STAGE = 2  # of the classifier's trunk: an 8 x 8 grid, fine enough for a mouth


def retrieval(
    judge: FactorClassifier, pairs: Pairs, edits: Edits, candidates: int = CANDIDATES
) -> dict[str, float]:
    """How often, and how far up, the true guide is found among so many by the edited region."""
    count = min(candidates, len(edits.output))
    where = (edits.output - edits.bare).abs().mean(1, keepdim=True)
    groups = zip(*(torch.split(x, count) for x in (edits.output, pairs.guide, where)), strict=True)
    found = [_ranks(judge, *group) for group in groups if len(group[0]) == count]
    ranks = torch.cat(found).double()
    return {
        "candidates": count,
        "retrieval_first": (ranks == 1).double().mean().item(),
        "retrieval_first_chance": 1 / count,
        "retrieval_rank": ranks.mean().item(),
        "retrieval_rank_chance": (count + 1) / 2,
    }


def _ranks(judge: FactorClassifier, output: Tensor, guides: Tensor, where: Tensor) -> Tensor:
    """Rank (N,) of guide i for output i, by features weighted with where (N, 1, h, w) i changed."""
    with torch.inference_mode():
        of_output, of_guides = (stages(judge, pictures)[STAGE] for pictures in (output, guides))
    weight = F.adaptive_avg_pool2d(where, of_output.shape[-1])  # (N, 1, g, g)
    weight = weight / weight.sum(dim=(2, 3), keepdim=True).clamp_min(1e-12)
    distances = torch.stack(  # (N, N): output i to guide j
        [
            ((one - of_guides).square().sum(1) * of_one).sum(dim=(1, 2))
            for one, of_one in zip(of_output, weight, strict=True)
        ]
    )
    own = distances.diagonal()[:, None]
    # A tie counts half a place: a model that ignores its guide gets the rank of a guess.
    return 1 + (distances < own).sum(1) + ((distances == own).sum(1) - 1) / 2
