"""A quick score of a model while it is trained, to keep the best of its states.

For each direction three figures from 0 to 1, and the score is the mean of those of the weaker one:

    target   the judge gives the output to the guide's domain (`target`)
    guide    the output carries this very guide's part: by its kind where faces are drawn
             (`guide_type`), else by the rank of the true guide (`retrieval`; 1: the nearest, 0: no
             better than a guess); nothing where guides have no part, as when one is taken off
    kept     structural similarity to the true answer where faces are drawn, else to the content

All three, for each is easy alone: the guide itself is a perfect target, an edit that does nothing
keeps the content best, and pictures still become sharper when the first two no longer rise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from torch import Tensor

from dida_cli.codes import Model
from dida_cli.config import Part
from dida_cli.data import avatars, sources
from dida_cli.errors import DidaError
from dida_cli.evaluate import counterfactual, guidance, pairs, realism
from dida_cli.evaluate.attributes import FactorClassifier
from dida_cli.evaluate.pairs import Edits, Pairs, Task

PAIRS, LEAST_PAIRS = 64, 10  # each way
SEED = 20_261_231  # of drawn pairs: not that of dida evaluate, and of no training set


@dataclass(frozen=True)
class Validation:
    """Pairs that a training does not see, and who judges their edits."""

    judge: FactorClassifier  # of factors where the pairs are drawn, else of the parts
    pairs: Mapping[Part, Pairs]

    def __call__(self, model: Model) -> dict[str, float]:
        """`score`, then `target_a`, `guide_a`, `kept_a` and the same of b, by the guides' part.

        The model must be on the CPU. Nothing is drawn at random.
        """
        figures: dict[str, float] = {}
        means = []
        for part, of_part in self.pairs.items():
            of_edits = _figures(self.judge, of_part, pairs.edit(model, of_part))
            figures |= {f"{name}_{part}": value for name, value in of_edits.items()}
            means.append(fmean(of_edits.values()))
        return {"score": min(means)} | figures


def _figures(judge: FactorClassifier, of_part: Pairs, edits: Edits) -> dict[str, float]:
    figures = {}
    if of_part.known:
        figures["target"] = counterfactual.classification(judge, of_part, edits)["target"]
        if kind := counterfactual.guide_type(judge, of_part, edits):
            figures["guide"] = kind["guide_type"]
        answer = of_part.known.truth
    else:
        figures["target"] = counterfactual.by_parts(judge, of_part, edits)["target"]
        figures["guide"] = _from_rank(guidance.retrieval(judge, of_part, edits))
        answer = of_part.content
    return figures | {"kept": max(0.0, realism.ssim_map(edits.output, answer).mean().item())}


def _from_rank(found: Mapping[str, float]) -> float:
    chance = found["retrieval_rank_chance"]
    return max(0.0, (chance - found["retrieval_rank"]) / (chance - 1))


def drawn_task(root: Path, named: Mapping[Part, tuple[str, str]]) -> Task | None:
    """What pairs to draw for a training on drawn faces; None where its pictures are others.

    `named` are the expressions by which pictures in `root` have each part, and lack it: attributes
    that each begins with. What lacks the only part may have one of its own.
    """
    if not sources.is_drawn(root):
        return None
    having, lacking = named["a"]
    other = named["b"][0] if "b" in named else lacking
    a, b = (
        next((n for n in avatars.ATTRIBUTES if s.split()[:1] == [n]), None) for s in (having, other)
    )
    return Task(a, b) if a and a != b and (b or "b" not in named) else None


def drawn(task: Task, side: int) -> dict[Part, Pairs]:
    """Pairs of drawn faces, for a judge of factors."""
    return pairs.draw(task, PAIRS, side, seed=SEED)


def held_out(sides: Mapping[Part, tuple[Tensor, Tensor]]) -> dict[Part, Pairs]:
    """Pairs of held-out pictures, as `pairs.of_pictures` takes them, for a judge of the parts.

    Raises DidaError when there are fewer than 10 of one kind.
    """
    count = min(len(pictures) for side in sides.values() for pictures in side)
    if count < LEAST_PAIRS:
        raise DidaError(
            f"scores need {LEAST_PAIRS} held-out pictures with each part and without, not {count}"
        )
    return pairs.of_pictures(sides, PAIRS, seed=SEED)
