"""From what people type after -m to a model folder: a bundled name, a folder, a run, or the Hub.

What comes from the Hub is pinned: to one full commit, and to the sha256 of every file, for the
client library compares sizes alone. For the published models both stand in published.json. Those
of any other repository are recorded at its first use and hold ever after; only `update` moves a
branch on to its newest commit. Whatever a repository holds, three files are fetched, by our names.
"""

import hashlib
import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from dida_cli import __version__, methods
from dida_cli.config import (
    CARD,
    CONFIG,
    MAX_CONFIG_BYTES,
    MAX_HEADER_BYTES,
    WEIGHTS,
    Json,
    in_one_line,
    read_config,
    read_header,
    read_json,
    short,
)
from dida_cli.errors import DidaError

JUDGE = "avatars-factors"  # the classifier of evaluate.attributes
_HERE = Path(__file__).parent
# In a wheel the models lie in the package; in a checkout, beside it.
BUNDLED = next(p for p in (_HERE / "models", _HERE.parent / "models") if p.is_dir())
MANIFEST = _HERE / "published.json"

RUN = ("model", "last", "last-1")  # where a run keeps a model, best first
FILES = (CONFIG, CARD, WEIGHTS)  # in this order: a config that is not ours costs no weights
REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
MOST = {CONFIG: MAX_CONFIG_BYTES, CARD: 1_000_000}  # bytes; of weights the config says it
WIDEST = 8  # bytes of a number
PATIENCE, SLOWEST = 60, 10_000  # seconds for any file, and bytes a second beyond them
CHUNK = 2**14  # bytes after which a download is looked at
COMMIT, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
RESET = re.compile(r"\bt=(\d+)")  # seconds, in a header RateLimit
BRANCH = "main"  # what a repository without a revision stands for
OFFLINE = "is not in the cache, and dida is offline; download it once with a network"

Progress = Callable[[int, int, str], None]  # bytes done, bytes in all, of what


@dataclass(frozen=True)
class Seal(Json):
    """What a file must be. As the Hub announces small files, the digest is their git blob's id."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if self.size < 1 or not (SHA256.fullmatch(self.sha256) or COMMIT.fullmatch(self.sha256)):
            raise DidaError("needs a size in bytes and a sha256")


@dataclass(frozen=True)
class Pin(Json):
    """A repository at one full commit, with the files it must have there."""

    repository: str
    commit: str
    files: dict[str, Seal]

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repository):
            raise DidaError(f"{self.repository!r} is no name of a repository")
        if not COMMIT.fullmatch(self.commit):
            raise DidaError(f"{self.commit!r} is no full commit of 40 hexadecimal digits")
        if missing := {CONFIG, WEIGHTS} - set(self.files):
            raise DidaError(f"holds no {min(missing)}; give a repository with a dida model")


class Entry(NamedTuple):
    """A model that is known here; its folder is None while it is not downloaded."""

    name: str
    kind: Literal["bundled", "published", "recorded", "folder"]
    folder: Path | None
    pin: Pin | None


def names() -> list[str]:
    """The bundled models that can edit pictures."""
    return sorted(
        folder.name
        for folder in BUNDLED.iterdir()
        if (folder / CONFIG).exists()
        and read_json(folder / CONFIG).get("method") in methods.MODULES
    )


def resolve(
    name: str, *, update: bool = False, on_progress: Progress = lambda done, total, words: None
) -> Path:
    """The folder of a bundled or published name, a model folder, a run, or `org/repo[@revision]`.

    What is not here yet is downloaded, and every file from the Hub is hashed each time; `update`
    asks the Hub for the newest commit of a branch. Raises DidaError when there is no such model,
    it cannot be had, or a file is not what it must be.
    """
    folder = Path(name)
    if folder.is_dir():
        for candidate in (folder, *(folder / name for name in RUN)):
            if (candidate / CONFIG).exists():
                return candidate
        raise DidaError(f"{name}: holds no {CONFIG}; give a model folder or the folder of a run")
    if name == folder.name and (BUNDLED / name / CONFIG).exists():
        return BUNDLED / name
    if pin := read_pins(MANIFEST).get(name):
        return _fetch(pin, on_progress)
    repository, _, revision = name.partition("@")
    if not REPOSITORY.fullmatch(repository):
        raise DidaError(
            f"no model {name!r}; use {' or '.join(names())}, "
            "or give a model's folder or org/repo on the Hub"
        )
    return _recorded(repository, revision or BRANCH, update, on_progress)


def fingerprint(folder: Path) -> str:
    """sha256 of a model's weights, in hexadecimal. Raises DidaError when there are none."""
    with in_one_line(folder / WEIGHTS, "a readable file"):
        return _seal(folder / WEIGHTS).sha256


def parameters(folder: Path) -> int:
    """How many numbers a model's weights hold. Raises DidaError when there are none to read."""
    path = folder / WEIGHTS
    with in_one_line(path, "a whole safetensors file", KeyError, TypeError):
        header = read_header(path)
        return sum(math.prod(header[n]["shape"]) for n in header if n != "__metadata__")


def known() -> list[Entry]:
    """Every model that has a name here: bundled, published, or recorded at its first use."""
    found = [Entry(name, "bundled", BUNDLED / name, None) for name in names()]
    for name, pin in read_pins(MANIFEST).items():
        found.append(Entry(name, "published", _cached(pin), pin))
    for record in sorted((home() / "known").glob("*.json")):
        try:
            pins = read_pins(record)
        except DidaError as error:
            warnings.warn(f"{error}; passed over, delete it", stacklevel=2)
            continue
        for revision, pin in pins.items():
            name = pin.repository if revision == BRANCH else f"{pin.repository}@{revision}"
            found.append(Entry(name, "recorded", _cached(pin), pin))
    return found


def find(name: str) -> Entry:
    """The model of this name, without asking the Hub. Raises DidaError if it is not known here."""
    if Path(name).is_dir():
        return Entry(name, "folder", resolve(name), None)
    for entry in known():
        if entry.name == name.removesuffix(f"@{BRANCH}"):
            return entry
    raise DidaError(f"{name}: is not known here; see dida models list, or dida download {name}")


def folder_of(entry: Entry) -> Path:
    """Where a model lies. Raises DidaError when it is not downloaded."""
    if entry.folder is None:
        raise DidaError(f"{entry.name}: is not downloaded; dida download {entry.name}")
    return entry.folder


def verify(entry: Entry) -> None:
    """Raises DidaError when a model is not here, a file is not what it must be, or none loads."""
    folder = folder_of(entry)
    for name, seal in entry.pin.files.items() if entry.pin else ():
        if not _matches(folder / name, seal):
            raise DidaError(
                f"{entry.name}: {name} is not the file it must be; "
                f"dida download {entry.name} fetches it anew"
            )
    _load(folder)


def remove(entry: Entry) -> None:
    """Delete a downloaded model and forget its record. Raises DidaError when it is not one."""
    if entry.pin is None:
        raise DidaError(f"{entry.name}: was not downloaded; there is nothing to remove")
    if cache().is_dir():
        _library().scan_cache_dir(cache()).delete_revisions(entry.pin.commit).execute()
    if entry.kind == "recorded":
        record = _record_of(entry.pin.repository)
        pins = read_pins(record)
        del pins[entry.name.partition("@")[2] or BRANCH]
        _write_pins(record, pins)


def push(folder: Path, repository: str, extra: Mapping[str, Path | bytes], private: bool) -> Pin:
    """Upload a model folder with its card and examples, and further files, as one commit.

    Returns what published.json would say of it. Raises DidaError when the folder does not load as
    a model, has no card, or the Hub refuses.
    """
    if not REPOSITORY.fullmatch(repository):
        raise DidaError(f"{repository}: is no name of a repository; give org/repo")
    if offline():
        raise DidaError(f"{repository}: cannot be pushed to while offline; drop --offline")
    _load(folder)
    if not (folder / CARD).is_file():
        raise DidaError(f"{folder}: has no {CARD}; say in it what the model does and its licence")
    files: dict[str, Path | bytes] = {name: folder / name for name in FILES}
    files |= {f"examples/{path.name}": path for path in sorted(folder.glob("examples/*.png"))}
    files |= extra
    with _in_one_line(repository):
        add = _library().CommitOperationAdd
        operations = [add(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
        _api().create_repo(repository, private=private or None, exist_ok=True)
        commit = _api().create_commit(
            repository, operations, commit_message=f"Upload with dida {__version__}"
        )
    return Pin(repository, commit.oid, {name: _seal(folder / name) for name in FILES})


def _load(folder: Path) -> None:
    """Raises DidaError when a folder is no whole model."""
    from dida_cli import checkpoint  # and torch, of which no other question needs to know

    checkpoint.load(folder)


def home() -> Path:
    """Where dida keeps what it knows: DIDA_HOME, else dida in the user's cache folder."""
    if chosen := os.environ.get("DIDA_HOME"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dida"


def cache() -> Path:
    """Where downloads go: into DIDA_HOME if that is set, else into the Hub's own cache."""
    if os.environ.get("DIDA_HOME"):
        return home() / "hub"
    return Path(_library().constants.HF_HUB_CACHE)


def offline() -> bool:
    """Whether the network is off limits, by HF_HUB_OFFLINE, which --offline sets."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def read_pins(path: Path) -> dict[str, Pin]:
    """The pins of a manifest or record by name. Raises DidaError naming what is wrong with it."""
    match read_json(path):
        case {"models": dict(models)}:
            pins = {name: _pin(value, f"{path}: {name}") for name, value in models.items()}
            for name, pin in pins.items():
                _check_written(pin, f"{path}: {name}")
            return pins
    raise DidaError(f"{path}: holds no models; it is no manifest of dida")


def _pin(value: object, where: str) -> Pin:
    pin = Pin.from_json(value, where)
    files = {name: Seal.from_json(seal, f"{where}: {name}") for name, seal in pin.files.items()}
    return replace(pin, files=files)


def _check_written(pin: Pin, where: str) -> None:
    """Raises DidaError where a file names other files than ours, or seals one by a blob's id."""
    if not set(pin.files) <= set(FILES):
        raise DidaError(f"{where}: files must be {', '.join(FILES)}, not {', '.join(pin.files)}")
    for name, seal in pin.files.items():
        if not SHA256.fullmatch(seal.sha256):
            raise DidaError(f"{where}: {name} needs a size in bytes and a sha256")


def _record_of(repository: str) -> Path:
    return home() / "known" / f"{repository.replace('/', '--')}.json"


def _write_pins(path: Path, pins: Mapping[str, Pin]) -> None:
    text = json.dumps({"models": {name: pin.to_json() for name, pin in pins.items()}}, indent=2)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise DidaError(
            f"{path}: cannot be written ({error.strerror}); set DIDA_HOME to a folder that can be"
        ) from None


def _recorded(repository: str, revision: str, update: bool, on_progress: Progress) -> Path:
    """The folder of a revision, as it was recorded at its first use, which this may be."""
    record = _record_of(repository)
    pins = read_pins(record) if record.exists() else {}
    if revision in pins and (offline() or not update):
        return _fetch(pins[revision], on_progress)
    announced = _ask(repository, revision)
    # A commit that another name has brought here must be what it was.
    pin = next((pin for pin in pins.values() if pin.commit == announced.commit), announced)
    folder = _fetch(pin, on_progress)
    seals = {file: _seal(folder / file) for file in pin.files}
    _write_pins(record, pins | {revision: replace(pin, files=seals)})
    return folder


def _ask(repository: str, revision: str) -> Pin:
    """What the Hub says a revision is. Raises DidaError when it is no model of dida."""
    if offline():
        raise DidaError(f"{repository}: {OFFLINE}")
    with _in_one_line(repository):
        seconds = _library().constants.HF_HUB_ETAG_TIMEOUT
        info = _api().model_info(
            repository, revision=revision, files_metadata=True, timeout=seconds
        )
    files = {
        file.rfilename: {"size": file.size, "sha256": file.lfs.sha256 if file.lfs else file.blob_id}
        for file in info.siblings or ()
        if file.rfilename in FILES
    }
    return _pin({"repository": repository, "commit": info.sha, "files": files}, repository)


def _fetch(pin: Pin, on_progress: Progress) -> Path:
    """The folder of a pin, every file there and as it must be; else DidaError."""
    missing = sum(seal.size for name, seal in pin.files.items() if not _cached(pin, name))
    root = next(folder for folder in (cache(), *cache().absolute().parents) if folder.is_dir())
    if missing > (free := shutil.disk_usage(root).free):
        raise DidaError(
            f"{pin.repository}: needs {missing / 1e6:,.0f} MB, {root} has {free / 1e6:,.0f} MB "
            "free; make room, or set DIDA_HOME to a folder on another disk"
        )
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress(done, missing, pin.repository)

    folder = Path()
    most = dict(MOST)
    for name in FILES:
        if name in pin.files:
            if pin.files[name].size > most[name]:
                raise DidaError(f"{pin.repository}: {name} is too large to be one of a dida model")
            folder = _fetch_file(pin, name, count).parent
        if name == CONFIG:
            most[WEIGHTS] = _most_weights(folder)
    return folder


def _most_weights(folder: Path) -> int:
    """Bytes that the weights of a config take, at most. Raises DidaError when it is no config."""
    from dida_cli import checkpoint

    path = folder / CONFIG
    tensors = checkpoint.blank(read_config(path), str(path)).state_dict().values()
    return MAX_HEADER_BYTES + WIDEST * int(sum(t.numel() for t in tensors))


def _fetch_file(pin: Pin, name: str, count: Callable[[int], None]) -> Path:
    """A file of the cache, downloaded if it is not there, and once more if it is not as sealed."""
    size = pin.files[name].size
    for _ in range(2):
        counted = _bounded(count, size, f"{pin.repository}: {name}")
        with _in_one_line(pin.repository):
            found = _api().hf_hub_download(
                pin.repository,
                name,
                revision=pin.commit,
                cache_dir=cache(),
                local_files_only=offline(),
                tqdm_class=_bar(counted),
            )
        path = Path(found)
        if _matches(path, pin.files[name]):
            return path
        path.resolve().unlink()  # the blob that the snapshot links to
        path.unlink(missing_ok=True)
    raise DidaError(
        f"{pin.repository}: {name} does not have the sha256 it must have, twice; it is deleted "
        "and nothing was used; try another network, or tell the model's owner"
    )


def _bounded(count: Callable[[int], None], size: int, what: str) -> Callable[[int], None]:
    """Counts the bytes of a file. Raises DidaError when more come than it has, or too slowly."""
    done, until = 0, time.monotonic() + PATIENCE + size / SLOWEST

    def counted(more: int) -> None:
        nonlocal done
        done += more
        if done > size:
            raise DidaError(f"{what} goes on beyond the {size:,} bytes it was announced with")
        if time.monotonic() > until:
            raise DidaError(f"{what} comes too slowly; try again, or another network")
        count(more)

    return counted


def _cached(pin: Pin, file: str = WEIGHTS) -> Path | None:
    """The folder in the cache that has a file of a pin; None when it is not there."""
    found = _library().try_to_load_from_cache(
        pin.repository, file, cache_dir=cache(), revision=pin.commit
    )
    return Path(found).parent if isinstance(found, str) else None


def _seal(path: Path) -> Seal:
    with path.open("rb") as file:
        return Seal(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _matches(path: Path, seal: Seal) -> bool:
    if not path.is_file() or path.stat().st_size != seal.size:
        return False
    if len(seal.sha256) == 64:
        return _seal(path) == seal
    blob = b"blob %d\0" % seal.size + path.read_bytes()  # as git names what it keeps itself
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == seal.sha256


def _library() -> ModuleType:
    """huggingface_hub, without its own bars, telemetry, and a line for every new try."""
    quiet = {"DISABLE_PROGRESS_BARS": "1", "DISABLE_TELEMETRY": "1", "VERBOSITY": "error"}
    for name, value in quiet.items():  # read when it is imported
        os.environ.setdefault(f"HF_HUB_{name}", value)
    import huggingface_hub.constants
    import huggingface_hub.errors

    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    return huggingface_hub


def _api() -> Any:
    session = _library().get_session()
    hooks = session.event_hooks
    if _refuse_long_waits not in (of_response := hooks.get("response", [])):
        session.event_hooks = hooks | {"response": [*of_response, _refuse_long_waits]}
    return _library().HfApi(
        endpoint=os.environ.get("HF_ENDPOINT"), library_name="dida", library_version=__version__
    )


def _refuse_long_waits(response: Any) -> None:
    """Raises DidaError when the Hub asks to be asked again later than anybody would wait."""
    told = [
        response.headers.get("Retry-After", ""),
        *RESET.findall(response.headers.get("RateLimit", "")),
    ]
    if waits := [
        int(seconds) for seconds in told if seconds.isdecimal() and int(seconds) > PATIENCE
    ]:
        raise DidaError(f"{_host()} asks to wait {short(waits[0])} seconds; try again later")


def _host() -> str:
    return urlsplit(_api().endpoint).hostname or "HF_ENDPOINT"


def _bar(count: Callable[[int], None]) -> Any:
    """What huggingface_hub takes for a tqdm: shows nothing, tells of every byte."""

    def nothing(*_: object, **__: object) -> None:
        pass

    class Bar:
        __init__ = __exit__ = close = nothing
        update_transfer = set_postfix_str = set_transfer_postfix_str = nothing

        def __enter__(self) -> "Bar":
            return self

        def update(self, size: float | None = 1) -> None:
            count(int(size or 0))

    return Bar


@contextmanager
def _in_one_line(repository: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into a DidaError. No header is quoted, so no token."""
    try:
        yield
    except DidaError:
        raise
    except Exception as error:  # an answer of another shape fails in any way there is
        raise DidaError(f"{repository}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    errors, host = _library().errors, _host()
    match error:
        case errors.GatedRepoError():
            return f"is gated; ask for access on {host}, then set HF_TOKEN to a token of yours"
        case errors.RepositoryNotFoundError():
            return (
                f"no such folder here, and no such repository on {host} or a private one; "
                "check the name, or set HF_TOKEN to a token that may use it"
            )
        case errors.RevisionNotFoundError():
            return "has no such revision; leave it out for the newest commit"
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status in (401, 403):
                return f"{host} does not allow it; set HF_TOKEN to a token that may"
            return f"{host} answers with error {status}; try again later"
        case errors.HTTPError() | errors.OfflineModeIsEnabled():
            kind = type(error).__name__
            return (
                f"{host} cannot be reached ({kind}); check the network, and the path if it is one"
            )
        case errors.LocalEntryNotFoundError() | RuntimeError() if error.__cause__:
            return _reason(error.__cause__)
        case errors.LocalEntryNotFoundError():
            return OFFLINE
        case OSError(errno=int()):
            words = error.strerror
            return f"cannot be stored in {cache()} ({words}); make room, or set DIDA_HOME elsewhere"
        case OSError():
            return f"did not come whole from {host}; try again"
    return f"{host} answers in a way not understood ({type(error).__name__}); check HF_ENDPOINT"
