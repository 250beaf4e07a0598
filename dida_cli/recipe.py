"""A model is a recipe: on what pictures, by which method, in which stages, with which settings.

A recipe is a TOML file. `recipes/` holds those of the bundled models and of the papers; a run keeps
its own, whole, as `recipe.toml`, from which it can be repeated.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dida_cli import methods
from dida_cli.config import PARTS, Domains, Fit, Json, ModelConfig, Precision
from dida_cli.config import Part as Place
from dida_cli.errors import DidaError

RECIPES = Path(__file__).parent / "recipes"
SUFFIX = ".toml"
AVATARS = "avatars"  # as data: faces that are drawn when they are not there
JUDGE = "judge"  # as method: a classifier of drawn faces' factors, which edits nothing
MAX_STAGES = 2
WORDS = {"Smiling": "smile", "Eyeglasses": "glasses", "Beard": "beard"}  # of attributes' names


@dataclass(frozen=True, kw_only=True)
class Part(Json):
    """What a part is called, and which pictures have it and which lack it.

    Expressions over labels (`Smiling and not Eyeglasses`); in a folder without a list of labels the
    names of two folders or archives in it (`trainA`).
    """

    name: str
    having: str
    lacking: str


@dataclass(frozen=True, kw_only=True)
class Stage(Json):
    """Steps at one side; the second stage begins from the weights of the first.

    Attributes:
        side: of the pictures, in pixels.
        batch: pictures of each side of each part in a step.
    """

    steps: int
    side: int = 128
    batch: int = 8

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise DidaError(f"{name} must be 1 or more, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Training(Json):
    """How any method is trained. Learning rates fall along a half cosine to a twentieth.

    Attributes:
        flip: mirror half of the pictures.
        mean: decay of the running mean of the weights, which is the model that is kept; it rises to
            this value with the steps (`training.running_mean`).
        score_every: steps between scores on held-out pictures, by which `best` is chosen; a
            training of at least as many is scored at its end too; 0: never.
        patience: scores in a row without a better one after which a training ends; 0: never early.
        accumulate: parts that a batch goes through the networks in, for less memory.
        precision: of the activations; auto: bfloat16 on a CPU that multiplies it faster, else
            float32; float16 on CUDA alone.
        compile: fuse the losses by torch.compile, which takes a minute or two at the start.
    """

    flip: bool = True
    mean: float = 0.999
    log_every: int = 20
    save_every: int = 500
    score_every: int = 1000
    patience: int = 0
    accumulate: int = 1
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("log_every", "save_every", "accumulate"):
            if getattr(self, name) < 1:
                raise DidaError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("score_every", "patience"):
            if getattr(self, name) < 0:
                raise DidaError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.mean < 1:
            raise DidaError(f"mean must be 0 or more and below 1, not {self.mean}")
        if self.patience and not self.score_every:
            raise DidaError("patience counts scores, and score_every 0 makes none; set it too")


@dataclass(frozen=True, kw_only=True)
class Recipe(Json):
    """Everything that makes a model. `about`: what it does, in a line."""

    method: str
    parts: dict[Place, Part]
    stages: list[Stage]
    about: str = ""
    data: str = AVATARS
    seed: int = 0
    fit: Fit = "crop"
    training: Training = field(default_factory=Training)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise DidaError(f"seed must be 0 or more and below 2^63, not {self.seed}")
        if not 1 <= len(self.stages) <= MAX_STAGES:
            raise DidaError(f"stages must be one or two, not {len(self.stages)}")
        if self.method == JUDGE:
            if self.parts or self.settings:
                raise DidaError(f"method {JUDGE} takes neither parts nor settings")
            return
        if list(self.parts) not in (["a"], ["a", "b"]):
            raise DidaError("parts must be a, or a and b, each with name, with and without")
        object.__setattr__(self, "settings", methods.complete(self.method, self.settings))
        for stage in self.stages:
            if stage.batch % self.training.accumulate:
                raise DidaError(
                    f"accumulate {self.training.accumulate} does not divide batch {stage.batch}"
                )
            self.model(stage)

    def model(self, stage: Stage) -> ModelConfig:
        """The network of a stage. Raises DidaError when its settings do not go together."""
        names = {place: part.name for place, part in self.parts.items()}
        return ModelConfig(
            method=self.method,
            domains=Domains(**names),
            side=stage.side,
            fit=self.fit,
            settings=self.placeless.settings,
        )

    @property
    def placeless(self) -> "Recipe":
        """This recipe without the folders that its pictures and its teacher lie in.

        Where things lie on a machine is nobody's business who gets a model.
        """
        settings = dict(self.settings)
        if teacher := settings.get("teacher"):
            settings["teacher"] = Path(teacher).name
        placeless = copy(self)
        object.__setattr__(placeless, "settings", settings)
        object.__setattr__(placeless, "data", Path(self.data).name)
        return placeless

    @property
    def expressions(self) -> dict[Place, tuple[str, str]]:
        """Which pictures have each part, and which lack it."""
        return {p: (self.parts[p].having, self.parts[p].lacking) for p in PARTS if p in self.parts}

    def to_toml(self) -> str:
        """The file of this recipe, such that `parse` gives it back."""
        values = self.to_json()
        for part in values["parts"].values():
            part |= {"with": part.pop("having"), "without": part.pop("lacking")}
        plain = {name: v for name, v in values.items() if not isinstance(v, dict | list)}
        tables = [_lines(plain)]
        tables += [f"[parts.{name}]\n{_lines(part)}" for name, part in values["parts"].items()]
        tables += [f"[[stages]]\n{_lines(stage)}" for stage in values["stages"]]
        tables += [f"[{n}]\n{_lines(values[n])}" for n in ("training", "settings") if values[n]]
        return "\n".join(tables)


def names() -> dict[str, str]:
    """The bundled recipes, and what each makes in a line."""
    files = {file.stem: file for file in RECIPES.glob(f"*{SUFFIX}")}
    return {name: str(_values(files[name]).get("about", "")) for name in sorted(files)}


def usual(method: str, parts: int) -> dict[str, Any]:
    """What serves a method on people's own pictures: the first bundled recipe of it that has so
    many parts, or any; without a teacher, which knows other parts. DidaError when there is none."""
    found = [values for name in names() if (values := values_of(name))["method"] == method]
    if not found:
        methods.find(method)
        raise DidaError(f"method {method} has no bundled recipe; write one, and give its file")
    values = min(found, key=lambda values: len(values.get("parts", {})) != parts)
    if settings := values.get("settings"):
        settings.pop("teacher", None)
    return values


def values_of(name: str) -> dict[str, Any]:
    """What stands in a recipe: of a file, if the name ends in .toml, else of a bundled one.

    Raises DidaError when there is no such recipe.
    """
    if name.endswith(SUFFIX):
        return _values(Path(name))
    known = names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        offer = f" (did you mean {near[0]}?)" if near else ""
        raise DidaError(
            f"no recipe {name!r}{offer}; there are {', '.join(known)}; "
            f"a file's name ends in {SUFFIX}"
        )
    return _values(RECIPES / f"{name}{SUFFIX}")


def parse(values: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of these values, which stand in `where`. Raises DidaError naming the wrong one."""
    given = dict(values)
    places = given.get("parts", {})
    if not isinstance(places, dict) or not set(places) <= set(PARTS):
        raise DidaError(f"{where}: parts must be a table [parts.a], and maybe one [parts.b]")
    given["parts"] = {
        place: _part(part, f"{where}: parts.{place}") for place, part in places.items()
    }
    stages = given.get("stages")
    if not isinstance(stages, list):
        raise DidaError(f"{where}: needs one or two tables [[stages]] with steps, side, batch")
    given["stages"] = [Stage.from_json(s, f"{where}: stages", partial=True) for s in stages]
    training = given.get("training", {})
    given["training"] = Training.from_json(training, f"{where}: training", partial=True).to_json()
    return Recipe.from_json(given, where, partial=True)


def load(name: str) -> Recipe:
    """The recipe of a file or of a bundled name. Raises DidaError when it is none."""
    return parse(values_of(name), name)


def assigned(values: dict[str, Any], assignment: str) -> None:
    """Set `key=value` in a recipe's values: settings.change=0.1, parts.a.name=beard, seed=3.

    A value is as in TOML; text may go without its quotes. `stages.` reaches every stage. Raises
    DidaError when it is no assignment.
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise DidaError(f"--set {assignment}: give NAME=VALUE, e.g. --set settings.change=0.1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    tables: list[Any] = [values]
    *path, name = key.strip().split(".")
    for word in path:
        found = [table.setdefault(word, {}) for table in tables]
        tables = [t for f in found for t in (f if isinstance(f, list) else [f])]
        if not all(isinstance(table, dict) for table in tables):
            raise DidaError(f"--set {assignment}: {word} is no table of settings")
    for table in tables:
        table[name] = value


def chosen(
    takes: str, a: str, b: str = "", having: Sequence[str] = (), lacking: Sequence[str] = ()
) -> dict[Place, dict[str, str]]:
    """The parts of a recipe, by expressions that say which pictures have them.

    For a method that `takes` parts, each by itself; for one that takes domains, pictures have one
    and lack the other. `having` and `lacking` are conditions on all pictures.
    """
    from dida_cli.data.celeba import all_of

    if b and takes == "domains":
        only_a, only_b = (
            all_of([one, *having], [other, *lacking]) for one, other in ((a, b), (b, a))
        )
        sides: dict[Place, tuple[str, str]] = {"a": (only_a, only_b), "b": (only_b, only_a)}
    else:
        wanted: dict[Place, str] = {"a": a, "b": b}
        sides = {
            place: (all_of([one, *having], lacking), all_of(having, [one, *lacking]))
            for place, one in wanted.items()
            if one
        }
    names: dict[Place, str] = {"a": word(a), "b": word(b)}
    return {
        place: {"name": names[place], "with": has, "without": lacks}
        for place, (has, lacks) in sides.items()
    }


def differences(old: Recipe, new: Recipe) -> list[str]:
    """A line for everything that is not the same: `settings.change: 0.2 -> 0.1`."""
    before, now = (_flat(tomllib.loads(one.to_toml())) for one in (old, new))
    return [
        f"{key}: {before.get(key, 'nothing')} -> {now.get(key, 'nothing')}"
        for key in before | now
        if before.get(key) != now.get(key)
    ]


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Every value in tables, as TOML, by the words that lead to it."""
    if not isinstance(value, dict | list):
        return {key: _value(value)}
    inside = value if isinstance(value, dict) else dict(enumerate(value, start=1))
    found: dict[str, str] = {}
    for name, one in inside.items():
        found |= _flat(one, f"{key}.{name}" if key else str(name))
    return found


def word(attribute: str) -> str:
    """What people call an attribute of CelebA: Smiling is a smile."""
    return WORDS.get(attribute, attribute.lower().replace("_", "-"))


def _values(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DidaError(
            f"{path}: no such file; give one, or a name that dida train --list shows"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DidaError(f"{path}: not readable as TOML ({error})") from None


def _part(values: Any, where: str) -> Part:
    """`with` and `without` are words of Python: here they are `having` and `lacking`."""
    if not isinstance(values, dict) or not {"name", "with", "without"} == set(values):
        raise DidaError(f"{where}: needs name, with and without, and nothing else")
    words = {"name": "name", "with": "having", "without": "lacking"}
    return Part.from_json({words[name]: value for name, value in values.items()}, where)


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: Any) -> str:
    """A value as TOML: JSON but for the delete character, which TOML wants escaped, and inf."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
