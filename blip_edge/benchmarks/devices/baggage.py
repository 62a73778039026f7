"""What travels to another machine: bundles, pictures, the job, and a runner that needs no install.

The runner is a zip of this package's torch-free modules, which Python imports from as it is. All
names in the baggage are numbers of our own, so that no file name of a user's meets a foreign shell.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from blip_edge.artifact import inside
from blip_edge.benchmarks.declared import declared, package_name
from blip_edge.benchmarks.job import Job
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.manifest import read_manifest
from blip_edge.runtime.sums import check_sums

__all__ = [
    "JOB",
    "RUNNER",
    "Baggage",
    "check_bundles",
    "find_python",
    "found_facts",
    "requirements",
]

JOB = "job.json"
RUNNER = "runner.zip"

_PACKAGE = Path(__file__).parents[2]
# What the worker and the protocol are made of; the floors with torch stay at home.
_PARTS = ("benchmarks", "runtime")
_NEEDED = {"numpy", "pillow", "psutil", "pydantic", "tokenizers"}
_ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}

_FIND_PYTHON = r"""
fit=''
for python in CANDIDATES; do
    command -v "$python" >/dev/null 2>&1 || continue
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    case $python in */.cache/*) ;; *) fit=${fit:-$python} ;; esac
    "$python" -c '
import sys
from importlib.metadata import version
for word in sys.argv[1:]:
    name, _, floor = word.partition(">=")
    found = version(name).split(".")
    assert [int(part) for part in found[:2]] >= [int(part) for part in floor.split(".") if part]
' "$@" 2>/dev/null && echo "ready $python" && break
done
echo "python $fit"
"""


def check_bundles(bundles: Sequence[Path]) -> None:
    """See that every file of every bundle is as the export wrote it.

    Raises:
        ArtifactError: one was changed or is missing.
    """
    for bundle in bundles:
        read_manifest(bundle)
        if (bundle / "SHA256SUMS").is_file():
            check_sums(bundle)


def requirements(engines: Iterable[str]) -> tuple[str, ...]:
    """What a Python there takes to run bundles on `engines`, such as `numpy>=2.0`."""
    wanted = _NEEDED | {_ENGINES[engine] for engine in engines}
    known = {package_name(text): text.split(";")[0].replace(" ", "") for text, _ in declared()}
    return tuple(known.get(name, name) for name in sorted(wanted))


def find_python(candidates: str) -> str:
    """A shell script that looks for a Python with the requirements in "$@", the cached ones first.

    It prints `ready PYTHON` with the first that has them all, and `python PYTHON` with the first
    that is new enough, or nothing behind it.

    Args:
        candidates: words of a shell's `for`; our own, never a user's.
    """
    return _FIND_PYTHON.replace("CANDIDATES", candidates)


def found_facts(text: str) -> dict[str, str]:
    """What such a script has printed: a word and its value a line."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


class Baggage:
    """The files that `job` needs on another machine.

    job.json  runner.zip  bundles/0/…  pictures/0.png …
    """

    def __init__(self, job: Job) -> None:
        self._files: dict[str, Path | bytes] = {}
        bundles = [f"bundles/{number}" for number in range(len(job.bundles))]
        for name, bundle in zip(bundles, job.bundles, strict=True):
            for path in sorted(bundle.rglob("*")):
                if path.is_file():
                    relative = path.relative_to(bundle).as_posix()
                    self._files[f"{name}/{relative}"] = inside(bundle, relative)
        there = replace(
            job, bundles=tuple(map(Path, bundles)), asked=tuple(map(self._packed, job.asked))
        )
        self._files[JOB] = json.dumps(there.to_json()).encode()
        self._files[RUNNER] = _runner()

    def _packed(self, asked: Asked) -> Asked:
        """The same of pictures in the baggage."""
        names = []
        for image in asked.images:
            path = Path(str(image))
            names.append(Path(f"pictures/{len(self._files)}{path.suffix.lower()}"))
            self._files[names[-1].as_posix()] = path
        return replace(asked, images=tuple(names))

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(
            len(what) if isinstance(what, bytes) else what.stat().st_size
            for what in self._files.values()
        )

    def write_tar(self, out: IO[bytes]) -> None:
        """Write all files as a tar archive, which any device can unpack from a pipe."""
        with tarfile.open(fileobj=out, mode="w|", dereference=True) as archive:
            for name, what in self._files.items():
                if isinstance(what, Path):
                    archive.add(what, name, recursive=False, filter=_nameless)
                else:
                    facts = tarfile.TarInfo(name)
                    facts.size = len(what)
                    archive.addfile(facts, io.BytesIO(what))


def _nameless(facts: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose the files are here, and who may read them, is of no use there."""
    facts.uid = facts.gid = 0
    facts.uname = facts.gname = ""
    facts.mode = 0o644
    return facts


def _runner() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _modules():
            archive.write(path, path.relative_to(_PACKAGE.parent).as_posix())
    return out.getvalue()


def _modules() -> Iterator[Path]:
    yield from sorted(_PACKAGE.glob("*.py"))
    for part in _PARTS:
        yield from sorted((_PACKAGE / part).rglob("*.py"))
