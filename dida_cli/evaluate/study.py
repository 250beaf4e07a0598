"""What people say of edits: the paper's user study (Table 2) as one web page, and its scores.

The page shows content, guide and result, and asks `QUESTIONS` of each on a scale of 1 to 5. Every
model edits the same random pairs, both ways where it can; the results come in one random order
under numbers that say nothing. Which number is whose stands in the key, which raters do not get.
The page is one file that loads nothing and sends nothing: each rater exports a JSON file.
"""

import base64
import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

import torch

from dida_cli import images
from dida_cli.codes import Model
from dida_cli.config import OTHER, PARTS, Domains, ModelConfig, Part
from dida_cli.data import avatars
from dida_cli.data.folders import Progress, unheard
from dida_cli.errors import DidaError
from dida_cli.evaluate.pairs import SMILE_GLASSES, moved_to
from dida_cli.images import Picture

# The paper's three, (1) to (3); a content of A is asked for A's part, and so is one of B for B's.
QUESTIONS = {
    "removed": "Is the specific attribute of the content ({content}) removed?",
    "added": "Is the specific attribute of the guide ({guide}) added?",
    "preserved": "Is the identity of the content preserved?",
}
TASK = "The result should be the content with the guide's {guide} in place of its {content}."
SCALE = range(1, 6)  # not at all .. completely; higher is better
ALL_WAYS = "all"
DEFINITIONS = {
    "mean": "mean opinion score: mean of the ratings, 1 (not at all) to 5 (completely)",
    "interval": "mean ± half the width of the 95 % confidence interval, "
    "t(0.975, n - 1) s / sqrt(n): Student t over the n ratings, taken as independent",
    "ratings": "answers given, of all raters",
    ALL_WAYS: "the ratings of every direction together",
}
PAGE = Path(__file__).with_name("study.html")
DRAWN = Domains(a="smile", b="glasses")  # what avatars are drawn for: smile and glasses
SIDE = 256  # of drawn avatars in pixels; each model scales them to its own
T = TypeVar("T")


class Entrant(NamedTuple):
    """A model to ask about, what the user calls it, and the sha256 of its weights."""

    name: str
    sha256: str
    model: Model


@dataclass(frozen=True)
class Way:
    """One direction: content i gets the part of guide i."""

    guide_part: Part
    contents: list[Picture]
    guides: list[Picture]

    def words(self, domains: Domains) -> dict[str, str]:
        """The names of both parts, to fill into questions."""
        content = domains.of(OTHER[self.guide_part]) or f"no {domains.a}"
        return {"content": content, "guide": domains.of(self.guide_part)}

    def name(self, domains: Domains) -> str:
        """`smile to glasses`: from what the content has to what the guide has."""
        return "{content} to {guide}".format(**self.words(domains))


@dataclass(frozen=True)
class Item:
    """What a number on the page stands for."""

    model: str
    way: str
    pair: int  # 0, 1, ... within its direction


@dataclass(frozen=True)
class Key:
    """Which item of a study is whose; to be kept from the raters."""

    study: str  # a digest of all that raters see, which the page and every answer carry
    seed: int
    models: dict[str, str]  # name -> sha256 of the weights
    items: dict[str, Item]  # number on the page -> what it is

    @property
    def questions(self) -> int:
        """How many questions the page asks of one rater."""
        return len(self.items) * len(QUESTIONS)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Answers:
    """What one rater exported."""

    path: Path
    rater: str
    ratings: dict[str, dict[str, int]]  # item -> question -> 1..5; what was left out is missing

    @property
    def count(self) -> int:
        """How many questions were answered."""
        return sum(map(len, self.ratings.values()))


def drawn_ways(entrants: Sequence[Entrant], pairs: int, seed: int) -> list[Way]:
    """Both directions over `pairs` >= 1 avatars a part: those of `pairs.draw` with this seed.

    Raises DidaError when a model knows other parts.
    """
    for name, _, model in entrants:
        if model.config.domains != DRAWN:
            raise DidaError(
                f"avatars are drawn for {_named(DRAWN)}, {name} knows "
                f"{_named(model.config.domains)}; give --guide-a FOLDER and --guide-b FOLDER"
            )
    drawn = {}
    for part, other in OTHER.items():
        faces = avatars.faces_with(seed, SMILE_GLASSES.of(part), SMILE_GLASSES.of(other))
        drawn[part] = [avatars.draw(face, SIDE) for face in islice(faces, pairs)]
    return [Way(part, drawn[OTHER[part]], drawn[part]) for part in reversed(PARTS)]


def folder_ways(
    pairs: int,
    seed: int,
    *,
    content: Path | None = None,
    guide_a: Path | None = None,
    guide_b: Path | None = None,
) -> list[Way]:
    """A direction for every folder of guides, over `pairs` >= 1 pictures drawn at random.

    Without `content`, the contents of one direction are the guides of the other, as in the paper.
    Raises DidaError when a folder holds fewer pictures than pairs, or when nothing is to pair up.
    """
    given = {"content": content, "a": guide_a, "b": guide_b}
    folders = {role: folder for role, folder in given.items() if folder}
    if len(folders) < 2:
        raise DidaError("give both --guide-a and --guide-b, or --content and one or both of them")
    picked = {role: _pick(folder, pairs, f"{seed}:{role}") for role, folder in folders.items()}
    return [
        Way(part, picked.get("content") or picked[OTHER[part]], picked[part])
        for part in reversed(PARTS)
        if part in picked
    ]


def _pick(folder: Path, count: int, seed: str) -> list[Picture]:
    """`count` of the folder's pictures at random."""
    paths = images.pictures_in(folder)
    if len(paths) < count:
        raise DidaError(f"{folder}: holds {len(paths)} pictures; give --pairs {len(paths)} or less")
    return [images.read(path) for path in _shuffled(paths, seed)[:count]]


def _shuffled(values: Sequence[T], seed: str) -> list[T]:
    """In the random order of this seed; Python promises `random()` across versions, no shuffle."""
    random = Random(seed)
    return sorted(values, key=lambda _: random.random())


def make(
    entrants: Sequence[Entrant],
    ways: Sequence[Way],
    *,
    seed: int,
    on_progress: Progress = unheard,
) -> tuple[str, Key]:
    """The page as HTML, and its key. The same arguments give the same text.

    Source: Table 2 of Domain Intersection and Domain Difference (ICCV 2019), which asks of 20
    pairs each way. Raises DidaError when two entrants have one name, differ in their domains or
    in how they make a picture square, or when one knows no part that a direction needs.
    """
    shown = _check(entrants, ways)
    domains = shown.domains
    pictures: list[str] = []
    results: list[tuple[Item, dict[str, int], str]] = []
    total = len(entrants) * sum(len(way.contents) for way in ways)
    for number, way in enumerate(ways):
        for pair, (content, guide) in enumerate(zip(way.contents, way.guides, strict=True)):
            pictures += [_uri(content, shown), _uri(guide, shown)]
            told = {"way": number, "content": len(pictures) - 2, "guide": len(pictures) - 1}
            for name, _, model in entrants:
                result = _uri(_edit(model, way.guide_part, content, guide), shown)
                results.append((Item(name, way.name(domains), pair), told, result))
                on_progress(len(results), total)
    items: dict[str, Item] = {}
    asked: list[dict[str, Any]] = []
    for place, (item, told, result) in enumerate(_shuffled(results, f"{seed}:order"), start=1):
        items[f"{place:04d}"] = item
        asked.append({"id": f"{place:04d}", **told, "result": len(pictures)})
        pictures.append(result)
    seen = {
        "questions": list(QUESTIONS),
        "ways": [_spoken(way.words(domains)) for way in ways],
        "items": asked,
        "pictures": pictures,
    }
    study = hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:12]
    key = Key(study, seed, {name: sha256 for name, sha256, _ in entrants}, items)
    return _page({"study": study, **seen}), key


def _spoken(words: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of a direction."""
    questions = [question.format(**words) for question in QUESTIONS.values()]
    return {"task": TASK.format(**words), "questions": questions}


def _check(entrants: Sequence[Entrant], ways: Sequence[Way]) -> ModelConfig:
    """The config with the most pixels, whose size and square all pictures take on the page."""
    first = entrants[0]
    same = first.model.config
    for number, (name, _, model) in enumerate(entrants):
        config = model.config
        if name in (entrant.name for entrant in entrants[:number]):
            raise DidaError(f"{name} is given twice; give each model once")
        if config.domains != same.domains:
            raise DidaError(
                f"{name} knows {_named(config.domains)}, {first.name} {_named(same.domains)}; "
                "compare models of the same domains"
            )
        if config.fit != same.fit:
            raise DidaError(
                f"{name} fits pictures by {config.fit}, {first.name} by {same.fit}; raters would "
                "see which is which: compare models of one fit"
            )
        if "b" not in config.parts and any(way.guide_part == "b" for way in ways):
            raise DidaError(
                f"{name} knows no part of its own in domain B; leave it out, or give --content "
                "and --guide-a alone"
            )
    return max((entrant.model.config for entrant in entrants), key=lambda config: config.side)


def _named(domains: Domains) -> str:
    return " and ".join(map(domains.of, domains.parts))


def _edit(model: Model, part: Part, content: Picture, guide: Picture) -> Picture:
    with torch.inference_mode():
        onto = images.to_tensor([content], model.config)  # (1, 3, side, side)
        codes, wanted = model.encode(onto), model.encode(images.to_tensor([guide], model.config))
        made = model.compose(moved_to(codes, wanted, part), onto, codes)
        return images.to_pictures(made.image)[0]


def _uri(picture: Picture, shown: ModelConfig) -> str:
    """The picture as the page holds it; one size for all, so that none tells its model."""
    png = images.encode(images.fit(picture, shown))
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _page(study: Mapping[str, Any]) -> str:
    """The template filled in: a policy that lets just its own style and script run, the study."""
    template = PAGE.read_text(encoding="utf-8")
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        policy += f"; {tag}-src 'sha256-{digest}'"
    data = json.dumps(study).replace("<", "\\u003c")  # a domain's name may hold </script>
    return template.replace("{{policy}}", policy).replace("{{study}}", data)


def read_key(path: Path) -> Key:
    """The key that `make` gave. Raises DidaError when the file is none."""
    found = _read_json(path)
    try:
        items = {number: Item(**item) for number, item in found["items"].items()}
        key = Key(**(found | {"items": items}))
        named = all(i.model in key.models and isinstance(i.way, str) for i in items.values())
        if items and named and isinstance(key.study, str):
            return key
    except (AttributeError, KeyError, TypeError):
        pass
    raise DidaError(f"{path}: not a study's key; give the .key.json that dida study make wrote")


def read_answers(path: Path, key: Key) -> Answers:
    """One rater's exported file, which may lack answers.

    Raises DidaError when it is none, belongs to another study, holds no answers, names an item or
    a question that was not asked, or a rating that is not a whole number of 1 to 5.
    """
    match _read_json(path):
        case {"study": str(study), "rater": str(rater), "answers": dict(rated)}:
            answers = Answers(path, rater, rated)
        case _:
            raise DidaError(f"{path}: not an answers file; give the JSON that the page exports")
    if study != key.study:
        raise DidaError(
            f"{path}: answers study {study!r}, the key is of {key.study!r}; "
            "give --key the file beside the page that was rated"
        )
    for number, ratings in rated.items():
        if number not in key.items or not isinstance(ratings, dict):
            raise DidaError(f"{path}: item {number!r} was not asked; export the answers again")
        for question, rating in ratings.items():
            where = f"{path}: item {number}, {question!r}"
            if question not in QUESTIONS:
                raise DidaError(f"{where}: no such question; there are {', '.join(QUESTIONS)}")
            if type(rating) is not int or rating not in SCALE:
                raise DidaError(f"{where}: a rating is a whole number of 1 to 5, not {rating!r}")
    if not answers.count:
        raise DidaError(f"{path}: holds no answers; leave it out")
    return answers


def _read_json(path: Path) -> Any:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError(0, "a pipe or a device")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DidaError(f"{path}: no such file; check its name") from None
    except OSError as error:
        raise DidaError(f"{path}: cannot be read ({error.strerror}); give a JSON file") from None
    except (ValueError, RecursionError):
        raise DidaError(f"{path}: not readable as JSON; export or copy it again, whole") from None


def score(key: Key, answers: Sequence[Answers]) -> dict[str, Any]:
    """Mean opinion scores by model, direction and question; `DEFINITIONS` says what they mean.

    Of every score `mean` is None where nothing was rated, `interval` where fewer than two ratings
    are. `missing` counts the questions left out. Raises DidaError for two files of one rater.
    """
    seen: dict[str, Path] = {}
    for one in answers:
        if one.rater in seen:
            raise DidaError(
                f"{seen[one.rater]} and {one.path} are of one rater; give only the later of them"
            )
        seen[one.rater] = one.path
    ways = sorted({item.way for item in key.items.values()})
    columns = [*ways, ALL_WAYS] if len(ways) > 1 else ways
    asked = len(answers) * key.questions
    # the questions without the name of the part
    questions = {name: re.sub(r" \(\{\w+\}\)", "", text) for name, text in QUESTIONS.items()}
    return {
        "study": key.study,
        "raters": len(answers),
        "asked": asked,
        "missing": asked - sum(one.count for one in answers),
        "questions": questions,
        "definitions": DEFINITIONS,
        "scores": {
            model: {
                way: {question: _cell(key, answers, model, way, question) for question in QUESTIONS}
                for way in columns
            }
            for model in key.models
        },
    }


def _cell(
    key: Key, answers: Sequence[Answers], model: str, way: str, question: str
) -> dict[str, Any]:
    """One score: that of a model's items in a direction, or in all."""
    found = [
        (one.rater, ratings[question])
        for one in answers
        for number, ratings in one.ratings.items()
        if question in ratings
        and key.items[number].model == model
        and way in (key.items[number].way, ALL_WAYS)
    ]
    ratings, count = [rating for _, rating in found], len(found)
    return {
        "mean": statistics.fmean(ratings) if ratings else None,
        "interval": half_width(ratings) if count > 1 else None,
        "ratings": count,
        "raters": len({rater for rater, _ in found}),
    }


def half_width(ratings: Sequence[float]) -> float:
    """Half of the 95 % Student t interval of the mean of two ratings or more."""
    count = len(ratings)
    return student_t(count - 1) * statistics.stdev(ratings) / math.sqrt(count)


def student_t(freedom: int) -> float:
    """The t of which Student's distribution holds 95 % between -t and t; `freedom` 1 or more.

    Bisected from the finite series of Abramowitz and Stegun 26.7.3-4.
    """
    low, high = 0.0, math.pi / 2  # of the angle atan(t / sqrt(freedom))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Share of Student's distribution between -t and t, where t = sqrt(freedom) tan(angle)."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for power in range(2 + odd, freedom - 1, 2):
        term *= (power - 1) / power * math.cos(angle) ** 2
        total += term
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
