"""An Android phone or board on a cable, through the system's own `adb`.

Where adb's shell may run a Python with ONNX Runtime (Termux on a rooted phone, a board), the bundle
is pushed there with the runner. Where there is none, as on an ordinary phone, its browser opens the
bench's page over the cable: `adb reverse` makes it a page from localhost, and so one with threads.
"""

import json
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.benchmarks.devices.android import STATUS, parse_battery, parse_thermal
from blip_edge.benchmarks.devices.baggage import (
    Baggage,
    check_bundles,
    find_python,
    found_facts,
    requirements,
)
from blip_edge.benchmarks.devices.browser import BrowserDevice
from blip_edge.benchmarks.devices.find import WebSettings
from blip_edge.benchmarks.devices.page_server import PageServer
from blip_edge.benchmarks.devices.remote_shell import end_of, last_line
from blip_edge.benchmarks.job import Job, Measured
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.progress import Progress

__all__ = ["AdbDevice", "Bridge", "CableBrowser"]

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")
_HOME = "/data/local/tmp"
_EVENTS = "events.jsonl"
_FACTS = """
echo "model $(getprop ro.product.manufacturer) $(getprop ro.product.model)"
echo "soc $(getprop ro.soc.manufacturer) $(getprop ro.soc.model)"
echo "android $(getprop ro.build.version.release)"
"""
_PYTHONS = "python3 /data/data/com.termux/files/usr/bin/python3"
# $1 folder, $2 python.
_RUN = f"""
cd "$1" || exit 3
PYTHONPATH=$PWD/runner.zip exec "$2" -P -m blip_edge.benchmarks.runner job.json -o {_EVENTS}
"""


class Bridge:
    """`adb -s SERIAL …`.

    Raises:
        UsageError: the serial is none.
        MissingExtraError: this machine has no adb.
    """

    def __init__(self, serial: str) -> None:
        if not _SERIAL.fullmatch(serial):
            raise UsageError(f"{serial!r} is no serial; `adb devices` lists them: adb:SERIAL")
        program = shutil.which("adb")
        if program is None:
            raise MissingExtraError(
                "adb is not installed; on Debian and Ubuntu: apt-get install adb"
            )
        self.serial = serial
        self._command = [program, "-s", serial]

    def ask(self, *words: str, script: str = "") -> "subprocess.CompletedProcess[str]":
        """Run adb with these words, and wait; `script` is its standard input."""
        return subprocess.run(
            [*self._command, *words],
            input=script,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def do(self, *words: str) -> str:
        """The same for what has to succeed; what it printed.

        Raises:
            ArtifactError: it failed; says its last line.
        """
        done = self.ask(*words)
        if done.returncode:
            said = last_line(done.stderr) or last_line(done.stdout) or f"code {done.returncode}"
            raise ArtifactError(f"adb:{self.serial}: {said}")
        return done.stdout

    def shell(self, script: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a script in the phone's shell with `words` as $1, $2 …"""
        return self.ask("shell", shlex.join(("sh", "-s", "--", *words)), script=script)

    def open(self, script: str, *words: str, stderr: Any) -> "subprocess.Popen[str]":
        """Start a script there; its standard output is read by the caller, line by line."""
        command = [*self._command, "shell", shlex.join(("sh", "-c", script, "sh", *words))]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
        )

    def state(self) -> dict[str, Any]:
        """Heat and battery now."""
        thermal = self.ask("shell", "dumpsys thermalservice").stdout
        battery = self.ask("shell", "dumpsys battery").stdout
        return {"thermal": parse_thermal(thermal), "battery": parse_battery(battery)}


class CableBrowser(BrowserDevice):
    """A `Device`: the browser of the phone behind `bridge`."""

    def __init__(self, bridge: Bridge, web: WebSettings, show: Callable[[str], None]) -> None:
        super().__init__("", web, show)
        self.name = f"adb:{bridge.serial}"
        self._bridge = bridge

    def open(self, server: PageServer) -> None:
        """Make the page one of the phone's own, and show it there."""
        port = f"tcp:{server.port}"
        self._bridge.do("reverse", port, port)
        self._stack.callback(self._bridge.ask, "reverse", "--remove", port)
        view = ("am", "start", "-a", "android.intent.action.VIEW", "-d", server.url("localhost"))
        self._bridge.do("shell", shlex.join(view))
        self._show(f"{self.name} opens the page; keep its screen on and the page in front")


class AdbDevice:
    """A `Device` on a cable; see the module."""

    targets: tuple[str, ...] = ("onnx",)

    def __init__(self, serial: str, web: WebSettings, show: Callable[[str], None]) -> None:
        self._bridge = Bridge(serial)
        self.name = f"adb:{serial}"
        self._web, self._show = web, show
        self._folder = f"{_HOME}/blip-edge-{secrets.token_hex(8)}"
        self._python = ""
        self._page: CableBrowser | None = None
        self._heard = 0
        self._before: dict[str, Any] = {}
        self._phone: dict[str, str] = {}
        self._measured = Measured(bundles=0)

    def prepare(self, job: Job, progress: Progress) -> None:
        """Check the bundles, see that the phone is there, and what can run them."""
        check_bundles(job.bundles)
        self._measured = Measured(bundles=len(job.bundles), where=self.name)
        if (state := self._bridge.do("get-state").strip()) != "device":
            raise ArtifactError(f"{self.name} is {state}; unlock it and allow debugging")
        script = _FACTS + find_python(_PYTHONS)
        found = found_facts(self._bridge.shell(script, *requirements(["onnx"])).stdout)
        self._phone = {key: found[key].strip() for key in ("model", "soc", "android")}
        self._python = found.get("ready", "").strip()
        self._before = self._bridge.state()
        if not self._python:
            progress.say(f"{self.name} has no Python with ONNX Runtime; its browser is measured")
            self._page = CableBrowser(self._bridge, self._web, self._show)
            self._page.prepare(job, progress)

    def push(self, job: Job, progress: Progress) -> None:
        """Copy everything there."""
        if self._page is not None:
            self._page.push(job, progress)
            return
        baggage = Baggage(job)
        progress.say(f"copying {baggage.size / 1e6:.1f} MB to {self.name}")
        with TemporaryDirectory() as scratch:
            archive = Path(scratch) / "job.tar"
            with archive.open("wb") as out:
                baggage.write_tar(out)
            self._bridge.do("shell", shlex.join(("mkdir", "-p", self._folder)))
            self._bridge.do("push", str(archive), f"{self._folder}/job.tar")
        unpack = ("tar", "-xf", f"{self._folder}/job.tar", "-C", self._folder)
        self._bridge.do("shell", shlex.join(unpack))

    def run(self, job: Job, progress: Progress) -> None:
        """Time them there."""
        if self._page is not None:
            self._page.run(job, progress)
            return
        progress.say(f"timing {job.counted()} on {self.name}")
        with TemporaryDirectory() as scratch, (Path(scratch) / "stderr").open("w+") as stderr:
            process = self._bridge.open(_RUN, self._folder, self._python, stderr=stderr)
            try:
                assert process.stdout is not None
                with process.stdout:
                    for line in process.stdout:
                        self._hear(line)
            except BaseException:
                process.kill()
                raise
            finally:
                code = end_of(process)
            stderr.seek(0)
            said = last_line(stderr.read()) or f"it ended with {code}"
        if not self._measured.complete:
            self._pull()
        if self._measured.complete:
            return
        if not self._measured.answers:
            raise ArtifactError(f"{self.name} did not run them: {said}")
        self._measured.notes.append(f"the phone was lost: {said}")

    def collect(self) -> Measured:
        """What was measured, with the phone's own words on heat and battery."""
        measured = self._measured if self._page is None else self._page.collect()
        after = self._bridge.state()
        measured.device |= {"phone": self._phone, "before": self._before, "after": after}
        if self._phone.get("soc"):
            measured.device["cpu"] = f"{self._phone['model']} ({self._phone['soc']})"
        status = after["thermal"].get("status", 0)
        if status:
            word = STATUS[status] if status < len(STATUS) else str(status)
            measured.notes.append(f"Android throttles after the timing: {word}")
        return measured

    def clean(self) -> None:
        """Delete the folder there, and close the page."""
        if self._page is not None:
            self._page.clean()
        self._bridge.ask("shell", shlex.join(("rm", "-rf", self._folder)))

    def _pull(self) -> None:
        """What a wriggling cable has swallowed is in a file there."""
        with TemporaryDirectory() as scratch:
            copy = Path(scratch) / _EVENTS
            done = self._bridge.ask("pull", f"{self._folder}/{_EVENTS}", str(copy))
            if done.returncode == 0 and copy.is_file():
                lines = copy.read_text(encoding="utf-8", errors="replace").splitlines()
                for line in lines[self._heard :]:
                    self._hear(line)

    def _hear(self, line: str) -> None:
        with suppress(json.JSONDecodeError):  # half a line
            event = json.loads(line)
            self._heard += 1
            self._measured.hear(event)
