"""Values as a reader wants to see them: units, as many digits as mean something, no nulls."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "EMPTY",
    "bundle_name",
    "count",
    "duration",
    "facts",
    "megabytes",
    "number",
    "plain",
    "score",
    "share",
    "timed",
]

EMPTY = "–"
_DIGEST = 16  # digits of a sha256 that tell two files apart on a page

_TARGETS = {
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "coreml": "Core ML",
    "executorch": "ExecuTorch",
}
_TIMED = {
    "caption": "a caption",
    "vqa": "an answer",
    "retrieval": "a match",
    "nlvr2": "a judgement",
}
_LABELS = {
    "isa": "instruction sets",
    "os": "operating system",
    "cpu": "processor",
    "arch": "architecture",
    "gemm_gflops": "float32 product, GFLOP/s",
    "copy_gb_per_s": "memory copy, GB/s",
    "temperature_c": "temperature, °C",
}


def bundle_name(key: str, row: Mapping[str, Any]) -> str:
    """Target and precision, and what else the key says: onnx-small is ONNX Runtime small INT8."""
    target, _, rest = key.partition("-")
    precision = str(row.get("precision") or "")
    words = [_TARGETS.get(target, target), "" if rest == precision else rest, precision.upper()]
    return " ".join(word for word in words if word)


def timed(record: Mapping[str, Any]) -> str:
    """What a record's milliseconds and joules are of; those that do not say are of captions."""
    task = str(record.get("settings", {}).get("task", "caption"))
    return _TIMED.get(task, task)


def number(value: Any, digits: int = 3) -> str:
    """A number with `digits` significant digits, or the dash when there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return EMPTY
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}"  # zeros at the end are digits too: 5.90 beside 6.21


def score(value: Any) -> str:
    """A metric times 100, with one decimal as the field writes it."""
    return EMPTY if number(value) == EMPTY else f"{value:.1f}"


def share(value: Any) -> str:
    """A share of 1 as per cent."""
    return EMPTY if number(value) == EMPTY else f"{100 * value:.1f} %"


def megabytes(value: Any) -> str:
    """Bytes as megabytes (10^6), without the unit."""
    return EMPTY if number(value) == EMPTY else number(value / 1e6)


def count(value: Any) -> str:
    """A large count, such as parameters, in thousands or millions."""
    if number(value) == EMPTY:
        return EMPTY
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:,}"


def duration(seconds: Any) -> str:
    """Seconds as words: 4.2 s, 3 min 20 s, 1 h 5 min."""
    if number(seconds) == EMPTY:
        return EMPTY
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plain(value: Any) -> str:
    """Any JSON value in one line."""
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return " · ".join(f"{_label(key)} {_value(key, item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value)
    return str(value)


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of every value that is known."""
    known = {key: value for key, value in values.items() if value not in (None, "", [], {}, ())}
    return [(_label(key), _value(key, value)) for key, value in known.items()]


def _label(key: str) -> str:
    return _LABELS.get(key) or key.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")


def _value(key: str, value: Any) -> str:
    if key.endswith("_bytes") and number(value) != EMPTY:
        return f"{number(value / 1e9)} GB" if value >= 1e9 else f"{megabytes(value)} MB"
    if (key == "seconds" or key.endswith("_seconds")) and number(value) != EMPTY:
        return duration(value)
    if key.endswith("sha256") and isinstance(value, str) and len(value) > _DIGEST:
        return f"{value[:_DIGEST]}…"
    return plain(value)
