"""Four pictures of a colour each, and every task's rows about them."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.data import Dataset
from tests.unit.evaluation.rule import COLOURS


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Four pictures of a colour each, and every task's rows about them."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (6, 4), colour).save(folder / "images" / f"{colour}.png")
    write(folder, "dataset.json", {"name": "four", "version": "1", "license": "CC0-1.0"})
    write(
        folder,
        "caption_test.json",
        [{"image": f"{c}.png", "caption": [f"a {c} one", f"all {c}"]} for c in COLOURS],
    )
    write(
        folder,
        "vqa_test.json",
        [
            {"question_id": n, "image": f"{c}.png", "question": "what is it?", "answer": [c] * 10}
            for n, c in enumerate(COLOURS)
        ],
    )
    write(
        folder,
        "nlvr_test.json",
        [
            {
                "identifier": f"test-0-{n}-0",
                "sentence": "both are of one colour",
                "label": str(a == b),
                "images": [f"{a}.png", f"{b}.png"],
            }
            for n, (a, b) in enumerate([("red", "red"), ("red", "blue"), ("white", "green")])
        ],
    )
    write(
        folder,
        "pairs_test.json",
        [
            {"image": f"{c}.png", "text": f"a {d} thing", "label": int(c == d)}
            for c in COLOURS
            for d in COLOURS
        ],
    )
    write(
        folder,
        "attributes_test.json",
        {
            "images": [
                {"id": n, "width": 6, "height": 4, "file_name": f"{c}.png"}
                for n, c in enumerate(COLOURS)
            ],
            "categories": [{"id": 0, "name": "thing"}],
            "attributes": [
                {"id": 0, "name": "colour:red/crimson", "is_has_att": "is", "freq_set": "head"},
                {"id": 1, "name": "colour:green", "is_has_att": "is", "freq_set": "tail"},
            ],
            "annotations": [
                {
                    "id": n,
                    "image_id": n,
                    "bbox": [0.0, 0.0, 3.0, 2.0],
                    "category_id": 0,
                    "att_vec": [int(c == "red"), int(c == "green")],
                }
                for n, c in enumerate(COLOURS)
            ],
        },
    )
    return Dataset.open(folder)


@pytest.fixture
def talk(data: Dataset) -> Dataset:
    """Four dialogs of one round, of which two were judged."""
    dialogs = [
        {
            "image_id": n,
            "image": f"{c}.png",
            "caption": "something",
            "dialog": [{"question": 0, "answer": n, "answer_options": [0, 1, 2, 3], "gt_index": n}],
        }
        for n, c in enumerate(COLOURS)
    ]
    tables = {"questions": ["what colour is it"], "answers": COLOURS}
    write(
        data.folder, "visdial_test.json", {"version": "1.0", "data": {**tables, "dialogs": dialogs}}
    )
    dense = [
        {"image_id": n, "round_id": 1, "gt_relevance": [float(m == n) for m in range(4)]}
        for n in (0, 3)
    ]
    write(data.folder, "visdial_test_dense.json", dense)
    return data
