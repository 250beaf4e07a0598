"""A small Hugging Face Hub over loopback, for the real client to talk to; with faults on order.

What it speaks was read from huggingface_hub: model info, resolve with its headers and redirects,
and the commits of an upload. Large files lie on a second host, whose origin is another port.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".png"))


@dataclass
class Repository:
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: Files, ref: str = "main") -> str:
        """A commit of exactly these files, which the ref now names."""
        listing = repr(sorted((name, sha256(content)) for name, content in files.items()))
        commit = hashlib.sha1(f"{len(self.commits)} {listing}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens to the next `times` requests of a path; `kind` is a status or one of:

    break: half of a body, then silence; short: a body that ends early; wrong: other bytes, of the
    right size; slow: nothing for a while after the first bytes; endless: a body without an end;
    drip: one byte after the other; json: what stands after the colon, as the whole answer.
    """

    path: str
    kind: int | str
    times: int = 1
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT")


class Hub:
    """The server: its repositories, the requests it has seen, and the faults ordered."""

    def __init__(self, token: str = "hf_secret") -> None:
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.uploaded: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.announced_sizes: dict[str, int] = {}  # lies about the size of a file
        self.retry_after = "0"  # seconds, beside a status of 429
        self.slowed = threading.Event()
        self.stopped = threading.Event()
        self.content = self._serve(_Content)
        self.hub = self._serve(_Hub)
        self.url = f"http://127.0.0.1:{self.hub.server_port}"
        self.content_url = f"http://127.0.0.1:{self.content.server_port}"

    def _serve(self, handler: type["_Handler"]) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"owner": self}))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for server in (self.hub, self.content):
            server.shutdown()
            server.server_close()

    def repository(self, name: str, **options: Any) -> Repository:
        return self.repositories.setdefault(name, Repository(**options))

    def fault(self, path: str, kind: int | str, times: int = 1, *methods: str) -> None:
        self.faults.append(Fault(path, kind, times, methods or Fault.methods))

    def fault_of(self, method: str, path: str) -> int | str | None:
        for fault in self.faults:
            if fault.path in path and method in fault.methods and fault.times > 0:
                fault.times -= 1
                return fault.kind
        return None

    def paths(self, method: str) -> list[str]:
        return [request.path for request in self.requests if request.method == method]


class _Handler(BaseHTTPRequestHandler):
    owner: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # of a client that has heard enough
            super().handle()

    def do_GET(self) -> None:
        self._handle("GET")

    def do_HEAD(self) -> None:
        self._handle("HEAD")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def _handle(self, method: str) -> None:
        path = unquote(self.path)
        self.owner.requests.append(Request(method, path, dict(self.headers.items())))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fault = self.owner.fault_of(method, path)
        if isinstance(self.fault, str) and self.fault.startswith("json:"):
            self.answer(200, self.fault[5:].encode(), {"Content-Type": "application/json"})
        elif isinstance(self.fault, int):
            wait = {"Retry-After": self.owner.retry_after} if self.fault == 429 else {}
            self.answer(self.fault, b"{}", wait)
        else:
            self.route(method, urlsplit(path).path)

    def route(self, method: str, path: str) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Length": str(len(body))} | (headers or {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code} | (headers or {}))

    def file(self, content: bytes, headers: dict[str, str]) -> None:
        """A body, by range if asked for, with whatever fault is due."""
        if self.fault == "wrong":
            content = bytes(byte ^ 1 for byte in content)
        elif self.fault == "short":
            content = content[: len(content) // 2]
        status, start = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            status, start = 206, int(asked[1])
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body = content[start:]
        if self.fault in ("endless", "drip"):
            self.trickle(status, headers, body)
            return
        if self.fault not in ("break", "slow"):
            self.answer(status, body, headers)
            return
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.owner.slowed.set()
        if self.fault == "slow":
            self.owner.stopped.wait(120)
        self.close_connection = True

    def trickle(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """A body in chunks, more and more of it, or less and less."""
        self.send_response(status)
        for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
            self.send_header(name, value)
        self.end_headers()
        part = body if self.fault == "endless" else body[:1]
        try:
            while not self.owner.stopped.wait(0 if self.fault == "endless" else 0.02):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
        except OSError:
            self.close_connection = True


class _Content(_Handler):
    """Where large files lie, by sha256."""

    def route(self, method: str, path: str) -> None:
        digest = path.rpartition("/")[2]
        if method == "PUT":
            assert sha256(self.body) == digest, "an upload is not what was announced"
            self.owner.uploaded[digest] = self.body
            self.answer(200, b"")
            return
        for repository in self.owner.repositories.values():
            for name, content in (f for c in repository.commits.values() for f in c.items()):
                if is_large(name) and sha256(content) == digest:
                    self.file(content, {"ETag": f'"{digest}"'})
                    return
        self.answer(404, b"")


class _Hub(_Handler):
    def route(self, method: str, path: str) -> None:
        if path == "/api/repos/create":
            self.create()
        elif path == "/api/validate-yaml":
            self.answer_json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            self.preupload(found[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            self.commit(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(found[1], found[2], found[3])
        else:
            self.answer(404, b"{}")

    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.owner.token}"

    def opened(self, name: str, write: bool = False) -> Repository | None:
        """A repository that the asker may see, or None, with the answer the real Hub gives."""
        repository = self.owner.repositories.get(name)
        if (write or (repository and repository.private)) and not self.authorized():
            repository = None
        if repository is None:
            known = self.authorized()
            self.error(404 if known else 401, "RepoNotFound")
        return repository

    def info(self, name: str, revision: str) -> None:
        repository = self.opened(name)
        if repository is None:
            return
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self.error(404, "RevisionNotFound")
            return
        siblings: list[dict[str, Any]] = []
        for path, content in repository.commits[commit].items():
            size = self.owner.announced_sizes.get(path, len(content))
            told = {"rfilename": path, "size": size, "blobId": blob_id(content)}
            if is_large(path):
                told["lfs"] = {"sha256": sha256(content), "size": size, "pointerSize": 134}
            siblings.append(told)
        self.answer_json({"id": name, "sha": commit, "siblings": siblings})

    def resolve(self, name: str, commit: str, path: str) -> None:
        repository = self.opened(name)
        if repository is None:
            return
        if repository.gated and not self.authorized():
            self.error(401, "GatedRepo")
            return
        content = repository.commits.get(commit, {}).get(path)
        if content is None:
            self.error(404, "EntryNotFound", {"X-Repo-Commit": commit})
        elif is_large(path):
            where = f"{self.owner.content_url}/large/{sha256(content)}"
            told = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            self.answer(302, b"", {"X-Repo-Commit": commit, "Location": where} | told)
        else:
            headers = {"X-Repo-Commit": commit, "ETag": f'"{blob_id(content)}"'}
            self.file(content, headers)

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self.authorized():
            self.answer(401, b"{}")
        elif name in self.owner.repositories:
            told = {"error": "You already created this repo", "url": f"{self.owner.url}/{name}"}
            self.answer(409, json.dumps(told).encode())
        else:
            self.owner.repository(name, private=asked.get("visibility") == "private")
            self.answer_json({"url": f"{self.owner.url}/{name}"})

    def preupload(self, name: str) -> None:
        if self.opened(name, write=True):
            files = json.loads(self.body)["files"]
            modes = {True: "lfs", False: "regular"}
            told = [
                {"path": f["path"], "uploadMode": modes[is_large(f["path"])], "shouldIgnore": False}
                for f in files
            ]
            self.answer_json({"files": told})

    def batch(self, name: str) -> None:
        if self.opened(name, write=True):
            objects = json.loads(self.body)["objects"]
            for one in objects:
                where = f"{self.owner.content_url}/upload/{one['oid']}"
                one["actions"] = {"upload": {"href": where}}
            self.answer_json({"transfer": "basic", "objects": objects})

    def commit(self, name: str, branch: str) -> None:
        repository = self.opened(name, write=True)
        if repository is None:
            return
        files = dict(repository.commits.get(repository.refs.get(branch, ""), {}))
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.owner.uploaded[value["oid"]]
        commit = repository.commit(files, branch)
        url = f"{self.owner.url}/{name}/commit/{commit}"
        self.answer_json({"commitUrl": url, "commitOid": commit})
