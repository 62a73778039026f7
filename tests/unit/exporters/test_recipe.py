import pytest

from blip_edge.errors import UsageError
from blip_edge.exporters import ExportRecipe
from blip_edge.recipe import as_toml, load


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("opset=21", "opset must be 18 to 20"),
        ("rows=-1", "rows must not be negative"),
        ("text_length=-1", "text_length must not be negative"),
        ("ios=16", "ios must be 17 or 18"),
        ("multifunction=true", r"multifunction needs ios 18 \(--set ios=18\), got 17"),
        ("activations=fp16", "activations"),
        ("encoders=coreml", "encoders"),
        ("palette_bits=5", "palette_bits must be 0, 4 or 6"),
        ("golden=0", "golden must be at least 1"),
        ("teacher_forced=1", "teacher_forced must be at least 2"),
        ("gate_items=-1", "gate_items must not be negative"),
        ("metric_share=1.5", "metric_share must be over 0 and at most 1"),
        ("max_abs_diff=0.0", "max_abs_diff must be positive"),
        ("precision=int4", "precision"),
        ("presicion=int8", "did you mean 'precision'"),
    ],
)
def test_a_value_that_makes_no_sense_is_a_usage_error(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(ExportRecipe, "exporters", None, [override])


def test_every_key_is_documented() -> None:
    lines = as_toml(ExportRecipe).splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0] != "#"]
    assert keys and all(lines[number - 1].startswith("# ") for number in keys)
