from typing import Any

import pytest

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation

IDS: dict[str, Any] = {"bos_token_id": 30522, "eos_token_id": 102, "pad_token_id": 0}


def test_a_document_comes_back() -> None:
    generation = Generation(**IDS, num_beams=5, early_stopping="never", prompt="a photo of ")
    assert Generation.from_json(generation.to_json(), source="x") == generation


def test_defaults_are_blips() -> None:
    generation = Generation.from_json({**IDS, "num_beams": None, "top_p": 0.9}, source="x")
    assert (generation.num_beams, generation.min_length, generation.max_length) == (3, 5, 20)
    assert generation.prompt == "a picture of "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eos_token_id": None}, "eos_token_id"),
        ({"eos_token_id": [102, 103]}, "eos_token_id must be a whole number"),
        ({"num_beams": True}, "num_beams must be a whole number"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"length_penalty": "long"}, "length_penalty must be a number"),
        ({"early_stopping": "sometimes"}, "early_stopping is true, false"),
        ({"repetition_penalty": 0}, "repetition_penalty must be more than 0"),
        ({"prompt": 3}, "prompt must be text"),
    ],
)
def test_a_wrong_document_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=f"generation.json: .*{message}"):
        Generation.from_json({**IDS, **change}, source="generation.json")


def test_what_is_given_replaces_what_was_saved() -> None:
    generation = Generation(**IDS)
    assert generation.override() == generation
    assert generation.override(beams=1, min_length=0).num_beams == 1
    assert generation.override(beams=1, min_length=0).min_length == 0
    with pytest.raises(UsageError, match="min_length 5 is more than max_length 4"):
        generation.override(max_length=4)
    for wrong in ({"beams": 0}, {"max_length": 1}, {"min_length": -1}):
        with pytest.raises(UsageError):
            generation.override(**wrong)
