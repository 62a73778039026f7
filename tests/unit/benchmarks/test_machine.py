"""The facts of the machine that the tests run on."""

import json
import subprocess
import sys

from blip_edge.benchmarks.machine import cores, installed, machine, peaks


def test_facts_are_known_and_plain() -> None:
    facts = machine()
    assert facts.cpu
    assert facts.arch
    assert facts.cores == cores() >= 1
    assert facts.memory_bytes > 1 << 20
    assert facts.packages["numpy"]
    assert facts.peaks is None
    assert json.loads(json.dumps(facts.to_json()))["cpu"] == facts.cpu


def test_peaks_are_plausible() -> None:
    measured = peaks(seconds=0.0)
    assert 0.05 < measured.gemm_gflops < 1e6
    assert 0.05 < measured.copy_gb_per_s < 1e5


def test_what_is_not_installed_is_left_out() -> None:
    assert installed(("numpy", "no-such-package-here")).keys() == {"numpy"}


def test_no_engine_is_imported_to_ask_for_its_version() -> None:
    code = (
        "import sys; from blip_edge.benchmarks import doctor, machine; machine();"
        "doctor(measure=False);"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'coremltools', 'matplotlib', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
