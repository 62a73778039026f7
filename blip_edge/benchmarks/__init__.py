"""Measuring: what a caption costs, what this machine can do, and the page that says so.

    records = bench([Path("model.onnx")], recipe=BenchRecipe(runs=64))
    save(records, Path("latency.json"))
    report_run(Path("run"), Path("report.html"))

Nothing here knows torch; bundles are opened by `blip_edge.runtime` in processes of their own.
"""

from blip_edge.benchmarks.doctor import Check, Doctor, doctor
from blip_edge.benchmarks.gate import gate
from blip_edge.benchmarks.machine import Machine, Peaks, machine, peaks
from blip_edge.benchmarks.measuring import bench, save
from blip_edge.benchmarks.records import SCHEMA_VERSION, BenchRecipe, Record
from blip_edge.benchmarks.report import report, report_run
from blip_edge.benchmarks.stats import Ratio, Stats, ratio, summarise

__all__ = [
    "SCHEMA_VERSION",
    "BenchRecipe",
    "Check",
    "Doctor",
    "Machine",
    "Peaks",
    "Ratio",
    "Record",
    "Stats",
    "bench",
    "doctor",
    "gate",
    "machine",
    "peaks",
    "ratio",
    "report",
    "report_run",
    "save",
    "summarise",
]
