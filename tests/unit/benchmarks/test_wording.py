"""Values as they are written on the page."""

from typing import Any

import pytest

from blip_edge.benchmarks import wording


@pytest.mark.parametrize(
    ("value", "words"),
    [(5.9, "5.90"), (11.25, "11.2"), (123.4, "123"), (1234.5, "1,234"), (7, "7"), (0.0, "0.00"),
     (1.4e-6, "1.40e-06"), (None, "–"), ("x", "–"), (True, "–")],
)  # fmt: skip
def test_number(value: Any, words: str) -> None:
    assert wording.number(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(5.94, "5.94 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (None, "–")]
)
def test_duration(value: Any, words: str) -> None:
    assert wording.duration(value) == words


def test_units() -> None:
    assert wording.megabytes(1_234_567) == "1.23"
    assert wording.count(4_812_345) == "4.81 M"
    assert wording.count(321) == "321"
    assert wording.share(0.9876) == "98.8 %"
    assert wording.score(395) == "395.0"


def test_facts_leave_out_what_is_unknown_and_name_the_rest() -> None:
    values = {
        "memory_bytes": 25_276_502_016,
        "isa": ["avx2", "fma"],
        "governor": None,
        "sha256": "ab" * 32,
        "seed": 0,
        "load_seconds": 90,
        "splits": {"train": 4000, "val": 12_000},
        "shuffled": False,
    }
    assert wording.facts(values) == [
        ("memory", "25.3 GB"),
        ("instruction sets", "avx2, fma"),
        ("sha256", "abababababababab…"),
        ("seed", "0"),
        ("load", "1 min 30 s"),
        ("splits", "train 4000 · val 12,000"),
        ("shuffled", "no"),
    ]
