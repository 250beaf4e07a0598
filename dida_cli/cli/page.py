"""The command that makes a web page of a model, and shows it."""

import tempfile
import webbrowser
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer

from dida_cli.cli import console, models
from dida_cli.cli.options import ModelOpt
from dida_cli.config import DEFAULT_MODEL


def page(
    model: ModelOpt = DEFAULT_MODEL,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New folder for the page, to be hosted.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Serve the page to this machine alone, and open it.")
    ] = False,
) -> None:
    """Write a web page that edits pictures in the browser; pictures never leave it.

    All files are local and static: any host can serve the folder. With --open and no -o the page
    is gone when it is closed by Ctrl-C.
    """
    if not (out or show):
        raise typer.BadParameter("Give -o FOLDER, or --open to look at the page, or both.")
    if out:
        _write(model, out)
        console.out(str(out))
        if show:
            _open(out)
        return
    with tempfile.TemporaryDirectory(prefix="dida-page-") as place:
        _write(model, Path(place) / "page")
        _open(Path(place) / "page")


def _write(model: str, folder: Path) -> None:
    from dida_cli.export.page import write_page

    console.note("writing the page, which may take half a minute")
    name = Path(model).resolve().name if Path(model).exists() else model
    size = write_page(models.folder_of(model), name, folder)
    console.note(f"the page has {size / 1e6:.1f} MB")


def _open(folder: Path) -> None:
    """Serve a folder, and show it, until Ctrl-C."""
    with server(folder) as serving:
        address = f"http://127.0.0.1:{serving.server_port}/"
        console.note(f"{address} shows the page; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            webbrowser.open(address)
            serving.serve_forever()


class _Handler(SimpleHTTPRequestHandler):
    """Serves files of the types that browsers want of modules and of WebAssembly."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".json": "application/json",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # the next page may have the same address
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def server(folder: Path) -> ThreadingHTTPServer:
    """What serves a folder to this machine alone, at a free port."""
    return ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
