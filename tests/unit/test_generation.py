from typing import Any

import pytest

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation

IDS: dict[str, Any] = {"bos_token_id": 30522, "eos_token_id": 102, "pad_token_id": 0}


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 5, "early_stopping": "never", "prompt": "a photo of "},
        {"num_beams": 5, "num_return_sequences": 5, "top_k": 50},
        {"num_beams": 1, "do_sample": True, "top_p": 0.9, "num_return_sequences": 4},
        {"num_beams": 1, "do_sample": True, "top_k": 3, "temperature": 0.7},
    ],
)
def test_a_document_comes_back(settings: dict[str, Any]) -> None:
    generation = Generation(**IDS, **settings)
    assert Generation.from_json(generation.to_json(), source="x") == generation


def test_defaults_are_blips() -> None:
    generation = Generation.from_json({**IDS, "num_beams": None, "typical_p": 0.9}, source="x")
    assert (generation.num_beams, generation.min_length, generation.max_length) == (3, 5, 20)
    assert generation.prompt == "a picture of "
    assert generation == Generation(**IDS)


def test_documents_from_before_sampling_and_from_hugging_face_are_read() -> None:
    old = {"num_beams": 3, "min_length": 5, "max_length": 20, "length_penalty": 1.0}
    old |= {"early_stopping": False, "repetition_penalty": 1.0}
    generation = Generation.from_json({**IDS, **old, "prompt": "a picture of "}, source="x")
    assert generation == Generation(**IDS)
    assert not generation.do_sample
    theirs = {"do_sample": False, "top_k": 50, "top_p": 1, "transformers_version": "5.0.0"}
    generation = Generation.from_json({**IDS, **theirs}, source="x")
    assert (generation.do_sample, generation.top_k, generation.num_beams) == (False, 50, 3)
    assert isinstance(generation.top_p, float)


def test_top_k_is_written_where_it_says_something() -> None:
    assert "top_k" not in Generation(**IDS).to_json()
    assert Generation(**IDS, top_k=50).to_json()["top_k"] == 50
    assert Generation(**IDS, num_beams=1, do_sample=True).to_json()["top_k"] == 0


def test_rows_of_a_picture_are_its_beams_or_its_drawn_captions() -> None:
    assert Generation(**IDS, num_beams=4, num_return_sequences=2).rows == 4
    assert Generation(**IDS, num_beams=1).rows == 1
    assert Generation(**IDS, num_beams=1, do_sample=True, num_return_sequences=5).rows == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eos_token_id": None}, "eos_token_id"),
        ({"eos_token_id": [102, 103]}, "eos_token_id must be a whole number"),
        ({"num_beams": True}, "num_beams must be a whole number"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"length_penalty": "long"}, "length_penalty must be a number"),
        ({"early_stopping": "sometimes"}, "early_stopping is true, false"),
        ({"early_stopping": 1}, "early_stopping is true, false"),
        ({"length_penalty": 400}, "length_penalty 400.0 is too large for captions of 20 tokens"),
        ({"length_penalty": -400}, "length_penalty -400.0 is too large"),
        ({"length_penalty": float("nan")}, "length_penalty must be finite"),
        ({"length_penalty": -float("inf")}, "length_penalty must be finite"),
        ({"repetition_penalty": 0}, "repetition_penalty must be more than 0"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty must be more than 0 and finite"),
        ({"prompt": 3}, "prompt must be text"),
        ({"do_sample": 1}, "do_sample must be true or false"),
        ({"do_sample": True}, "do_sample goes with num_beams 1, not 3"),
        ({"temperature": 0}, "temperature must be more than 0"),
        ({"temperature": float("inf")}, "temperature must be more than 0 and finite"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"top_k": -1}, "top_k must not be negative"),
        ({"top_k": 2.5}, "top_k must be a whole number"),
        ({"top_p": 0}, "top_p must be more than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p must be more than 0 and at most 1"),
        ({"top_p": float("nan")}, "top_p must be more than 0 and at most 1"),
        ({"num_return_sequences": 0}, "num_return_sequences must be at least 1"),
        ({"num_return_sequences": 4}, "num_return_sequences 4 is more than num_beams 3"),
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
    wrongs: list[dict[str, Any]] = [{"beams": 0}, {"max_length": 1}, {"min_length": -1}]
    for wrong in wrongs:
        with pytest.raises(UsageError):
            generation.override(**wrong)


def test_every_setting_but_the_ids_can_be_given() -> None:
    beams = Generation(**IDS).override(
        beams=4,
        captions=2,
        min_length=1,
        max_length=9,
        length_penalty=0.5,
        early_stopping=True,
        repetition_penalty=1.2,
        prompt="a photo of ",
    )
    assert beams == Generation(
        **IDS,
        num_beams=4,
        num_return_sequences=2,
        min_length=1,
        max_length=9,
        length_penalty=0.5,
        early_stopping=True,
        repetition_penalty=1.2,
        prompt="a photo of ",
    )
    drawn = beams.override(sample=True, captions=7, temperature=0.5, top_k=3, top_p=0.9)
    assert (drawn.do_sample, drawn.num_beams, drawn.num_return_sequences) == (True, 1, 7)
    assert (drawn.temperature, drawn.top_k, drawn.top_p) == (0.5, 3, 0.9)
    assert drawn.override(sample=False, beams=7).num_beams == 7
    assert drawn.override(top_p=0.5).top_p == 0.5
    assert beams.override(early_stopping=False).early_stopping is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_p": 0.9}, "top_p is for sampling; ask for sampling too"),
        ({"temperature": 0.9, "sample": False}, "temperature is for sampling"),
        ({"sample": True, "beams": 3}, "do_sample goes with num_beams 1, not 3"),
        ({"captions": 4}, "give more beams, or sample"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Generation(**IDS).override(**change)
