"""A phone on a cable: what is said to adb, and what is made of its answers.

`adb` is a stand-in that writes down what it is told, and whose phone is a folder of this machine.
No phone has been measured by these tests.
"""

import json
import shlex
import sys
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from blip_edge.benchmarks import BenchRecipe, bench
from blip_edge.benchmarks.devices.adb import AdbDevice
from blip_edge.benchmarks.devices.android import parse_battery, parse_thermal
from blip_edge.benchmarks.devices.find import WebSettings
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from tests.unit.benchmarks.toy_bundle import write_toy

QUICK = BenchRecipe(runs=4, warmup=1, seconds=0.0, burst=2, loads=1)
HOME = "/data/local/tmp"
THERMAL = """IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=30.0, mType=3, mName=battery, mStatus=0}
Current temperatures from HAL:
\tTemperature{mValue=36.5, mType=3, mName=battery, mStatus=0}
\tTemperature{mValue=71.2, mType=0, mName=cpu0, mStatus=1}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 85
  temperature: 315
  technology: Li-ion
"""
ADB = """#!{python}
import json, os, pathlib, shutil, subprocess, sys
words, root = sys.argv[1:], pathlib.Path({root!r})
with (root / "log").open("a") as log:
    log.write(json.dumps(words) + "\\n")
assert words[:2] == ["-s", "PHONE"]
verb, *rest = words[2:]
phone = lambda text: text.replace({home!r}, str(root / "phone"))
if verb == "get-state":
    answer = (root / "state").read_text()
    sys.exit("error: device 'PHONE' not found" if answer == "gone" else print(answer))
if verb == "shell":
    env = dict(os.environ, PATH=f"{{root}}/phone-bin:/usr/bin:/bin")
    script = None if rest[0].startswith("sh -c") else phone(sys.stdin.read())
    command = ["sh", "-c", phone(rest[0])]
    sys.exit(subprocess.run(command, input=script, text=True, env=env).returncode)
if verb == "push":
    shutil.copy(rest[0], phone(rest[1]))
if verb == "pull":
    source = pathlib.Path(phone(rest[0]))
    sys.exit(shutil.copy(source, rest[1]) and 0) if source.exists() else sys.exit("adb: no file")
"""


@dataclass
class Phone:
    """The stand-in's phone."""

    root: Path

    def program(self, name: str, text: str) -> None:
        path = self.root / "phone-bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def log(self) -> list[list[str]]:
        lines = (self.root / "log").read_text().splitlines()
        return [json.loads(line)[2:] for line in lines]

    def left(self) -> list[Path]:
        return list((self.root / "phone").iterdir())


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    root = tmp_path / "adb"
    for name in ("bin", "phone-bin", "phone"):
        (root / name).mkdir(parents=True)
    program = root / "bin" / "adb"
    program.write_text(ADB.format(python=sys.executable, root=str(root), home=HOME))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(root / "bin"))
    (root / "state").write_text("device")
    found = Phone(root)
    found.program("getprop", 'case $1 in *soc.model) echo SM8650;; *model) echo "Pixel 9";; esac')
    found.program(
        "dumpsys", f"[ $1 = battery ] && echo {shlex.quote(BATTERY)} || echo {shlex.quote(THERMAL)}"
    )
    found.program("python3", f'exec {sys.executable} "$@"')
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return write_toy(tmp_path / "toy's; echo pwned")


def device() -> AdbDevice:
    return AdbDevice("PHONE", WebSettings(), print)


def test_a_phone_with_python_runs_the_bundle_itself(phone: Phone, bundle: Path) -> None:
    [record] = bench([bundle], device=device(), recipe=QUICK, threads=1)
    assert record["complete"]
    assert record["where"] == "adb:PHONE"
    assert len(record["samples"]["total_ms"]) == 4
    facts = record["device"]
    assert facts["phone"]["model"] == "Pixel 9"
    assert "SM8650" in facts["cpu"]
    assert facts["before"]["battery"] == {"level": 85, "temperature_c": 31.5, "charging": True}
    assert facts["after"]["thermal"]["temperatures_c"] == {"battery": 36.5, "cpu0": 71.2}
    assert any("throttles after the timing: moderate" in note for note in record["notes"])
    verbs = [words[0] for words in phone.log()]
    assert verbs[0] == "get-state"
    assert verbs.count("push") == 1
    assert [words for words in phone.log() if "toy" in " ".join(words)] == []
    assert phone.left() == [], "nothing stays on the phone"


def test_a_cable_that_swallows_lines_is_made_good_by_the_file(phone: Phone, bundle: Path) -> None:
    phone.program("python3", _only_first_lines())
    [record] = bench([bundle], device=device(), recipe=QUICK, threads=1)
    assert record["complete"]
    assert len(record["samples"]["total_ms"]) == 4
    assert [words[0] for words in phone.log()].count("pull") == 1


def _only_first_lines() -> str:
    """The runner's file is whole; of its standard output three lines come through."""
    return f'case "$*" in *runner*) {sys.executable} "$@" >all; head -n 3 all; exit 1;; esac\n' + (
        f'exec {sys.executable} "$@"'
    )


def test_a_phone_that_is_lost_leaves_what_it_told(phone: Phone, bundle: Path) -> None:
    lost = (
        f'{sys.executable} "$@" >all; head -n 4 all; rm events.jsonl; echo no devices >&2; exit 1'
    )
    phone.program("python3", f'case "$*" in *runner*) {lost};; esac\nexec {sys.executable} "$@"')
    [record] = bench([bundle], device=device(), recipe=QUICK, threads=1)
    assert not record["complete"]
    assert record["samples"]["total_ms"]
    assert any("phone was lost" in note for note in record["notes"])


def test_a_phone_without_python_shows_the_page(phone: Phone, bundle: Path, tmp_path: Path) -> None:
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).write_bytes(b"x")
    phone.program("python3", "exit 127")
    phone.program("am", f'echo "$@" >{phone.root}/opened')
    story = [
        {"device": {"cpu": "Linux armv8l", "cores": 8}, "threads": 4},
        {"bundle": 0, "samples": [{"total_ms": 2.0, "tokens": 1}]},
        {"done": True},
    ]

    def visit() -> None:
        opened = phone.root / "opened"
        while not opened.exists() or not opened.read_text().strip():
            threading.Event().wait(0.02)
        url = opened.read_text().split()[-1]
        assert url.startswith("http://localhost:"), "only then has the page threads"
        body = json.dumps(story).encode()
        request = urllib.request.Request(url + "events", body, {"X-Client": "phone"})
        urllib.request.urlopen(request, timeout=10).close()

    threading.Thread(target=visit, daemon=True).start()
    found = AdbDevice("PHONE", WebSettings(runtime=tmp_path), print)
    [record] = bench([bundle], device=found, recipe=QUICK)
    assert record["complete"]
    assert (record["where"], record["p50_ms"]) == ("adb:PHONE", 2.0)
    assert record["settings"]["decode"]["num_beams"] == 1
    assert record["device"]["phone"]["model"] == "Pixel 9"
    reversed_ports = [words for words in phone.log() if words[0] == "reverse"]
    assert len(reversed_ports) == 2
    assert reversed_ports[1][1] == "--remove"


@pytest.mark.parametrize(
    ("state", "words"), [("unauthorized", "allow debugging"), ("gone", "not found")]
)
def test_a_phone_that_is_not_ready_is_named(
    phone: Phone, bundle: Path, state: str, words: str
) -> None:
    (phone.root / "state").write_text(state)
    with pytest.raises(ArtifactError, match=words):
        bench([bundle], device=device(), recipe=QUICK)


def test_a_full_phone_is_said_in_a_line(phone: Phone, bundle: Path) -> None:
    phone.program("tar", "echo 'tar: write error: No space left on device' >&2; exit 1")
    with pytest.raises(ArtifactError, match=r"adb:PHONE: .*No space left"):
        bench([bundle], device=device(), recipe=QUICK)
    assert phone.left() == []


def test_without_adb_or_a_serial_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for serial in ("", "-s", "a b", "a;ls"):
        with pytest.raises(UsageError, match="serial"):
            AdbDevice(serial, WebSettings(), print)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingExtraError, match="adb is not installed"):
        device()


def test_a_service_that_tells_nothing_is_no_error() -> None:
    assert parse_thermal("Can't find service: thermalservice") == {}
    assert parse_battery("") == {}
