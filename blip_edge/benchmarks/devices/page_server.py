"""The page that a browser is measured with, and an ear for what it tells.

All that is served lies below a one-time token; whoever has it wrong gets 403, whatever was asked
for. Two headers isolate the page from other sites, which browsers want before they hand out shared
memory, without which WebAssembly has one thread (https://web.dev/articles/coop-coep).
"""

import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from queue import Queue
from time import monotonic
from typing import Any

from blip_edge.benchmarks.job import Event

__all__ = ["LEFT", "PageServer"]

LEFT: Event = {"left": True}
"""What the queue holds when the browser says that it closes the page."""

_MOST_BYTES = 8 << 20  # of what a page may post at once
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".png": "image/png",
}
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
}
_PAGE = ("index.html", "page.mjs", "worker.mjs", "captioner.mjs", "png.mjs")


class PageServer:
    """Serves while it is entered.

    Args:
        files: what is served beside the page: name below the token -> file, or bytes.
        host: an address of this machine; 0.0.0.0 for all.
    """

    def __init__(self, files: Mapping[str, Path | bytes], host: str = "127.0.0.1") -> None:
        self.token = secrets.token_urlsafe(16)
        self.events: Queue[Event] = Queue()
        self.heard: float | None = None
        """When the browser was last heard of, by the monotonic clock."""
        self._files = dict(files)
        web = resources.files("blip_edge.benchmarks").joinpath("web")
        for name in _PAGE:
            self._files[name] = web.joinpath(name).read_bytes()
        self._client: str | None = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """The port that was free."""
        return int(self._server.server_address[1])

    def url(self, host: str) -> str:
        """Where the page is, for a browser that reaches this machine as `host`."""
        return f"http://{host}:{self.port}/{self.token}/"

    def __enter__(self) -> "PageServer":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def file(self, name: str) -> Path | bytes | None:
        """What is served under a name; nothing else of this machine can be asked for."""
        return self._files.get(name or "index.html")

    def hear(self, client: str, events: list[Event]) -> bool:
        """Take in events; false when another browser is measured already."""
        with self._lock:
            self._client = self._client or client
            if client != self._client:
                return False
            self.heard = monotonic()
        for event in events:
            self.events.put(event)
        return True


def _handler(server: PageServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self._allowed()
            if name is None:
                return
            found = server.file(name)
            if found is None:
                self._answer(404, b"there is no such file")
                return
            kind = _KINDS.get(Path(name or "index.html").suffix, "application/octet-stream")
            body = found if isinstance(found, bytes) else found.read_bytes()
            self._answer(200, body, kind)

        def do_POST(self) -> None:
            name = self._allowed()
            if name is None:
                return
            body = self._body()
            if body is None:
                self.close_connection = True
                self._answer(413, b"too long")
            elif name == "left":
                server.hear(body.decode(errors="replace"), [LEFT])
                self._answer(204)
            elif name == "events" and (events := _events(body)) is not None:
                taken = server.hear(self.headers.get("X-Client", ""), events)
                self._answer(204 if taken else 409)
            else:
                self._answer(400, b"no events")

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the page itself says how far it is."""

        def _allowed(self) -> str | None:
            """The name below the token; None when the token is wrong, which was answered."""
            _, _, rest = self.path.partition("?")[0].partition("/")
            token, _, name = rest.partition("/")
            if hmac.compare_digest(token.encode(), server.token.encode()):
                return name
            self.close_connection = True
            self._answer(403, b"this address has a wrong token; open the one that bench printed")
            return None

        def _body(self) -> bytes | None:
            try:
                length = int(self.headers.get("Content-Length", ""))
            except ValueError:
                return None
            return self.rfile.read(length) if 0 <= length <= _MOST_BYTES else None

        def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
            with suppress(ConnectionError):  # a phone that has left
                self.send_response(status)
                for header, value in _ISOLATED.items():
                    self.send_header(header, value)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    return Handler


def _events(body: bytes) -> list[Event] | None:
    try:
        events = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        return None
    return events
