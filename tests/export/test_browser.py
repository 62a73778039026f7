"""A real browser, headless, says what Python says, and can be measured.

onnxruntime-web is looked for beside the web example, or in the folder that BLIP_EDGE_WEB_RUNTIME
names.
"""

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from blip_edge import load
from blip_edge.benchmarks import BenchRecipe, bench
from blip_edge.benchmarks.devices.find import WebSettings, find_device
from blip_edge.errors import ArtifactError
from blip_edge.exporters.asked import pictures
from blip_edge.runtime.asked import Asked

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUICK = BenchRecipe(runs=4, warmup=1, seconds=0.0, burst=2, loads=1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if shutil.which(name):
            return name
    pytest.skip("no Chromium; on Debian: apt-get install chromium")


@pytest.fixture(scope="module")
def runtime() -> Path:
    own = EXAMPLE / "node_modules" / "onnxruntime-web" / "dist"
    folder = Path(os.environ.get("BLIP_EDGE_WEB_RUNTIME", own))
    if not folder.is_dir():
        pytest.skip("no onnxruntime-web; run: npm install --prefix examples/web")
    return folder


@pytest.fixture
def bundle(uneven: Path, exported: Callable[..., Path]) -> Path:
    pytest.importorskip("onnxscript")
    return exported(uneven, "onnx", precision="fp32", rows=4, length=44)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes, among them a JPEG and one with transparency."""
    found = [tmp_path / name for name in ("a.png", "b.jpg", "c.png")]
    for file, picture in zip(found, pictures(None, 3, seed=7), strict=True):
        picture.save(file)
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_captions_in_the_browser_are_pythons(
    quantized: Path,
    exported: Callable[..., Path],
    bundle: Path,
    browser: str,
    runtime: Path,
    files: list[Path],
    precision: str,
) -> None:
    if precision == "int8":
        bundle = exported(quantized, "onnx", precision="int8", rows=4, length=44)
    device = find_device(f"browser:{browser}", WebSettings(runtime=runtime))
    asked = [Asked((file,)) for file in files]
    [record] = bench([bundle], device=device, recipe=QUICK, asked=asked, threads=2)
    expected = [one.text for one in load(bundle).caption(files, beams=1)]
    assert record["captions"] == expected
    assert len(set(expected)) > 1, "one caption for all shows little"
    assert record["complete"]
    assert record["settings"]["decode"]["num_beams"] == 1
    assert record["settings"]["threads"] == 2, "the page is isolated, and so has threads"
    assert record["device"]["packages"]["onnxruntime-web"]
    assert {"preprocess_ms", "vision_ms", "decode_ms", "step_ms"} <= record["stats"].keys()
    assert len(record["samples"]["total_ms"]) == 4


def test_what_the_browser_cannot_open_is_said_in_a_line(
    bundle: Path, browser: str, runtime: Path, tmp_path: Path
) -> None:
    settings = WebSettings(runtime=runtime, backend="webgpu")
    with pytest.raises(ArtifactError, match="no WebGPU adapter"):
        bench([bundle], device=find_device(f"browser:{browser}", settings), recipe=QUICK)


# Appended to the example, which itself tells nobody.
REPORTER = """
<script>
const wait = setInterval(() => {
  if (document.title !== "done") return;
  clearInterval(wait);
  fetch("/said", { method: "POST", body: document.getElementById("said").textContent });
}, 20);
</script>
"""


@dataclass
class Site:
    """The repository as the example's first lines say to serve it."""

    address: str
    said: "Queue[str]"


@pytest.fixture
def site(tmp_path: Path, runtime: Path, bundle: Path, files: list[Path]) -> Iterator[Site]:
    root, web = tmp_path / "site", Path("blip_edge", "benchmarks", "web")
    shutil.copytree(EXAMPLE, root / "examples" / "web", ignore=lambda *_: {"node_modules"})
    with (root / "examples" / "web" / "index.html").open("a") as page:
        page.write(REPORTER)
    modules = root / "examples" / "web" / "node_modules" / "onnxruntime-web"
    modules.mkdir(parents=True)
    (modules / "dist").symlink_to(runtime.resolve())
    (root / web).parent.mkdir(parents=True)
    (root / web).symlink_to(ROOT / web)
    (root / "bundle").symlink_to(bundle)
    shutil.copy(files[0], root / "a.png")
    said: Queue[str] = Queue()

    class Silent(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            said.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Silent, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(f"http://127.0.0.1:{server.server_address[1]}", said)
        server.shutdown()


def test_the_web_example_says_what_python_says(
    site: Site, bundle: Path, browser: str, files: list[Path], tmp_path: Path
) -> None:
    command = [shutil.which(browser) or browser, "--headless=new", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--no-sandbox"]
    address = f"{site.address}/examples/web/?bundle=/bundle&picture=/a.png"
    nowhere = subprocess.DEVNULL
    with subprocess.Popen([*command, address], stdout=nowhere, stderr=nowhere) as process:
        try:
            said = site.said.get(timeout=60)
        finally:
            process.terminate()
    [expected] = load(bundle).caption([files[0]], beams=1)
    assert said == expected.text
