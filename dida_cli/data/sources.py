"""Which pictures a run learns from or is judged on, as one record that is kept with the run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dida_cli.data import avatars, celeba, folders
from dida_cli.errors import DidaError


def record(
    root: Path, a: str | None, b: str | None, having: list[str], lacking: list[str]
) -> dict[str, Any]:
    """What to look at in `root`: expressions where it has an attribute list, else just itself.

    Raises DidaError when `root` is neither.
    """
    found: dict[str, Any] = {"root": str(root.resolve())}
    if celeba.list_in(root, celeba.ATTRIBUTE_LIST):
        chosen = {"a": a or celeba.Selection.a, "b": b or celeba.Selection.b}
        return found | chosen | {"having": having, "lacking": lacking}
    if folders.is_there(root / "trainA") or folders.is_there(root / "trainB"):
        return found
    raise DidaError(
        f"{root}: holds neither trainA and trainB nor {celeba.ATTRIBUTE_LIST}; "
        "give such a folder with --data, or leave --data out for drawn faces"
    )


def for_training(found: dict[str, Any]) -> folders.Split:
    """The files of both domains to learn from, and some to look at and to choose by meanwhile.

    These are never test pictures.
    """
    if "a" not in found:
        root = Path(found["root"])
        split = folders.from_folders(root)
        return folders.hold_out(split.train) if folders.is_there(root / "testA") else split
    return celeba.for_training(Path(found["root"]), _selection(found))


def is_drawn(found: Mapping[str, Any]) -> bool:
    """Whether the pictures are faces that dida has drawn, chosen by attributes."""
    return "a" in found and (Path(found["root"]) / avatars.FACTORS_LIST).is_file()


def fingerprint(train: folders.Pair) -> dict[str, Any]:
    """What tells these pictures from others, wherever they lie: {"a": ..., "b": ...}, for each
    domain the count of its files and the sha256 of their names and sizes."""
    return {"a": _fingerprint(train.a), "b": _fingerprint(train.b)}


def _fingerprint(files: Sequence[folders.File]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for file in files:
        digest.update(json.dumps([file.name, folders.size_of(file)]).encode())
    return {"files": len(files), "sha256": digest.hexdigest()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each domain whose fingerprint has changed."""
    lines = []
    for domain, old in before.items():
        new = now[domain]
        if old["files"] != new["files"]:
            lines.append(f"pictures of {domain.upper()}: {old['files']} files -> {new['files']}")
        elif old != new:
            lines.append(
                f"pictures of {domain.upper()}: {old['files']} files -> other names or sizes"
            )
    return lines


def for_testing(found: dict[str, Any]) -> folders.Split:
    """The files that a judge may learn from, and the test files of both domains."""
    if "a" not in found:
        return folders.from_folders(Path(found["root"]))
    parts = celeba.from_attributes(Path(found["root"]), _selection(found))
    return folders.Split(parts[celeba.TRAIN], parts[celeba.TEST])


def parts(found: dict[str, Any]) -> dict[str, folders.Pair]:
    """The files of both domains in every part there is, by its name; "train" is the first."""
    root = Path(found["root"])
    if "a" not in found:
        split = for_training(found)
        there = {"train": split.train, "held out": split.held_out}
        if folders.is_there(root / "testA"):
            there["test"] = folders.from_folders(root).held_out
        return there
    pairs = celeba.from_attributes(root, _selection(found))
    return dict(zip(("train", "validation", "test"), pairs.values(), strict=True))


def _selection(found: dict[str, Any]) -> celeba.Selection:
    return celeba.Selection(found["a"], found["b"], tuple(found["having"]), tuple(found["lacking"]))
