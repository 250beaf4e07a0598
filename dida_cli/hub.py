"""From what people type after -m to a model folder: a bundled name, a folder, or a run."""

import hashlib
from pathlib import Path

from dida_cli.checkpoint import CONFIG, METHODS, WEIGHTS, read_json
from dida_cli.errors import DidaError

JUDGE = "avatars-factors"  # the classifier of evaluate.attributes
_HERE = Path(__file__).parent
# In a wheel the models lie in the package; in a checkout, beside it.
BUNDLED = next(p for p in (_HERE / "models", _HERE.parent / "models") if p.is_dir())


def names() -> list[str]:
    """The bundled models that can edit pictures."""
    return sorted(
        folder.name
        for folder in BUNDLED.iterdir()
        if (folder / CONFIG).exists() and read_json(folder / CONFIG).get("method") in METHODS
    )


def resolve(name: str) -> Path:
    """The model folder of a bundled name, a model folder or a run. DidaError if there is none."""
    folder = Path(name)
    if folder.is_dir():
        for candidate in (folder, folder / "last", folder / "last-1"):
            if (candidate / CONFIG).exists():
                return candidate
        raise DidaError(f"{name}: holds no {CONFIG}; give a model folder or the folder of a run")
    if name == Path(name).name and (BUNDLED / name / CONFIG).exists():
        return BUNDLED / name
    raise DidaError(f"no model {name!r}; use {' or '.join(names())}, or give a model's folder")


def fingerprint(folder: Path) -> str:
    """sha256 of a model's weights, in hexadecimal."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
