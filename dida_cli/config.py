"""Settings as frozen data: checked once, kept as JSON beside the weights. Standard library only."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from dida_cli.errors import DidaError

Fit = Literal["crop", "squash", "face", "drawing"]
Part = Literal["a", "b"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Tracking = Literal["tensorboard", "trackio", "wandb"]
Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "torch", "onnx"]
Size = Literal["own", "model"]  # of an edit: the picture's, or the square that the model sees

PARTS: tuple[Part, ...] = ("a", "b")
OTHER: dict[Part, Part] = {"a": "b", "b": "a"}

MAX_HEADER_BYTES = 500_000  # of a safetensors file: some 100 bytes a tensor
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"  # in every model folder
DRAWN_MODEL, PHOTO_MODEL = "avatars-smile-glasses", "portraits"  # who knows which pictures
DEFAULT_MODEL = DRAWN_MODEL  # what edits use unless told otherwise
SIDES = (32, 256)  # smallest and largest picture side in pixels
CHANNELS = 4096  # no code or net may be wider: a config from elsewhere must not eat the memory
MAX_CONFIG_BYTES = 100_000
MAX_WORDS = 300  # characters of a message that a file from elsewhere may fill
NAME_LENGTH = 64  # characters of a part's name, which is printed in messages and on sheets
CONTAINERS: dict[type, str] = {dict: "a table of settings", list: "a list"}


class Json:
    """To and from a JSON object, strictly: every key known, every value of its type."""

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, values: object, where: str, *, partial: bool = False) -> Self:
        """The settings in `values`, read from `where`; `partial`: those with defaults may lack.

        Raises DidaError naming the wrong key.
        """
        known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, dict):
            raise DidaError(f"{where}: expected an object with {', '.join(known)}")
        if unknown := sorted(set(values) - set(known)):
            raise DidaError(f"{where}: unknown setting {unknown[0]!r}; known: {', '.join(known)}")
        bare = {n for n, f in known.items() if f.default is f.default_factory is MISSING}
        if missing := sorted((bare if partial else set(known)) - set(values)):
            raise DidaError(f"{where}: setting {missing[0]!r} is missing")
        found = {n: checked(known[n].type, v, f"{where}: {n}", partial) for n, v in values.items()}
        try:
            return cls(**found)
        except DidaError as error:
            raise DidaError(f"{where}: {error}") from None


def checked(kind: Any, value: Any, where: str, partial: bool = False) -> Any:
    """The value, if it is of this kind. Raises DidaError that says what `where` must be."""
    if isinstance(kind, type) and issubclass(kind, Json):
        return kind.from_json(value, where, partial=partial)
    origin, inside = get_origin(kind), get_args(kind)
    if inside in ((int,), (float,)) and isinstance(value, int | float):
        value = [value]  # a number alone is a list of one
    if origin is Literal:
        fits, wanted = value in inside, f"one of {', '.join(inside)}"
    elif origin is not None:
        fits, wanted = isinstance(value, origin), CONTAINERS[origin]
    else:
        fits = isinstance(value, (int, float) if kind is float else kind)
        fits &= kind is bool or not isinstance(value, bool)
        wanted = f"of type {kind.__name__}"
    if not fits:
        raise DidaError(f"{where} must be {wanted}, not {value!r}")
    if origin is list:
        return [checked(inside[0], one, where, partial) for one in value]
    try:
        return float(value) if kind is float else value
    except OverflowError:
        raise DidaError(f"{where} is larger than any number may be") from None


def require(
    of: object, *names: str, least: float = 0, most: float = math.inf, below: float = math.inf
) -> None:
    """Raises DidaError naming the first field, a number or a list of them, that is less than
    `least`, more than `most`, not below `below`, or no number."""
    for name in names:
        value = getattr(of, name)
        each = value if isinstance(value, list) else [value]
        if not all(least <= one <= most and one < below for one in each):
            bounds = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise DidaError(f"{name} must be {bounds}, not {value}")


def require_rate(of: object, *names: str) -> None:
    """Raises DidaError naming the first field that is no learning rate."""
    for name in names:
        if not 0 < (value := getattr(of, name)) < 1:
            raise DidaError(f"{name} must lie between 0 and 1, not {value}")


@dataclass(frozen=True, kw_only=True)
class Domains(Json):
    """What each domain alone has, in the user's words, e.g. a = smile, b = glasses.

    An empty b: domain B has no part of its own, it lacks that of A.
    """

    a: str = "smile"
    b: str = ""

    def __post_init__(self) -> None:
        for name in (self.a, self.b or self.a):
            if not (0 < len(name) <= NAME_LENGTH and name.isprintable() and name == name.strip()):
                raise DidaError(
                    f"a part's name must be 1 to {NAME_LENGTH} printable characters, not {name!r}"
                )
        if self.a == self.b:
            raise DidaError(f"both parts are called {self.a!r}; give them different names")

    @property
    def parts(self) -> tuple[Part, ...]:
        return PARTS if self.b else ("a",)

    def of(self, part: Part) -> str:
        return self.a if part == "a" else self.b


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Json):
    """Everything needed to rebuild a network and to feed it pictures as in its training.

    Attributes:
        method: a name of `methods.MODULES`.
        side: the square picture the network sees, in pixels.
        fit: how a picture becomes square: its largest centred square, squashed whole, the square of
            the face in it, or as the first of a drawing: a photo is warned of.
        settings: the method's own, by name; the method checks them (`methods.settings_of`).
    """

    method: str
    domains: Domains = field(default_factory=Domains)
    side: int = 128
    fit: Fit = "crop"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        smallest, largest = SIDES
        if not smallest <= self.side <= largest:
            raise DidaError(f"side must be {smallest} to {largest} pixels, not {self.side}")

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.domains.parts


def read_config(path: Path) -> ModelConfig:
    """The config of a model folder. Raises DidaError when it is missing, foreign or wrong."""
    values = read_json(path)
    if isinstance(values, dict) and "architecture" in values:
        raise DidaError(
            f"{path}: of a method that this version no longer has; "
            "train the model anew: dida train --list shows the recipes"
        )
    try:
        return ModelConfig.from_json(values, str(path))
    except (DidaError, RecursionError) as error:  # either may quote the file at length
        raise DidaError(f"{path}: {short(str(error).removeprefix(f'{path}: '))}") from None


def read_json(path: Path) -> Any:
    """What a small JSON file of ours holds. Raises DidaError when there is none to read."""
    with in_one_line(path, "readable as JSON"), path.open("rb") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise DidaError(f"{path}: too large to be a config of dida")
        return parse(text)


@contextmanager
def in_one_line(path: Path, wanted: str, *more: type[Exception]) -> Iterator[None]:
    """Turns what can go wrong with a file from elsewhere into a DidaError that names it.

    `more`: what the library raises that reads it.
    """
    damage: tuple[type[Exception], ...] = (OSError, ValueError, RecursionError, *more)
    try:
        if path.exists() and not path.is_file():
            raise DidaError(f"{path}: is a folder, a pipe or a device, not {wanted}")
        yield
    except FileNotFoundError:
        raise DidaError(f"{path}: no such file; give a model folder that has one") from None
    except damage as error:
        raise DidaError(f"{path}: not {wanted} ({short(error)}); get it again") from None


def parse(text: bytes) -> Any:
    """JSON whose objects have every key once. Raises ValueError."""

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(values := dict(pairs)) < len(pairs):
            raise ValueError("an object has the same key twice")
        return values

    return json.loads(text.decode(), object_pairs_hook=as_dict)


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors, by name. Raises ValueError or OSError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {size} bytes")
        header = parse(file.read(size))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def short(words: object) -> str:
    """Words that a file from elsewhere had a hand in, fit for one line of a terminal."""
    text = str(words)
    shown = "".join(c if c.isprintable() else "?" for c in text[:MAX_WORDS])
    return shown if len(text) <= MAX_WORDS else f"{shown}..."
