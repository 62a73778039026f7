"""What the page's server gives, to whom, and what happens when a phone leaves."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import blip_edge.benchmarks.devices.browser as room
from blip_edge.benchmarks import BenchRecipe, Record, bench
from blip_edge.benchmarks.devices.browser import BrowserDevice
from blip_edge.benchmarks.devices.find import WebSettings
from blip_edge.benchmarks.devices.page_server import LEFT, PageServer
from blip_edge.benchmarks.devices.web_runtime import runtime_files
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.progress import SILENT
from tests.unit.benchmarks.toy_bundle import write_toy

QUICK = BenchRecipe(runs=2, warmup=0, seconds=0.0, burst=1, loads=1)
SAMPLE = {"total_ms": 2.0, "tokens": 3, "image": 0, "at_s": 0.1}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "a.onnx").write_bytes(b"graph")
    with PageServer({"bundles/0/a.onnx": tmp_path / "a.onnx", "job.json": b"{}"}) as found:
        yield found


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_the_page_is_isolated_so_that_it_gets_threads(server: PageServer) -> None:
    for name in ("", "page.mjs", "worker.mjs", "captioner.mjs", "png.mjs", "bundles/0/a.onnx"):
        status, body, headers = ask(server.url("127.0.0.1") + name)
        assert (status, bool(body)) == (200, True)
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert ask(server.url("127.0.0.1") + "page.mjs")[2]["Content-Type"] == "text/javascript"


@pytest.mark.parametrize("path", ["", "wrong/", "wrong/job.json", "job.json", "wrong/events"])
def test_a_wrong_token_gets_nothing(server: PageServer, path: str) -> None:
    address = f"http://127.0.0.1:{server.port}/{path}"
    assert ask(address)[0] == 403
    assert ask(address, [{"done": True}], **{"X-Client": "a"})[0] == 403
    assert server.events.empty()
    assert server.heard is None


@pytest.mark.parametrize("path", ["../../etc/passwd", "%2e%2e/x", "bundles/0/", "runtime/x.wasm"])
def test_nothing_but_what_is_listed_is_served(server: PageServer, path: str) -> None:
    assert ask(server.url("127.0.0.1") + path)[0] == 404


def test_a_second_browser_is_turned_away(server: PageServer) -> None:
    address = server.url("127.0.0.1") + "events"
    assert ask(address, [{"note": "a"}], **{"X-Client": "first"})[0] == 204
    assert ask(address, [{"note": "b"}], **{"X-Client": "second"})[0] == 409
    assert ask(server.url("127.0.0.1") + "left", b"second")[0] == 204
    assert ask(address, [], **{"X-Client": "first"})[0] == 204
    assert server.events.get_nowait() == {"note": "a"}
    assert server.events.empty(), "the second one leaves without ending the first"


@pytest.mark.parametrize("body", [b"no json", b"{}", b"[1]", b"[" * 100_000])
def test_what_are_no_events_are_refused(server: PageServer, body: bytes) -> None:
    assert ask(server.url("127.0.0.1") + "events", body)[0] == 400
    assert server.events.empty()


def test_a_flood_is_refused(server: PageServer) -> None:
    status, _, _ = ask(server.url("127.0.0.1") + "events", b"", **{"Content-Length": str(1 << 30)})
    assert status == 413


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return write_toy(tmp_path / "toy")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / name).write_bytes(b"x")
    (folder / "secret.txt").write_text("s")
    return folder


class Visitor:
    """Somebody who is shown an address, and speaks as a page would."""

    def __init__(self, *stories: list[dict[str, Any]], leave: bool = False) -> None:
        self.stories, self.leave, self.seen = stories, leave, list[str]()

    def show(self, text: str) -> None:
        self.seen.append(text)
        if "http://" in text:
            self.url = text.split()[-1]
            threading.Thread(target=self.visit, daemon=True).start()

    def visit(self) -> None:
        for story in self.stories:
            ask(self.url + "events", story, **{"X-Client": "visitor"})
        if self.leave:
            ask(self.url + "left", b"visitor")


STORY: list[dict[str, Any]] = [
    {"device": {"cpu": "phone", "cores": 8}, "threads": 1},
    {"bundle": 0, "load_ms": 3.0, "first_ms": 4.0},
    {"bundle": 0, "captions": ["red", "blue"]},
    {"bundle": 0, "samples": [SAMPLE, SAMPLE]},
]


def measured(bundle: Path, runtime: Path, visitor: Visitor, **web: Any) -> Record:
    device = BrowserDevice("", WebSettings(runtime=runtime, **web), visitor.show)
    [record] = bench([bundle], device=device, recipe=QUICK)
    return record


def test_a_story_from_a_page_becomes_a_record(bundle: Path, runtime: Path) -> None:
    visitor = Visitor(STORY, [{"done": True}])
    record = measured(bundle, runtime, visitor)
    assert record["complete"]
    assert (record["where"], record["device"]["cpu"]) == ("browser", "phone")
    assert (record["p50_ms"], record["captions"]) == (2.0, ["red", "blue"])
    assert record["noisy"] is None, "nobody tells of a browser's neighbours"
    assert ask_refused(visitor.url), "nothing is served any more"


def ask_refused(url: str) -> bool:
    try:
        ask(url)
    except (urllib.error.URLError, ConnectionError):
        return True
    return False


def test_a_phone_that_leaves_leaves_what_it_measured(bundle: Path, runtime: Path) -> None:
    record = measured(bundle, runtime, Visitor(STORY, leave=True))
    assert not record["complete"]
    assert len(record["samples"]["total_ms"]) == 2
    assert "the page was closed" in record["notes"]


def test_a_phone_that_falls_silent_is_not_waited_for(
    bundle: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_PATIENCE_SECONDS", 0.3)
    record = measured(bundle, runtime, Visitor(STORY))
    assert not record["complete"]
    assert any("not heard of" in note for note in record["notes"])


def test_without_any_measurement_it_is_an_error(
    bundle: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtifactError, match="closed before anything was measured"):
        measured(bundle, runtime, Visitor(STORY[:1], leave=True))
    with pytest.raises(ArtifactError, match="graph: out of memory"):
        error = {"error": {"exit_code": 3, "message": "graph: out of memory"}}
        measured(bundle, runtime, Visitor([error]))
    monkeypatch.setattr(room, "_OPEN_SECONDS", 0.1)
    with pytest.raises(ArtifactError, match="no browser has opened"):
        measured(bundle, runtime, Visitor())


def test_a_phone_gets_an_address_and_a_code(
    bundle: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("segno")
    monkeypatch.setattr(room, "_own_address", lambda: "127.0.0.1")
    visitor = Visitor(STORY, [{"done": True}])
    record = measured(bundle, runtime, visitor, lan=True)
    assert len(visitor.seen[1].splitlines()) > 10
    assert any("one thread" in note for note in record["notes"])


def test_a_damaged_bundle_is_not_served(bundle: Path, runtime: Path) -> None:
    with (bundle / "vision.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactError, match="changed after export"):
        measured(bundle, runtime, Visitor())


def test_another_targets_bundle_is_refused(bundle: Path, runtime: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "target": "openvino"}))
    with pytest.raises(UsageError, match="toy is for openvino, and browser runs onnx"):
        measured(bundle, runtime, Visitor())


def test_the_runtime_is_named_when_it_is_not_one(tmp_path: Path, runtime: Path) -> None:
    assert "secret.txt" not in runtime_files(runtime, "wasm", SILENT)
    with pytest.raises(ArtifactError, match=r"ort\.webgpu\.min\.mjs"):
        runtime_files(runtime, "webgpu", SILENT)
    with pytest.raises(MissingExtraError, match="no-such-browser"):
        BrowserDevice("no-such-browser", WebSettings(), print)


def test_npm_fetches_the_runtime_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingExtraError, match="--web-runtime"):
        runtime_files(None, "wasm", SILENT)
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error: no network' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(MissingExtraError, match="no network"):
        runtime_files(None, "wasm", SILENT)


def test_leaving_is_no_event_of_a_job() -> None:
    from blip_edge.benchmarks.job import Measured

    with pytest.raises(ArtifactError):
        Measured(bundles=1).hear(LEFT)
