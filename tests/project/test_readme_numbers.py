"""The figures in README.md are those of the committed record of a run."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readme_says_what_the_recorded_run_said() -> None:
    path = ROOT / "benchmarks" / "quickstart_table.py"
    spec = importlib.util.spec_from_file_location("quickstart_table", path)
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    record, seeds = (
        json.loads(path.read_text(encoding="utf-8")) for path in (program.RECORD, program.SEEDS)
    )
    readme = program.README.read_text(encoding="utf-8")
    assert program.with_tables(readme, record, seeds) == readme
    assert f"{record['stages']['teacher']['parameters']:,}" in readme
