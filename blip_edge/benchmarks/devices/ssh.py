"""Another machine that ssh reaches: a Raspberry Pi, a Jetson, any Linux or Mac.

The bundles go there with a runner, are timed by the same protocol, and everything is deleted again,
but for a virtual environment that was made because that machine's Python lacks the engine: it stays
in ~/.cache/blip-edge for the next time.
"""

import hashlib
import json
import re
import secrets
import subprocess
from contextlib import suppress
from tempfile import TemporaryFile

from blip_edge.benchmarks.devices.baggage import (
    Baggage,
    check_bundles,
    find_python,
    found_facts,
    requirements,
)
from blip_edge.benchmarks.devices.remote_shell import (
    CONNECTION_LOST,
    Address,
    RemoteShell,
    end_of,
    last_line,
)
from blip_edge.benchmarks.job import Job, Measured
from blip_edge.errors import ArtifactError, MissingExtraError
from blip_edge.progress import Progress
from blip_edge.runtime.manifest import read_manifest

__all__ = ["SshDevice"]

# $1 name of the folder, rest requirements. Makes the folder; prints where it is, how much is free.
_LOOK = r"""
base=/var/tmp
[ -w $base ] || base=/tmp
mkdir -m 700 "$base/$1" || exit 3
echo "folder $base/$1"
echo "free $(df -Pk "$base/$1" | awk 'NR == 2 {print $4}')"
shift
"""
_PYTHONS = (
    '"$HOME"/.cache/blip-edge/bench-*/bin/python '
    "python3 python3.14 python3.13 python3.12 python3.11"
)
# $1 python, $2 name of the environment, rest requirements. Prints its Python.
_INSTALL = r"""
home=$HOME/.cache/blip-edge/$2
python=$1
shift 2
rm -rf "$home"
mkdir -p "$HOME/.cache/blip-edge" &&
    "$python" -m venv "$home" >&2 &&
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2 &&
    echo "$home/bin/python" && exit 0
rm -rf "$home"
exit 1
"""
# $1 folder, $2 python.
_RUN = r"""
cd "$1" || exit 3
PYTHONPATH=$PWD/runner.zip exec "$2" -P -m blip_edge.benchmarks.runner job.json
"""
_CLEAN = 'rm -rf "/var/tmp/$1" "/tmp/$1"'

_FULL = re.compile(r"no space left|disk quota exceeded|disk full", re.IGNORECASE)


class SshDevice:
    """A `Device` behind ssh: `[user@]host[:port]`.

    Raises:
        UsageError: `address` is none.
        MissingExtraError: this machine has no ssh.
    """

    targets: tuple[str, ...] = ("onnx", "openvino")

    def __init__(self, address: str) -> None:
        self.name = f"ssh:{address}"
        self._shell = RemoteShell(Address.parse(address))
        self._name = f"blip-edge-{secrets.token_hex(8)}"
        self._there = False
        self.folder = ""
        """Where its files are there, once it is known."""
        self._python = ""
        self._free = 0
        self._measured = Measured(bundles=0)

    def prepare(self, job: Job, progress: Progress) -> None:
        """Check the bundles here, make a folder there, and find or make a Python for them."""
        check_bundles(job.bundles)
        self._measured = Measured(bundles=len(job.bundles), where=self.name)
        engines = {e for bundle in job.bundles for e in read_manifest(bundle, check=False).engines}
        packages = requirements(engines)
        progress.say(f"looking at {self.name}")
        done = self._shell.run(_LOOK + find_python(_PYTHONS), self._name, *packages)
        self._there = done.returncode != CONNECTION_LOST
        if done.returncode:
            raise self._failed("cannot be used", last_line(done.stderr))
        found = found_facts(done.stdout)
        self.folder, self._free = found["folder"], int(found.get("free") or 0) * 1024
        python = found.get("ready") or self._install(found.get("python"), packages, progress)
        self._python = python

    def push(self, job: Job, progress: Progress) -> None:
        """Copy everything there, in one stream."""
        baggage = Baggage(job)
        if self._free and baggage.size > self._free:
            raise self._failed(
                "the disk is full there",
                f"{baggage.size / 1e6:.0f} MB are needed, {self._free / 1e6:.0f} MB are free",
            )
        progress.say(f"copying {baggage.size / 1e6:.1f} MB to {self.name}")
        said = self._shell.feed(baggage.write_tar, "tar", "-xf", "-", "-C", self.folder)
        if said is not None:
            raise self._failed("does not take the files", said)

    def run(self, job: Job, progress: Progress) -> None:
        """Time them there; when the connection breaks, what was told is kept."""
        progress.say(f"timing {job.counted()} on {self.name}")
        with TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            process = self._shell.open(_RUN, self.folder, self._python, stderr=stderr)
            try:
                self._listen(process)
            except BaseException:
                process.kill()
                raise
            finally:
                code = end_of(process)
            stderr.seek(0)
            said = last_line(stderr.read()) or f"it ended with {code}"
        if self._measured.complete:
            return
        if not self._measured.answers:
            raise self._failed("did not run them", said)
        what = "the connection was lost" if code == CONNECTION_LOST else "the run broke off"
        self._measured.notes.append(f"{what}: {said}")

    def collect(self) -> Measured:
        """What was measured; it came while it ran."""
        return self._measured

    def clean(self) -> None:
        """Delete the folder there."""
        if self._there and self._shell.run(_CLEAN, self._name).returncode:
            self._measured.notes.append(f"{self.folder} was left behind on {self.name}")

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with suppress(json.JSONDecodeError):  # the half line of a broken connection
                    self._measured.hear(json.loads(line))

    def _install(self, python: str | None, packages: tuple[str, ...], progress: Progress) -> str:
        if not python:
            raise MissingExtraError(f"{self.name} has no Python from 3.11 on; install one there")
        words = ", ".join(packages)
        progress.say(f"making an environment on {self.name} with {words}")
        name = "bench-" + hashlib.sha256(words.encode()).hexdigest()[:12]
        done = self._shell.run(_INSTALL, python, name, *packages)
        if done.returncode == 0:
            return done.stdout.strip()
        said = last_line(done.stderr)
        if done.returncode == CONNECTION_LOST or _FULL.search(done.stderr):
            raise self._failed("an environment cannot be made", said)
        raise MissingExtraError(f"{self.name}: no environment with {words} can be made: {said}")

    def _failed(self, what: str, said: str) -> ArtifactError:
        """One line with the host's name and its own last words."""
        if _FULL.search(said):
            what = "the disk is full there"
        return ArtifactError(f"{self.name}: {what}: {said}")
