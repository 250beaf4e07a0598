"""Models by name and from the Hub: the real huggingface_hub talks to hub_server over loopback."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# What huggingface_hub reads when it is imported: nobody's login or cache, plain uploads.
os.environ["HF_HOME"] = os.path.join(tempfile.gettempdir(), "dida-nowhere")
os.environ["HF_HUB_DISABLE_XET"] = "1"

import huggingface_hub
import pytest
import torch
from conftest import SMALL, Result, without
from hub_server import Hub, Repository, blob_id, sha256

from dida_cli import checkpoint, hub, recipe, run
from dida_cli.config import DEFAULT_MODEL
from dida_cli.errors import DidaError
from dida_cli.players import Sides
from dida_cli.training import Training

Dida = Callable[..., Result]
FACES = "org/faces"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub, and an environment that knows no other."""
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("DIDA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def bundled(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled models: the tiny one as the default, and the judge."""
    folder = tmp_path / "models"
    shutil.copytree(model_folder, folder / DEFAULT_MODEL)
    shutil.copytree(hub.BUNDLED / hub.JUDGE, folder / hub.JUDGE)
    monkeypatch.setattr(hub, "BUNDLED", folder)
    return folder


@pytest.fixture
def files(model_folder: Path) -> dict[str, bytes]:
    """A repository's files: the tiny model's, and others that nobody asked for."""
    own = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    return own | {"pytorch_model.bin": b"pickle", "../evil.txt": b"out", "examples/a.png": b"png"}


@pytest.fixture
def faces(server: Hub, files: dict[str, bytes]) -> Repository:
    """org/faces, which holds the tiny model."""
    repository = server.repository(FACES)
    repository.commit(files)
    return repository


def cached_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "home" / "hub").rglob("*/blobs/*") if path.is_file()]


Publish = Callable[..., None]
SEAL = {"size": 1, "sha256": "0" * 64}


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Makes a manifest that publishes a model `faces` of these fields."""

    def publish(**fields: Any) -> None:
        monkeypatch.setattr(hub, "MANIFEST", tmp_path / "published.json")
        hub.MANIFEST.write_text(json.dumps({"models": {"faces": fields}}))

    return publish


@pytest.fixture
def published(publish: Publish, faces: Repository) -> None:
    """`faces` is org/faces as it is now."""
    (commit,) = faces.commits
    seals = {
        name: {"size": len(content), "sha256": sha256(content)}
        for name, content in faces.commits[commit].items()
        if name in hub.FILES
    }
    publish(repository=FACES, commit=commit, files=seals)


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "dida_cli", *map(str, arguments)]
    return subprocess.run(
        words, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def one_line(result: "Result | subprocess.CompletedProcess[str]", *words: str) -> None:
    """What failed said so in one line, with these words."""
    code = result.code if isinstance(result, Result) else result.returncode
    err = result.err if isinstance(result, Result) else result.stderr
    assert code == 1 and err.startswith("dida: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


# Names and pins


def test_a_repository_is_fetched_at_a_full_commit_and_three_files_of_it_alone(
    server: Hub, faces: Repository, dida: Dida, model_folder: Path, tmp_path: Path
) -> None:
    result = dida("download", FACES)
    commit = faces.refs["main"]
    folder = Path(result.out.strip())
    assert (result.code, result.err, folder.name) == (0, "", commit)
    assert {path.name for path in folder.iterdir()} == {CONFIG, CARD, WEIGHTS}
    for path in folder.iterdir():
        assert path.read_bytes() == (model_folder / path.name).read_bytes()
    resolved = [path for path in server.paths("HEAD") + server.paths("GET") if "/resolve/" in path]
    assert {path.split("/resolve/")[1].split("/")[0] for path in resolved} == {commit}
    assert {path.rpartition("/")[2] for path in resolved} == {CONFIG, CARD, WEIGHTS}
    assert not list(tmp_path.rglob("evil.txt"))
    home = tmp_path / "home"  # DIDA_HOME
    assert folder.is_relative_to(home) and (home / "known" / "org--faces.json").exists()


def test_the_model_option_takes_a_repository_and_asks_nobody_the_second_time(
    server: Hub, faces: Repository, dida: Dida, picture: Path, tmp_path: Path
) -> None:
    outs = []
    for name in ("first.png", "second.png"):
        out = tmp_path / name
        result = dida("transfer", "-m", FACES, "-c", picture, "--guide-a", picture, "-o", out)
        assert result == Result(0, f"{out}\n", "")
        outs.append(out.read_bytes())
        asked = len(server.requests)
        if name == "first.png":
            first = asked
    assert asked == first > 0 and outs[0] == outs[1]


def test_a_branch_stays_at_its_commit_until_it_is_downloaded_again(
    server: Hub, faces: Repository, files: dict[str, bytes], dida: Dida
) -> None:
    old = hub.resolve(FACES)
    new = faces.commit(files | {CARD: b"# newer\n"})
    assert hub.resolve(FACES) == old
    assert dida("download", FACES).out.strip() == str(old.with_name(new))
    assert hub.resolve(FACES) == old.with_name(new)
    assert hub.resolve(f"{FACES}@{old.name}") == old


def test_tags_and_commits_are_revisions(
    server: Hub, faces: Repository, files: dict[str, bytes], dida: Dida
) -> None:
    tagged = faces.commit(files | {CARD: b"# v1\n"}, "v1")
    faces.commit(files)
    assert hub.resolve(f"{FACES}@v1").name == tagged
    assert dida("download", FACES, "--revision", "v1").out.strip().endswith(tagged)
    assert dida("download", f"{FACES}@v1", "--revision", "v1").code == 2
    assert dida("download", DEFAULT_MODEL, "--revision", "v1").code == 2


def test_a_published_name_is_had_as_the_manifest_pins_it(
    server: Hub, faces: Repository, published: None
) -> None:
    (commit,) = faces.commits
    faces.commit({CONFIG: b"{}", WEIGHTS: b""})  # the branch moves on, the name does not
    folder = hub.resolve("faces")
    assert folder.name == commit
    checkpoint.load(folder)
    assert [e.kind for e in hub.known() if e.name == "faces"] == ["published"]
    asked = len(server.requests)
    assert hub.resolve("faces") == folder and len(server.requests) == asked


def test_the_packaged_manifest_is_valid_and_documents_its_fields() -> None:
    content = json.loads(hub.MANIFEST.read_text())
    assert set(content["fields"]) == {"models", "repository", "commit", "files"}
    assert hub.read_pins(hub.MANIFEST).keys() == content["models"].keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"commit": "main"}, "'main' is no full commit"),
        ({"commit": "a" * 39}, "no full commit"),
        ({"repository": "../etc"}, "no name of a repository"),
        ({"files": {CONFIG: {"size": 1, "sha256": "0" * 64}}}, rf"holds no {WEIGHTS}"),
        ({"files": {n: {"size": 1, "sha256": "0" * 40} for n in hub.FILES}}, "size in bytes and a"),
        ({"files": dict.fromkeys((*hub.FILES, "more.bin"), SEAL)}, "files must be"),
        ({"licence": "MIT"}, "unknown setting 'licence'"),
        ({"files": None}, "files must be a table"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(
    publish: Publish, change: dict[str, Any], words: str
) -> None:
    seals = {name: {"size": 1, "sha256": "0" * 64} for name in hub.FILES}
    fields = {"repository": FACES, "commit": "a" * 40, "files": seals}
    publish(**fields)
    assert hub.read_pins(hub.MANIFEST)["faces"].to_json() == fields
    publish(**(fields | change))
    with pytest.raises(DidaError, match=rf"published\.json: faces.*{words}"):
        hub.resolve("faces")
    hub.MANIFEST.write_text("[]")
    with pytest.raises(DidaError, match="holds no models"):
        hub.resolve("faces")


# What arrives


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_wrong_bytes_of_the_right_size_are_fetched_once_more(
    server: Hub, faces: Repository, published: None, file: str
) -> None:
    where = "/large/" if file == WEIGHTS else f"/{CONFIG}"
    server.fault(where, "wrong", 1, "GET")
    checkpoint.load(hub.resolve("faces"))
    assert len([path for path in server.paths("GET") if where in path]) == 2


@pytest.mark.parametrize("name", ["faces", FACES])
@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_wrong_bytes_twice_are_deleted_and_refused_by_name(
    server: Hub, faces: Repository, published: None, tmp_path: Path, file: str, name: str
) -> None:
    server.fault("/large/" if file == WEIGHTS else f"/{CONFIG}", "wrong", 2, "GET")
    with pytest.raises(DidaError, match=rf"{FACES}: {file} does not have the sha256"):
        hub.resolve(name)
    content = faces.commits[faces.refs["main"]][file]
    kept = {path.name for path in cached_files(tmp_path)}
    assert not kept & {sha256(content), blob_id(content)}
    assert not (tmp_path / "home" / "known").exists()


def test_a_commit_that_serves_other_bytes_later_is_refused(
    server: Hub, faces: Repository, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.resolve(FACES)
    shutil.rmtree(tmp_path / "home" / "hub")
    changed = bytearray(files[WEIGHTS])
    changed[-1] ^= 1
    faces.commits[faces.refs["main"]][WEIGHTS] = bytes(changed)  # its etag now agrees with it
    with pytest.raises(DidaError, match=f"{WEIGHTS} does not have the sha256 it must have"):
        hub.resolve(FACES)


def test_damage_in_the_cache_is_noticed_and_healed(
    server: Hub, faces: Repository, dida: Dida
) -> None:
    folder = hub.resolve(FACES)
    weights = (folder / WEIGHTS).resolve()
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    one_line(dida("models", "verify", FACES), WEIGHTS, f"dida download {FACES}")
    assert hub.resolve(FACES) == folder and (folder / WEIGHTS).read_bytes() == whole


def test_damage_in_the_cache_is_not_used_offline(
    server: Hub, faces: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.resolve(FACES) / CONFIG).resolve().write_bytes(b"{}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DidaError, match=f"{FACES}: is not in the cache, and dida is offline"):
        hub.resolve(FACES)


def test_a_body_that_breaks_off_is_gone_on_with_by_range(
    server: Hub, files: dict[str, bytes]
) -> None:
    chunk = huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE  # what the client takes at a time
    files[CARD] = b"long card " * (chunk // 4)
    server.repository(FACES).commit(files)
    server.fault(f"/{CARD}", "break", 1, "GET")
    told: list[tuple[int, int]] = []
    folder = hub.resolve(FACES, on_progress=lambda done, total, words: told.append((done, total)))
    assert (folder / CARD).read_bytes() == files[CARD]
    assert f"bytes={chunk}-" in [request.headers.get("Range") for request in server.requests]
    size = sum(len(files[name]) for name in hub.FILES)
    assert told[-1] == (size, size) and told == sorted(told)


def test_a_body_that_ends_early_is_refused(server: Hub, faces: Repository, tmp_path: Path) -> None:
    server.fault("/large/", "short", 9)
    with pytest.raises(DidaError, match=f"{FACES}: did not come whole"):
        hub.resolve(FACES)
    assert len(cached_files(tmp_path)) == 2  # config and card, nothing half


def test_a_hub_that_asks_to_slow_down_is_waited_for(server: Hub, faces: Repository) -> None:
    server.fault("/large/", 429)
    checkpoint.load(hub.resolve(FACES))


def test_a_config_that_is_not_ours_costs_no_weights(server: Hub, files: dict[str, bytes]) -> None:
    server.repository("org/bert").commit(files | {CONFIG: b'{"architectures": ["Bert"]}'})
    with pytest.raises(DidaError, match="unknown setting 'architectures'"):
        hub.resolve("org/bert")
    assert not any("/large/" in path for path in server.paths("GET"))


# What people are told


def test_no_such_repository_or_revision(server: Hub, faces: Repository, dida: Dida) -> None:
    one_line(dida("download", "org/nope"), "org/nope: no such folder here", "HF_TOKEN")
    one_line(dida("transfer", "-m", "runs/typo", "-c", "x", "--guide-a", "x"), "runs/typo: no such")
    one_line(dida("download", f"{FACES}@v9"), f"{FACES}: has no such revision")
    server.repository("org/empty").commit({CARD: b"#"})
    one_line(dida("download", "org/empty"), "org/empty: holds no config.json")
    for name in ("nope", "a/b/c", "../a", "org/a--b", "/nope"):
        with pytest.raises(DidaError, match="no model"):
            hub.resolve(name)


def test_private_and_gated_repositories_want_a_token(
    server: Hub, files: dict[str, bytes], dida: Dida, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repository("org/secret", private=True).commit(files)
    server.repository("org/gated", gated=True).commit(files)
    for token in (None, "hf_wrong"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        one_line(dida("download", "org/secret"), "or a private one", "HF_TOKEN")
        one_line(dida("download", "org/gated"), "org/gated: is gated; ask for access")
    monkeypatch.setenv("HF_TOKEN", server.token)
    for name in ("org/secret", "org/gated"):
        result = dida("download", name)
        assert result.code == 0 and server.token not in result.out + result.err
    for request in server.requests:  # the token is for the Hub alone
        assert "/large/" not in request.path or "Authorization" not in request.headers


def test_a_hub_that_fails_or_is_none(
    server: Hub, faces: Repository, dida: Dida, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, words in {
        500: "answers with error 500",
        429: "answers with error 429",
        403: "does not allow it",
        200: "not understood",
    }.items():
        server.fault("/api/models", status)
        one_line(dida("download", FACES), f"{FACES}: 127.0.0.1", words)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    one_line(dida("download", FACES), "cannot be reached (ConnectError)", "check the network")


def test_offline_a_model_is_used_from_the_cache_or_missed(
    server: Hub, faces: Repository, dida: Dida, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.resolve(FACES)
    asked = len(server.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert dida("download", FACES) == Result(0, f"{folder}\n", "")
    one_line(dida("download", "org/other"), "org/other: is not in the cache, and dida is offline")
    one_line(dida("push", folder, "org/mine"), "offline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert dida("--offline", "download", FACES) == Result(0, f"{folder}\n", "")
    assert len(server.requests) == asked


def test_the_caches_of_the_environment_are_used_and_offline_needs_no_network(
    server: Hub, faces: Repository, picture: Path, tmp_path: Path
) -> None:
    own = {"DIDA_HOME": "", "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HF_TOKEN": server.token}
    made = command("download", FACES, **own, HF_HUB_CACHE=str(tmp_path / "shared"))
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(str(tmp_path / "shared" / "models--org--faces"))
    assert (tmp_path / "xdg" / "dida" / "known" / "org--faces.json").exists()
    (tmp_path / "hf").mkdir()
    (tmp_path / "shared").rename(tmp_path / "hf" / "hub")
    edit = ("--offline", "transfer", "-m", FACES, "-c", picture, "--guide-a", picture)
    gone = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = command(*edit, "-o", tmp_path / "out.png", **own, **gone)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'out.png'}\n", "")


def test_a_full_disk_is_told_before_and_while_it_fills(
    server: Hub, faces: Repository, dida: Dida, tmp_path: Path
) -> None:
    server.announced_sizes[WEIGHTS] = 10**18
    one_line(dida("download", FACES), "needs 1,000,000,000,000 MB", "make room")
    server.announced_sizes.clear()
    program = (
        "import resource, sys\nfrom dida_cli.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))\n"
        f"main(['download', '{FACES}'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    one_line(done, "cannot be stored in", "make room")
    assert not [path for path in cached_files(tmp_path) if path.stat().st_size >= 8192]
    assert not list((tmp_path / "home").rglob("*.incomplete"))


def test_an_interrupted_download_keeps_nothing_half(
    server: Hub, faces: Repository, tmp_path: Path
) -> None:
    server.fault("/large/", "slow")
    download = [sys.executable, "-m", "dida_cli", "download", FACES]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run unattended
    started = subprocess.Popen(download, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.slowed.wait(300)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=300)
    assert (started.returncode, out) == (130, "")
    assert err.startswith("dida: interrupted;") and err.count("\n") == 1
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    checkpoint.load(hub.resolve(FACES))


def test_two_downloads_at_once_both_have_the_model(
    server: Hub, faces: Repository, tmp_path: Path
) -> None:
    server.fault("/large/", "slow")  # the first waits in the middle of the weights
    download = [sys.executable, "-m", "dida_cli", "download", FACES]
    first = subprocess.Popen(download, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.slowed.wait(300)
    second = command("download", FACES)
    out, err = first.communicate(timeout=300)
    assert (first.returncode, err) == (0, "") and (second.returncode, second.stderr) == (0, "")
    assert out == second.stdout
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    checkpoint.load(hub.resolve(FACES))


# What no Hub should say


SHAPES = """
[]
null
3
{}
"model"
{"siblings": 3}
{"siblings": [3]}
{"sha": ["a"], "siblings": [{"rfilename": ["x"]}]}
{"sha": 1, "siblings": {}}
""".split("\n")[1:-1]


@pytest.mark.parametrize("answer", [*SHAPES, "[" * 5000])
def test_answers_of_another_shape_are_one_line(
    server: Hub, faces: Repository, dida: Dida, answer: str
) -> None:
    server.fault("/api/models", f"json:{answer}", 99)
    result = dida("download", FACES)
    assert result.code == 1 and result.err.count("\n") == 1 and len(result.err) < 500


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_body_without_an_end_is_left_at_its_size(
    server: Hub, faces: Repository, dida: Dida, tmp_path: Path, name: str
) -> None:
    server.fault("/resolve/" if name == CARD else "/", "endless", 99, "GET")
    server.faults[-1].path = name if name == CARD else sha256(faces_weights(faces))
    one_line(dida("download", FACES), "goes on beyond the")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 5_000_000


def test_a_body_that_drips_is_not_waited_for(
    server: Hub, faces: Repository, dida: Dida, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub, "SLOWEST", 10**9)
    monkeypatch.setattr(hub, "CHUNK", 8)
    server.fault(sha256(faces_weights(faces)), "drip", 99, "GET")
    one_line(dida("download", FACES), "comes too slowly")


@pytest.mark.parametrize(("name", "size"), [(CARD, 2_000_000), (WEIGHTS, 10**9)])
def test_files_larger_than_a_models_are_not_asked_for(
    server: Hub, faces: Repository, dida: Dida, name: str, size: int
) -> None:
    server.announced_sizes[name] = size
    one_line(dida("download", FACES), f"{name} is too large to be one of a dida model")
    assert not any(name in path for path in server.paths("GET"))


@pytest.mark.parametrize("seconds", ["1000000000", "9" * 4000, "61"])
def test_a_hub_that_asks_to_wait_for_long_is_left(
    server: Hub, faces: Repository, dida: Dida, seconds: str
) -> None:
    server.retry_after = seconds
    server.fault("/", 429, 99)
    one_line(dida("download", FACES), "seconds; try again later")


def faces_weights(faces: Repository) -> bytes:
    return faces.commits[faces.refs["main"]][WEIGHTS]


# What is here


def test_models_are_listed_described_checked_and_removed(
    server: Hub, faces: Repository, bundled: Path, dida: Dida, tmp_path: Path
) -> None:
    folder = hub.resolve(FACES)
    hub.resolve(f"{FACES}@{folder.name}")
    lines = [line.split("\t") for line in dida("models", "list").out.splitlines()]
    about = {
        line[0]: line[3]
        for line in lines
        if line[1:3] in (["bundled", "here"], ["recorded", "here"])
    }
    assert about[DEFAULT_MODEL].endswith("; retouch, 128 px") and "drawn" in about[DEFAULT_MODEL]
    assert about[FACES] == "smile and glasses; didd, 32 px"
    told = json.loads(dida("models", "info", FACES, "--json").out)
    assert told["commit"] == folder.name and told["repository"] == FACES and told["side"] == 32
    assert told["sha256"] == sha256((folder / WEIGHTS).read_bytes())
    assert told["settings"]["common"] == 8 and told["method"] == "didd"
    said = dida("models", "info", folder).out
    assert "domains\ta=smile, b=glasses\n" in said and "common=8, separate=3" in said
    assert dida("models", "path", FACES).out == f"{folder}\n"
    assert dida("models", "path", folder).out == f"{folder}\n"
    everything = dida("models", "verify")
    assert everything.code == 0 and f"{FACES}\tok\n" in everything.out
    assert f"{DEFAULT_MODEL}\tok\n" in everything.out
    assert dida("models", "remove", FACES).out == f"{FACES}\n"
    assert not folder.exists() and not cached_files(tmp_path)
    one_line(dida("models", "path", FACES), f"dida download {FACES}")
    one_line(dida("models", "verify", f"{FACES}@{folder.name}"), "is not downloaded")
    assert dida("models", "remove", f"{FACES}@{folder.name}").code == 0
    assert FACES not in dida("models", "list", "--json").out
    one_line(dida("models", "remove", DEFAULT_MODEL), "was not downloaded")


def test_a_broken_record_hides_no_other(
    server: Hub, faces: Repository, dida: Dida, tmp_path: Path
) -> None:
    hub.resolve(FACES)
    (hub.home() / "known" / "broken--one.json").write_text("{")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = dida("models", "list")
    assert result.code == 0 and FACES in result.out and DEFAULT_MODEL in result.out
    assert "broken--one.json" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["list"], ["path", DEFAULT_MODEL], ["info", DEFAULT_MODEL]])
def test_questions_about_models_load_no_torch(arguments: list[str]) -> None:
    assert without(["torch", "numpy", "PIL", "huggingface_hub"], "models", *arguments)


def test_other_things_in_the_shared_cache_stay(
    server: Hub, faces: Repository, files: dict[str, bytes], dida: Dida
) -> None:
    first = hub.resolve(FACES)
    second = hub.resolve(f"{FACES}@{faces.commit(files | {CARD: b'# two'}, 'two')}")
    assert dida("models", "remove", FACES).code == 0
    assert not first.exists()
    checkpoint.load(second)


# Publishing

# huggingface_hub's plain uploads hand httpx2 their bytes in an older way.
old_upload = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@old_upload
def test_a_pushed_model_comes_back_as_it_was(
    server: Hub, model_folder: Path, publish: Publish, dida: Dida, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = model_folder / "examples"
    examples.mkdir()
    (examples / "a.png").write_bytes(b"a picture")
    (model_folder / "notes.txt").write_text("mine")
    monkeypatch.setenv("HF_TOKEN", server.token)
    result = dida("push", model_folder, "org/new")
    commit = server.repositories["org/new"].refs["main"]
    assert (result.code, result.out, result.err) == (0, f"org/new@{commit}\n", "")
    there = server.repositories["org/new"].commits[commit]
    assert set(there) == {CONFIG, WEIGHTS, CARD, "examples/a.png"}
    folder = hub.resolve("org/new")
    for path in folder.iterdir():
        assert path.read_bytes() == (model_folder / path.name).read_bytes()
    again = json.loads(dida("push", model_folder, "org/new", "--json").out)  # over what is there
    publish(**again)
    assert hub.resolve("faces").name == again["commit"] != commit
    assert dida("push", model_folder, "org/hidden", "--private").code == 0
    assert server.repositories["org/hidden"].private


@old_upload
def test_a_bundle_can_be_trained_on_elsewhere(
    server: Hub, dida: Dida, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", server.token)
    part = {"with": "trainA", "without": "trainB"}
    values = {
        "method": "didd",
        "data": "/home/somebody/faces",
        "parts": {"a": {"name": "smile", **part}},
        "stages": [{"side": 32, "steps": 5, "batch": 2}],
        "settings": dict(SMALL),
    }
    wanted = recipe.parse(values, "x.toml")
    training = Training(wanted)
    training.advance({"a": Sides(*torch.rand(2, 2, 3, 32, 32))})
    begun = run.Begun("dida train --data /home/somebody/faces", "/home/somebody/faces", {})
    run.start(tmp_path / "run", wanted, begun)
    training.save(tmp_path / "run", "# card\n")
    assert dida("push", tmp_path / "run", "org/run", "--bundle").code == 0
    (there,) = server.repositories["org/run"].commits.values()
    (tmp_path / "run" / "last" / run.STATE).write_bytes(b"half")
    one_line(dida("push", tmp_path / "run", "org/run", "--bundle"), run.STATE, "not a whole")
    assert b"somebody" not in b"".join(there.values())
    for name, content in there.items():
        own = tmp_path / "other" if name in (run.RECIPE, run.BEGUN) else tmp_path / "other/last"
        own.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(content)
    found, elsewhere = run.recorded(tmp_path / "other")
    assert (found, elsewhere.root) == (replace(wanted, data="faces"), "faces")
    other = Training(found)
    for parameter in other.players.critic.parameters():
        parameter.data.zero_()
    other.restore(tmp_path / "other" / "last")
    before, after = (checkpoint.state_of(t._parts()) for t in (training, other))
    assert all(after[name].equal(value) for name, value in before.items())


def test_what_is_not_a_whole_model_is_not_pushed(
    server: Hub, model_folder: Path, dida: Dida, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_line(dida("push", model_folder, "org/new"), "HF_TOKEN")  # no token that may write
    monkeypatch.setenv("HF_TOKEN", server.token)
    one_line(dida("push", model_folder, "new"), "give org/repo")
    one_line(dida("push", model_folder, "org/new", "--bundle"), "give the folder of a run")
    (model_folder / CARD).rename(model_folder / "card")
    one_line(dida("push", model_folder, "org/new"), f"has no {CARD}")
    (model_folder / "card").rename(model_folder / CARD)
    weights = (model_folder / WEIGHTS).read_bytes()
    (model_folder / WEIGHTS).write_bytes(weights[:-1])
    one_line(dida("push", model_folder, "org/new"), "not a whole safetensors file")
    assert not server.repositories and not server.uploaded


# The doctor


def test_the_doctor_finds_nothing(server: Hub, dida: Dida) -> None:
    result = dida("doctor")
    assert (result.code, result.err) == (0, "")
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert [(state, name) for state, name, _ in lines] == [
        ("ok", name) for name in ("versions", "device", "cache", "models", "self-test")
    ]
    told = json.loads(dida("doctor", "--json").out)
    assert told["ok"] and re.search(r"torch \d.*huggingface_hub \d", told["versions"])
    assert DEFAULT_MODEL in told["models"] and "edits a picture in" in told["self-test"]
    assert not server.requests


def test_the_doctor_finds_what_is_broken_and_tells_the_rest(
    server: Hub, bundled: Path, dida: Dida, tmp_path: Path
) -> None:
    with (bundled / DEFAULT_MODEL / WEIGHTS).open("r+b") as file:
        file.truncate(1000)
    (tmp_path / "home").write_text("a file where the cache should be")
    result = dida("doctor", "--json")
    told = json.loads(result.out)
    assert result.code == 1 and not told["ok"]
    assert told["broken"] == ["cache", "models", "self-test"]
    assert "set DIDA_HOME" in told["cache"] and "safetensors" in told["models"]
    assert told["versions"].startswith("dida ")
    one_line(dida("models", "verify", DEFAULT_MODEL), "not a whole safetensors file")


@pytest.mark.parametrize("command", ["download", "push", "models", "doctor"])
def test_help_imports_neither_torch_nor_the_hubs_library(command: str) -> None:
    without(["torch", "huggingface_hub", "httpx2"], command, "--help")
