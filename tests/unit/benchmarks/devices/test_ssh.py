"""Another machine: a real sshd on the loopback, with keys and a home folder of its own."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from blip_edge.artifact import read_json
from blip_edge.benchmarks import BenchRecipe, Record, bench
from blip_edge.benchmarks.devices.remote_shell import Address
from blip_edge.benchmarks.devices.ssh import SshDevice
from blip_edge.benchmarks.job import Job
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.progress import SILENT
from blip_edge.runtime.asked import Asked
from tests.unit.benchmarks.toy_bundle import write_toy

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
QUICK = BenchRecipe(runs=4, warmup=1, seconds=0.0, burst=2, loads=1)
LONG = BenchRecipe(runs=10**6, warmup=0, seconds=0.0, burst=1, loads=1)


@dataclass
class Host:
    """A machine that ssh reaches at `address`; `bin` comes first in its PATH."""

    address: str
    bin: Path
    process: "subprocess.Popen[bytes]"

    def device(self) -> SshDevice:
        return SshDevice(self.address)

    def script(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def hang_up(self) -> None:
        """Cut the connections that are open, not the server."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture
def host(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd; on Debian and Ubuntu: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    home, there = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    there.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "authorized").write_text((keys / "user.pub").read_text())
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys / 'host'}\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path / 'authorized'}\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\n"
        f"SetEnv PATH={there}:/usr/bin:/bin HOME={home}\n"
    )
    known = f"[127.0.0.1]:{port} {(keys / 'host.pub').read_text()}"
    (tmp_path / "known").write_text(known)
    (tmp_path / "ssh_config").write_text(
        f"IdentityFile {keys / 'user'}\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {tmp_path / 'known'}\n"
    )
    # A user has a key and known hosts in ~/.ssh; here they come by a configuration of our own.
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "ssh").write_text(
        f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path / "ssh_config"} "$@"\n'
    )
    (ours / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{ours}:{os.environ['PATH']}")
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=log)
    found = Host(f"{getpass.getuser()}@127.0.0.1:{port}", there, process)
    found.script("python3", f'exec {sys.executable} "$@"')
    try:
        _wait_for(port)
        yield found
    finally:
        found.hang_up()
        process.terminate()
        process.wait()
        log.close()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return write_toy(tmp_path / "toy's $(touch pwned)")


def left_behind() -> set[Path]:
    return {
        path
        for base in ("/tmp", "/var/tmp")
        for path in Path(base).glob(f"blip-edge-{'[0-9a-f]' * 16}")
    }


def workers_of(device: SshDevice) -> list[list[str]]:
    """Command lines of processes that still work in the device's folder."""
    found = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [words for words in found if any(device.folder in word for word in words)]


def test_a_bundle_is_timed_there_and_nothing_stays(host: Host, bundle: Path) -> None:
    before = left_behind()
    device = host.device()
    [record] = bench([bundle], device=device, recipe=QUICK, threads=1)
    assert record["where"] == device.name
    assert record["complete"]
    assert record["name"] == bundle.name
    assert len(record["samples"]["total_ms"]) == 4
    assert record["settings"]["image_files"] == ["a.png", "b.png"]
    assert record["settings"]["threads"] == 1
    assert record["device"]["peaks"]["gemm_gflops"] > 0
    assert record["peak_memory_bytes"] is not None
    assert record["others"] is not None
    assert left_behind() == before
    [row] = read_json(bundle / "manifest.json")["latency"]
    assert row["where"] == device.name


def test_a_lost_connection_leaves_what_was_measured(host: Host, bundle: Path) -> None:
    before = left_behind()
    device = host.device()
    found: list[Record] = []
    work = threading.Thread(
        target=lambda: found.extend(bench([bundle], device=device, recipe=LONG, threads=1))
    )
    work.start()
    for _ in range(600):
        if device.collect().answers > 3:
            break
        time.sleep(0.05)
    host.hang_up()
    work.join(30)
    [record] = found
    assert not record["complete"]
    assert len(record["samples"]["total_ms"]) > 3
    assert record["p50_ms"] is not None
    assert any("connection was lost" in note for note in record["notes"])
    assert any("incomplete" in note for note in record["notes"])
    for _ in range(100):  # the runner there ends when it can no longer tell
        if left_behind() == before:
            break
        time.sleep(0.05)
    assert left_behind() == before, "a second connection tidies up after the first"
    for _ in range(100):
        if not workers_of(device):
            break
        time.sleep(0.05)
    assert not workers_of(device), "no process goes on timing for nobody"


def test_a_full_disk_there_is_said_in_a_line(host: Host, bundle: Path) -> None:
    host.script("tar", "echo 'tar: vision.onnx: Cannot write: No space left on device' >&2; exit 2")
    with pytest.raises(ArtifactError, match=r"the disk is full there: tar: vision\.onnx"):
        bench([bundle], device=host.device(), recipe=QUICK)
    host.script("df", "echo head; echo 'disk 9 9 1 99% /'")
    with pytest.raises(ArtifactError, match=r"disk is full there: .* MB are needed"):
        bench([bundle], device=host.device(), recipe=QUICK)


def test_a_python_without_the_engine_gets_an_environment(host: Host, bundle: Path) -> None:
    """What is installed is left to pip; here it is a stand-in that links the engine's Python."""
    log = host.bin / "log"
    host.script(
        "python3",
        'if [ "$1" = -m ] && [ "$2" = venv ]; then\n'
        '  mkdir -p "$3/bin"\n'
        "  printf '#!/bin/sh\\n"
        '[ "$1 $2" = "-m pip" ] && echo "$@" >>' + str(log) + " && exit 0\\n"
        f'exec {sys.executable} "$@"\\n\' >"$3/bin/python"\n'
        '  chmod +x "$3/bin/python"\n'
        "else\n"
        f'  exec {sys.executable} -S "$@"\n'
        "fi",
    )
    job = Job(bundles=(bundle,), asked=(Asked((bundle / "golden" / "a.png",)),), recipe=QUICK)
    for _ in range(2):
        device = host.device()
        device.prepare(job, SILENT)
        device.clean()
    [installed] = log.read_text().splitlines()
    assert "onnxruntime>=" in installed and "numpy>=" in installed, "the second run finds it there"


def test_an_old_python_there_is_named(host: Host, bundle: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        host.script(name, "exit 1")
    with pytest.raises(MissingExtraError, match=r"no Python from 3\.11 on"):
        bench([bundle], device=host.device(), recipe=QUICK)


def test_a_damaged_bundle_does_not_travel(host: Host, bundle: Path) -> None:
    with (bundle / "tokenizer.json").open("a") as file:
        file.write(" ")
    host.script("mkdir", f"echo was here >{host.bin / 'log'}; exit 1")
    with pytest.raises(ArtifactError, match="changed after export"):
        bench([bundle], device=host.device(), recipe=QUICK)
    assert not (host.bin / "log").exists()


def test_a_host_that_is_not_there_is_said_in_a_line(bundle: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("no ssh")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ArtifactError, match="Connection refused"):
        bench([bundle], device=SshDevice(f"127.0.0.1:{port}"), recipe=QUICK)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pi", ["--", "pi"]),
        ("pi@board.local:2222", ["-p", "2222", "-l", "pi", "--", "board.local"]),
        ("[::1]:22", ["-p", "22", "--", "::1"]),
    ],
)
def test_addresses(text: str, words: list[str]) -> None:
    assert Address.parse(text).words() == words


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=touch x", "a@-b", "a b", "host:0", "host:99999", "h;ls", "a@b@c"]
)
def test_what_is_no_address_never_reaches_ssh(text: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        Address.parse(text)


def test_without_ssh_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingExtraError, match="openssh-client"):
        SshDevice("pi")


def test_the_runner_holds_all_that_it_needs(tmp_path: Path) -> None:
    """The package in the zip is the whole package there: what is not in it cannot be imported."""
    from blip_edge.benchmarks.devices.baggage import _runner

    path = tmp_path / "runner.zip"
    path.write_bytes(_runner())
    program = (
        "import json, sys, blip_edge.benchmarks.runner, blip_edge.benchmarks.worker\n"
        "import blip_edge.runtime.load, blip_edge.runtime.onnx, blip_edge.runtime.openvino\n"
        "ours = [m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'blip_edge']\n"
        "print(json.dumps([ours, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    files, torch = json.loads(done.stdout)
    assert files and all(file.startswith(str(path)) for file in files)
    assert not torch
