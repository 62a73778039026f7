"""The examples that nothing here can build ask for what they need."""

import re
import tomllib
from itertools import pairwise

from blip_edge.benchmarks.profiles import profile
from tests.project.test_readme_numbers import ROOT

EXAMPLES = ROOT / "examples"


def test_every_example_has_an_onnx_runtime_that_opens_every_bundle() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (least,) = (text for text in project["dependencies"] if text.startswith("onnxruntime>="))
    needed = _version(least)
    assert needed >= (1, 23), "before 1.23 GatherBlockQuantized has no `bits`"
    for example in ("android/Caption.kt", "node/package.json", "web/package.json"):
        (line,) = (
            line
            for line in (EXAMPLES / example).read_text().splitlines()
            if re.search(r"onnxruntime-\w+\W+\d", line)
        )
        assert _version(line) >= needed, example


def test_the_preset_gives_swift_what_it_feeds_when_the_flag_is_said() -> None:
    assert 'features(["pixel_values": ' in (EXAMPLES / "ios" / "Caption.swift").read_text()
    (line,) = (
        line
        for line in (EXAMPLES / "README.md").read_text().splitlines()
        if "--preset iphone-ane" in line
    )
    said = [value for flag, value in pairwise(line.split()) if flag == "--set"]
    assert profile("iphone-ane").export_keys()["image_input"] is True, "then the flag can go"
    assert said == ["image_input=false"]


def _version(text: str) -> tuple[int, ...]:
    found = re.search(r"(\d+)\.(\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2])
