"""What a training is told: presets and config files in TOML, and single settings laid over them.

Settings are kept flat, by dotted name: {"training.steps": 9000, "model.domains.a": "smile"}. So
the later of two layers wins by `earlier | later`, and what is left out takes the usual value of
the method and the architecture. The tables are those of a run's train.json.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dida_cli.config import (
    LEARNING_RATES,
    TERMS,
    WEIGHTS,
    Domains,
    ModelConfig,
    Refine,
    TrainConfig,
    Weights,
    checked,
)
from dida_cli.errors import DidaError

Settings = dict[str, Any]

PRESETS = Path(__file__).parent / "presets"
SUFFIX = ".toml"
DATA = {"a": "a", "b": "b", "having": "with", "lacking": "without"}  # a run's word -> ours


def _kinds(table: str, kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(kind):
        name = f"{table}.{field.name}"
        found |= _kinds(name, field.type) if is_dataclass(field.type) else {name: field.type}
    return found


# Every setting there is, with its type.
KINDS: dict[str, Any] = {
    "description": str,
    "init": str,
    "data.root": str,
    "data.a": str,
    "data.b": str,
    "data.with": list[str],
    "data.without": list[str],
    **_kinds("model", ModelConfig),
    **_kinds("training", TrainConfig),
}


def presets() -> dict[str, str]:
    """The presets' names, and what each is in a line."""
    files = {file.stem: file for file in PRESETS.glob(f"*{SUFFIX}")}
    return {name: _read(files[name])["description"] for name in sorted(files)}


def read(name: str) -> Settings:
    """The settings of a file, if the name ends in .toml, else of a preset.

    Raises DidaError when there is no such file or preset, or when a setting in it is wrong.
    """
    if name.endswith(SUFFIX):
        return _read(Path(name))
    known = presets()
    if name not in known:
        offer = _offer(get_close_matches(name, known, n=1))
        raise DidaError(
            f"no preset {name!r}{offer}; there are {', '.join(known)}; "
            f"a file's name ends in {SUFFIX}"
        )
    return _read(PRESETS / f"{name}{SUFFIX}")


def _read(path: Path) -> Settings:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DidaError(
            f"{path}: no such file; give one, or a name that dida train --list-presets shows"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DidaError(f"{path}: not readable as TOML ({error})") from None
    return _known(_flat(values), str(path))


def assigned(assignment: str) -> Settings:
    """The settings of `key=value`, a value as in TOML; text may go without its quotes.

    Raises DidaError when it is no assignment, or sets what there is not.
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise DidaError(f"--set {assignment}: give NAME=VALUE, e.g. --set training.steps=500")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return _known(_flat({key.strip(): value}), "--set")


def model_of(values: Settings) -> ModelConfig:
    """The network these settings ask for. Raises DidaError when they do not go together."""
    given = _table(values, "model")
    method = given.pop("method", ModelConfig.method)
    architecture = given.pop("architecture", ModelConfig.architecture)
    domains = Domains(**_table(values, "model.domains"))
    return ModelConfig.of(method, architecture, domains=domains, **given)


def training_of(values: Settings, model: ModelConfig) -> TrainConfig:
    """How these settings train that model.

    Raises DidaError when one is out of range, or weighs a loss that the model's method lacks.
    """
    given = _table(values, "training")
    if (refine := given.get("refine", "none")) != "none":
        _check_refined(refine, model)
    weights = Weights(**WEIGHTS[model.method].to_json() | _table(values, "training.weights"))
    terms = TERMS[model.method]
    if foreign := [n for n, value in weights.to_json().items() if value and n not in terms]:
        raise DidaError(
            f"training.weights.{foreign[0]}: method {model.method} has no such loss; "
            f"it has {', '.join(terms)}"
        )
    if given.get("lookalikes") and model.method != "layers":
        raise DidaError(
            f"training.lookalikes: method {model.method} exchanges nothing; set it to 0"
        )
    given.setdefault("learning_rate", LEARNING_RATES[model.architecture])
    return TrainConfig(weights=weights, **given)


def _check_refined(refine: Refine, model: ModelConfig) -> None:
    """Raises DidaError when the model has no part that could be refined in this way."""
    glass = set(model.glass_parts)
    if refine == "glass":
        parts, what, which = glass, "glass", "part that is"
    else:
        parts, what, which = set(model.parts) - glass, "no glass", "parts that are"
    if refine == "place" and model.separate_b:
        raise DidaError(
            "training.refine place is for a part or none, and this model has one in both domains; "
            "set refine to none"
        )
    if model.method != "layers" or not parts:
        raise DidaError(
            f"training.refine {refine} is for layers of {what}; set model.glass to the {which} "
            "seen through, or refine to none"
        )


def network_of(model: ModelConfig) -> Settings:
    """Every setting of a network."""
    return _flat({"model": model.to_json()})


def values_of(model: ModelConfig, training: TrainConfig, data: Mapping[str, Any]) -> Settings:
    """Every setting of a training; `data` is the record of its pictures that a run keeps."""
    values = network_of(model) | _flat({"training": training.to_json()})
    values |= {f"data.{DATA.get(name, name)}": value for name, value in data.items()}
    return {key: value for key, value in values.items() if key in KINDS}


def differences(old: Settings, new: Settings) -> list[str]:
    """A line for every setting that is not the same: `training.steps: 500 -> 9000`."""
    return [
        f"{key}: {_told(old, key)} -> {_told(new, key)}"
        for key in KINDS
        if old.get(key) != new.get(key)
    ]


def _told(values: Settings, key: str) -> str:
    return _value(values[key]) if key in values else "nothing"


def to_toml(
    model: ModelConfig, training: TrainConfig, data: Mapping[str, Any], init: str | None
) -> str:
    """Every setting of a training, such that `read` gives this very training again.

    `data` is the record of its pictures that a run keeps.
    """
    values = values_of(model, training, data) | ({"init": init} if init else {})
    tables: dict[str, str] = {}
    for key in KINDS:
        if key in values:
            table, _, name = key.rpartition(".")
            head = f"\n[{table}]\n" if table else ""
            tables[table] = tables.get(table, head) + f"{name} = {_value(values[key])}\n"
    return "".join(tables.values()).lstrip()


def _value(value: Any) -> str:
    """A value as TOML: JSON but for the delete character, which TOML wants escaped, and inf."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _flat(values: Mapping[str, Any], above: str = "") -> Settings:
    found: Settings = {}
    for name, value in values.items():
        key = f"{above}{name}"
        found |= _flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return found


def _table(values: Settings, table: str) -> Settings:
    """What stands in a table itself, not in one below it."""
    places = {key: key.rpartition(".") for key in values}
    return {place[2]: values[key] for key, place in places.items() if place[0] == table}


def _known(values: Settings, where: str) -> Settings:
    """The settings, all of them known and of their types. Raises DidaError naming another."""
    for key, value in values.items():
        if key not in KINDS:
            raise DidaError(f"{where}: {_unknown(key)}")
        checked(KINDS[key], value, f"{where}: {key}")
    return values


def _unknown(key: str) -> str:
    # A name without its table, as in `--set steps=5`, is nearest by its last word.
    last = {known.rpartition(".")[2]: known for known in reversed(KINDS)}
    near = get_close_matches(key, KINDS, n=1)
    near = near or [last[word] for word in get_close_matches(key.rpartition(".")[2], last, n=1)]
    table = (near[0] if near else key).rpartition(".")[0]
    beside = (table and _table(KINDS, table)) or KINDS
    return f"no setting {key!r}{_offer(near)}; there are {', '.join(beside)}"


def _offer(near: list[str]) -> str:
    return f" (did you mean {near[0]}?)" if near else ""
