"""A browser, here or on a phone: it opens a page, which runs the very bundle and tells the times.

No cable and nothing to install: onnxruntime-web runs the graphs, and the search is that of the Node
example. On this machine, or through `adb reverse`, the page has threads; a phone that opens it by
this machine's address has one, because browsers share memory with secure pages alone.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from io import BytesIO, StringIO
from pathlib import Path
from queue import Empty
from tempfile import mkdtemp
from time import monotonic

from blip_edge.benchmarks.devices.baggage import check_bundles
from blip_edge.benchmarks.devices.find import WebSettings
from blip_edge.benchmarks.devices.page_server import LEFT, PageServer
from blip_edge.benchmarks.devices.web_runtime import runtime_files
from blip_edge.benchmarks.job import Job, Measured
from blip_edge.benchmarks.load_guard import LoadGuard
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.preprocess import open_image
from blip_edge.progress import Progress
from blip_edge.runtime.manifest import Manifest, read_manifest

__all__ = ["BrowserDevice"]

_OPEN_SECONDS = 600.0  # for somebody to find the phone
_START_SECONDS = 60.0  # for a program that was started
# A page in the background may be heard of once a minute only.
_PATIENCE_SECONDS = 90.0
_CHROMIUM = ("chrom", "msedge", "brave")
_NOTES = (
    "greedy search: the page knows no beams",
    "pictures reach the page as PNG and are decoded there in JavaScript",
)


class BrowserDevice:
    """A `Device` that somebody, or `program`, opens a page for.

    Args:
        program: is started with the page's address; without it the address is shown.
        web: how it is reached, and what computes.
        show: is given the address, and for a phone its QR code.
    """

    targets: tuple[str, ...] = ("onnx",)

    def __init__(self, program: str, web: WebSettings, show: Callable[[str], None]) -> None:
        self.name = f"browser:{Path(program).name}" if program else "browser"
        self._program = shutil.which(program) if program else None
        if program and self._program is None:
            raise MissingExtraError(
                f"{program} is not installed; open the page with another browser"
            )
        self._web, self._show = web, show
        self._runtime: dict[str, Path] = {}
        self._stack = ExitStack()
        self._server: PageServer | None = None
        self._measured = Measured(bundles=0)

    def prepare(self, job: Job, progress: Progress) -> None:
        """Check the bundles, and have the runtime."""
        if job.task != "caption":
            raise UsageError(f"{self.name} times captions only; another device knows {job.task}")
        check_bundles(job.bundles)
        self._measured = Measured(
            bundles=len(job.bundles), where=self.name, decode={"num_beams": 1}, notes=list(_NOTES)
        )
        self._runtime = runtime_files(self._web.runtime, self._web.backend, progress)

    def push(self, job: Job, progress: Progress) -> None:
        """Serve the page, the runtime, the bundles and the pictures."""
        files: dict[str, Path | bytes] = {f"runtime/{name}": p for name, p in self._runtime.items()}
        for number, bundle in enumerate(job.bundles):
            for path in _files(read_manifest(bundle, check=False)):
                files[f"bundles/{number}/{path.relative_to(bundle).as_posix()}"] = path
        images = [Path(str(asked.images[0])) for asked in job.asked]
        pictures = [f"pictures/{number}.png" for number in range(len(images))]
        files |= {name: _png(path) for name, path in zip(pictures, images, strict=True)}
        files["job.json"] = json.dumps(
            {
                "bundles": [bundle.resolve().name for bundle in job.bundles],
                "pictures": pictures,
                "recipe": asdict(job.recipe),
                "threads": job.threads,
                "backend": self._web.backend,
            }
        ).encode()
        host = "0.0.0.0" if self._web.lan else "127.0.0.1"
        try:
            self._server = self._stack.enter_context(PageServer(files, host))
        except OSError as error:
            raise ArtifactError(f"no page can be served: {error.strerror or error}") from None
        self.open(self._server)

    def open(self, server: PageServer) -> None:
        """Bring a browser to the page."""
        if self._program is not None:
            self._start(self._program, server.url("127.0.0.1"))
            return
        url = server.url(_own_address() if self._web.lan else "127.0.0.1")
        self._show(f"open this page in the browser that is to be measured: {url}")
        if self._web.lan:
            self._show(_qr_code(url))

    def run(self, job: Job, progress: Progress) -> None:
        """Listen until all is told, or the browser has left."""
        assert self._server is not None
        since, guard = monotonic(), None
        patience = _OPEN_SECONDS if self._program is None else _START_SECONDS
        while not self._measured.complete:
            with suppress(Empty):
                event = self._server.events.get(timeout=0.2)
                if event == LEFT:
                    self._leave("the page was closed")
                    return
                if self._program is not None and guard is None and "captions" in event:
                    guard = LoadGuard()  # warm-up follows; the browser is a child of ours
                self._measured.hear(event)
                continue
            if self._server.heard is None:
                if monotonic() - since > patience:
                    raise ArtifactError(f"no browser has opened the page in {patience:.0f} seconds")
            elif monotonic() - self._server.heard > _PATIENCE_SECONDS:
                self._leave(f"the page was not heard of for {_PATIENCE_SECONDS:.0f} seconds")
                return
        if guard is not None:
            self._measured.hear({"others": guard.others()})
        if self._web.lan and self._measured.threads == 1:
            self._measured.notes.append(
                "one thread: a page that is not from localhost or by https gets no more"
            )

    def collect(self) -> Measured:
        """What was measured."""
        return self._measured

    def clean(self) -> None:
        """Serve no longer, and end the program that was started."""
        self._stack.close()

    def _leave(self, why: str) -> None:
        if not self._measured.answers:
            raise ArtifactError(f"{self.name}: {why} before anything was measured")
        self._measured.notes.append(why)

    def _start(self, program: str, url: str) -> None:
        words = [program]
        if any(name in Path(program).name.lower() for name in _CHROMIUM):
            profile = mkdtemp(prefix="blip-edge-browser-")
            self._stack.callback(shutil.rmtree, profile, ignore_errors=True)
            words += ["--headless=new", f"--user-data-dir={profile}", "--no-first-run"]
            words += ["--disable-extensions", "--disable-dev-shm-usage"]
            if hasattr(os, "geteuid") and os.geteuid() == 0:
                words.append("--no-sandbox")  # Chromium does not start as root with it
        try:
            process = subprocess.Popen(
                [*words, url],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise ArtifactError(f"{program} does not start: {error.strerror or error}") from None
        self._stack.callback(_end, process)


def _files(manifest: Manifest) -> list[Path]:
    graphs = [manifest.graph(name).path for name in ("vision", "decoder")]
    return [manifest.folder / "manifest.json", manifest.tokenizer, *graphs]


def _png(path: Path) -> bytes:
    """The picture as the page reads it: 8 bits, RGB, whatever it was."""
    out = BytesIO()
    open_image(path).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _own_address() -> str:
    """This machine's address in its network; nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation (RFC 5737)
        except OSError:
            raise ArtifactError("this machine is in no network; leave --lan out") from None
        return str(probe.getsockname()[0])


def _qr_code(url: str) -> str:
    """The address for a camera, if the `qr` extra is there."""
    try:
        import segno
    except ModuleNotFoundError:
        return "for a QR code of it: pip install 'blip-edge[qr]'"
    out = StringIO()
    segno.make(url, error="l").terminal(out, compact=True)
    return out.getvalue()
