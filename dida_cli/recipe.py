"""A model is a recipe: on what pictures, by which method, in which stages, with which settings.

A recipe is a TOML file. `recipes/` holds those of the bundled models and of the papers; a run keeps
its own, whole, as `recipe.toml`, from which it can be repeated.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from dida_cli import methods
from dida_cli.config import OTHER, Domains, Fit, Json, ModelConfig, Precision, checked, require
from dida_cli.config import Part as Place
from dida_cli.errors import DidaError

RECIPES = Path(__file__).parent / "recipes"
SUFFIX = ".toml"
AVATARS = "avatars"  # as data: faces that are drawn when they are not there
JUDGE = "judge"  # as method: a classifier of drawn faces' factors, which edits nothing
WORDS = {"Smiling": "smile", "Eyeglasses": "glasses", "Beard": "beard"}  # of attributes' names

BOUND = "teacher", "code", "realism", "least"  # settings that hang on the pictures
PLACED = "drawn", "region"  # of a part

# What a part is called, and which pictures have it and which lack it: expressions over labels
# (`Smiling and not Eyeglasses`); in a folder without a list of labels the names of two folders or
# archives in it (`trainA`). And how it can be put into pictures that lack it, so that there are
# true pairs, too: `drawn`, where it is glasses of faces (`data.frames`); `region`, x and y of its
# middle, half of its width and of its height, from 0 to 1, where it lies in all (`data.swapped`).
Part = TypedDict(
    "Part",
    {
        "name": str,
        "with": str,
        "without": str,
        "drawn": NotRequired[bool],
        "region": NotRequired[list[float]],
    },
)


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
        require(self, "steps", "batch", least=1)


@dataclass(frozen=True, kw_only=True)
class Training(Json):
    """How any method is trained. Learning rates fall along a half cosine to a twentieth.

    Attributes:
        flip: mirror half of the pictures.
        vary: show pictures in another place, size, turn and light each time.
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
    vary: bool = False
    mean: float = 0.999
    log_every: int = 20
    save_every: int = 500
    score_every: int = 1000
    patience: int = 0
    accumulate: int = 1
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        require(self, "log_every", "save_every", "accumulate", least=1)
        require(self, "score_every", "patience")
        if not 0 <= self.mean < 1:
            raise DidaError(f"mean must be 0 or more and below 1, not {self.mean}")
        if self.patience and not self.score_every:
            raise DidaError("patience counts scores, and score_every 0 makes none; set it too")


@dataclass(frozen=True, kw_only=True)
class Recipe(Json):
    """Everything that makes a model.

    Attributes:
        about: what it does, in a line.
        split_by: the column of a table of labels whose values, persons say, are not both learned
            from and held out; empty: pictures are held out one by one.
        balance: the column of whose values a batch takes equal shares; empty: of all alike.
        shown: an expression over a table's labels, of pictures that may be shown on cards and
            sheets; empty: all may.
    """

    method: str
    parts: dict[Place, Part] = field(default_factory=dict)
    stages: list[Stage]
    about: str = ""
    data: str = AVATARS
    seed: int = 0
    fit: Fit = "crop"
    split_by: str = ""
    balance: str = ""
    shown: str = ""
    training: Training = field(default_factory=Training)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise DidaError(f"seed must be 0 or more and below 2^63, not {self.seed}")
        if len(self.stages) not in (1, 2):
            raise DidaError(f"stages must be one or two, not {len(self.stages)}")
        if self.method == JUDGE:
            if self.parts or self.settings:
                raise DidaError(f"method {JUDGE} takes neither parts nor settings")
            return
        if list(self.parts) not in (["a"], ["a", "b"]):
            raise DidaError("parts must be a, or a and b, each with name, with and without")
        for place, part in self.parts.items():
            _check(part, f"parts.{place}")
            if part.get("drawn") and self.fit not in ("face", "drawing"):
                raise DidaError(f'parts.{place}: drawn needs fit "face" or "drawing"')
        object.__setattr__(self, "settings", methods.complete(self.method, self.settings))
        for stage in self.stages:
            if stage.batch % (parts := self.training.accumulate):
                raise DidaError(f"accumulate {parts} does not divide batch {stage.batch}")
            self.model(stage)

    def model(self, stage: Stage) -> ModelConfig:
        """The network of a stage. Raises DidaError when its settings do not go together."""
        names = {place: part["name"] for place, part in self.parts.items()}
        return ModelConfig(
            method=self.method,
            domains=Domains(**names),
            side=stage.side,
            fit=self.fit,
            settings=self._placeless_settings,
        )

    @property
    def placeless(self) -> "Recipe":
        """This recipe without the folders that its pictures and its teacher lie in.

        Where things lie on a machine is nobody's business who gets a model.
        """
        return replace(self, data=Path(self.data).name, settings=self._placeless_settings)

    @property
    def _placeless_settings(self) -> dict[str, Any]:
        teacher = self.settings.get("teacher")
        return self.settings | ({"teacher": Path(teacher).name} if teacher else {})

    @property
    def expressions(self) -> dict[Place, tuple[str, str]]:
        """Which pictures have each part, and which lack it."""
        return sides(self.parts)

    def to_toml(self) -> str:
        """The file of this recipe, such that `parse` gives it back."""
        values = self.to_json()
        plain = {name: v for name, v in values.items() if not isinstance(v, dict | list)}
        tables = [_lines(plain)]
        tables += [f"[parts.{name}]\n{_lines(part)}" for name, part in values["parts"].items()]
        tables += [f"[[stages]]\n{_lines(stage)}" for stage in values["stages"]]
        tables += [f"[{n}]\n{_lines(values[n])}" for n in ("training", "settings") if values[n]]
        return "\n".join(tables)


def names() -> list[str]:
    """The bundled recipes."""
    return sorted(file.stem for file in RECIPES.glob(f"*{SUFFIX}"))


def usual(method: str, parts: int) -> dict[str, Any]:
    """What serves a method on people's own pictures: the first bundled recipe of it that has so
    many parts, or any; without what hangs on its pictures. DidaError when there is none."""
    found = [values for name in names() if (values := values_of(name))["method"] == method]
    if not found:
        methods.find(method)
        raise DidaError(f"method {method} has no bundled recipe; write one, and give its file")
    values = min(found, key=lambda values: len(values.get("parts", {})) != parts)
    for name in BOUND:
        values.get("settings", {}).pop(name, None)
    unplaced(values)
    return values


def unplaced(values: dict[str, Any]) -> None:
    """Forget how parts are put into a recipe's pictures, where these become others."""
    for part in values.get("parts", {}).values():
        for name in PLACED:
            part.pop(name, None)


def values_of(name: str) -> dict[str, Any]:
    """What stands in a recipe: of a file, if the name ends in .toml, else of a bundled one.

    Raises DidaError when there is no such recipe.
    """
    is_file = name.endswith(SUFFIX)
    if not is_file and name not in (known := names()):
        near = get_close_matches(name, known, n=1)
        offer = f" (did you mean {near[0]}?)" if near else ""
        raise DidaError(
            f"no recipe {name!r}{offer}; there are {', '.join(known)}; "
            f"a file's name ends in {SUFFIX}"
        )
    path = Path(name) if is_file else RECIPES / f"{name}{SUFFIX}"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DidaError(
            f"{path}: no such file; give one, or a name that dida train --list shows"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DidaError(f"{path}: not readable as TOML ({error})") from None


def parse(values: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of these values, which stand in `where`. Raises DidaError naming the wrong one."""
    if not isinstance(values.get("stages"), list):
        raise DidaError(f"{where}: needs one or two tables [[stages]] with steps, side, batch")
    return Recipe.from_json(values, where, partial=True)


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
) -> dict[Place, Part]:
    """The parts of a recipe, by expressions that say which pictures have them.

    For a method that `takes` parts, each by itself; for one that takes domains, pictures have one
    and lack the other. `having` and `lacking` are conditions on all pictures.
    """
    from dida_cli.data.labels import all_of

    wanted: dict[Place, str] = {"a": a, "b": b} if b else {"a": a}
    parts: dict[Place, Part] = {}
    for place, one in wanted.items():
        other = [wanted[OTHER[place]]] if b and takes == "domains" else []
        parts[place] = {
            "name": WORDS.get(one, one.lower().replace("_", "-")),
            "with": all_of([one, *having], [*other, *lacking]),
            "without": all_of([*other, *having], [one, *lacking]),
        }
    return parts


def sides(parts: Mapping[Place, Part]) -> dict[Place, tuple[str, str]]:
    """By place, which pictures have a part, and which lack it."""
    return {place: (part["with"], part["without"]) for place, part in parts.items()}


def _check(part: Part, where: str) -> None:
    """Raises DidaError when it is no `Part`."""
    words = set(Part.__annotations__)
    if not isinstance(part, dict) or not words >= set(part) >= {"name", "with", "without"}:
        raise DidaError(f"{where}: needs name, with and without, may have drawn or region, no more")
    for word, value in part.items():
        wanted: Any = {"drawn": bool, "region": list[float]}.get(word, str)
        checked(wanted, value, f"{where}: {word}")
    region = part.get("region")
    if region is not None and (part.get("drawn") or len(region) != 4 or min(region) <= 0):
        raise DidaError(
            f"{where}: region must be four numbers over 0, [x, y, half width, half height], "
            "and the part not drawn"
        )


def differences(old: Recipe, new: Recipe) -> list[str]:
    """A line for everything that is not the same: `settings.change: 0.2 -> 0.1`."""
    before, now = (_flat(one.to_json()) for one in (old, new))
    return [
        f"{key}: {before.get(key, 'nothing')} -> {now.get(key, 'nothing')}"
        for key in before | now
        if before.get(key) != now.get(key)
    ]


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Every value in tables, as TOML, by the words that lead to it: parts.a.name."""
    if not isinstance(value, dict | list):
        return {key: _value(value)}
    inside = value if isinstance(value, dict) else dict(enumerate(value, start=1))
    found: dict[str, str] = {}
    for name, one in inside.items():
        found |= _flat(one, f"{key}.{name}" if key else str(name))
    return found


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: Any) -> str:
    """A value as TOML: JSON but for the delete character, which TOML wants escaped, and inf."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
