"""NLVR2, VisDial, OVAD, and the clips of MSRVTT and MSVD."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.data import ClipQuestionRow, ClipRow, SentenceRow, check
from blip_edge.errors import ArtifactError, UsageError
from tests.unit.data.prepare.conftest import Prepare, Write, skipped


def sentence(identifier: str, label: str = "True", **more: Any) -> dict[str, Any]:
    urls = {"left_url": "left", "right_url": "right", "writer": 9, "validation": {"3": label}}
    said = {"identifier": identifier, "sentence": "There are two dogs.", "label": label}
    return {**said, "synset": "dog", "query": "dogs", **urls, **more}


def test_nlvr2s_lines_end_in_json(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    write("train.json", [sentence("train-10171-0-0", directory=33)], lines=True)
    dev = [sentence("dev-850-0-0", "False"), sentence("dev-850-0-1")]
    write("dev.json", dev, lines=True)
    folder = write("test1.json", [sentence("test1-0-1-0")], lines=True).parent
    root = pictures(
        *(f"images/train/33/train-10171-0-img{side}.png" for side in (0, 1)),
        *(f"dev/dev-850-0-img{side}.png" for side in (0, 1)),
        *(f"test1/test1-0-1-img{side}.png" for side in (0, 1)),
    )
    data = prepared("nlvr2", folder, images=root)
    both = ("dev/dev-850-0-img0.png", "dev/dev-850-0-img1.png")
    assert data.sentences("dev") == [
        SentenceRow("dev-850-0-0", "There are two dogs.", False, both),
        SentenceRow("dev-850-0-1", "There are two dogs.", True, both),
    ]
    assert data.sentences("train")[0].images[0] == "images/train/33/train-10171-0-img0.png"
    assert data.sentences("test")[0].images[1] == "test1/test1-0-1-img1.png"
    assert check(data).ok


def test_nlvr2s_folders_and_blips_rows(write: Write, prepared: Prepare) -> None:
    official = write("train.json", [sentence("train-1-2-0", directory=4)], lines=True)
    row = {"sentence": "two dogs", "label": "False", "images": ["dev/a.png", "dev/b.png"]}
    data = prepared("nlvr2", [official, write("nlvr_dev.json", [row])])
    assert data.sentences("train")[0].images[0] == "train/4/train-1-2-img0.png"
    assert data.sentences("dev") == [SentenceRow("0", "two dogs", False, (*row["images"],))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (sentence("dev-850-0"), "row 1: \"identifier\" is 'dev-850-0', not split-set"),
        (sentence("dev-850-0-0", "true"), "row 1: \"label\" is 'true'"),
        ({"identifier": "dev-850-0-0", "label": "True"}, 'row 1 has no "sentence"'),
    ],
)
def test_nlvr2s_bad_rows_are_named(
    write: Write, prepared: Prepare, row: dict[str, Any], complaint: str
) -> None:
    source = write("dev.json", [sentence("dev-850-0-0"), row], lines=True)
    with pytest.raises(ArtifactError, match=r"nlvr_dev\.json: 1 of 2 .*dev\.json: ") as caught:
        prepared("nlvr2", source)
    assert complaint in str(caught.value)


def test_a_broken_line_is_named(write: Write, prepared: Prepare) -> None:
    source = write("dev.json", json.dumps(sentence("dev-850-0-0")) + '\n{"identif')
    with pytest.raises(ArtifactError, match=r"dev\.json: row 1 is not valid JSON"):
        prepared("nlvr2", source)


def visdial(*image_ids: int, split: str = "val") -> dict[str, Any]:
    asked = {"question": 1, "answer": 2, "answer_options": [0, 2, 1], "gt_index": 1}
    dialogs = [
        {"image_id": number, "caption": "a beach", "dialog": [dict(asked)]} for number in image_ids
    ]
    texts = {"questions": ["is it sunny", "how many"], "answers": ["yes", "no", "two"]}
    return {"version": "1.0", "split": split, "data": {**texts, "dialogs": dialogs}}


def test_visdial_names_its_pictures(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    write("visdial_1.0_val.json", visdial(185565))
    dense = [{"image_id": 185565, "round_id": 1, "gt_relevance": [0, 1, 0.4]}]
    write("visdial_1.0_val_dense_annotations.json", dense)
    folder = write("visdial_1.0_train.json", visdial(378466, 9, split="train")).parent
    root = pictures(
        "VisualDialog_val2018/VisualDialog_val2018_000000185565.jpg",
        "val2014/COCO_val2014_000000378466.jpg",
        "train2014/COCO_train2014_000000000009.jpg",
    )
    data = prepared("visdial", folder, images=root)
    (dialog,) = data.dialogs("val")
    assert dialog.image == "VisualDialog_val2018/VisualDialog_val2018_000000185565.jpg"
    assert dialog.rounds[0].relevance == (0.0, 1.0, 0.4)
    assert [dialog.image for dialog in data.dialogs("train")] == [
        "val2014/COCO_val2014_000000378466.jpg",
        "train2014/COCO_train2014_000000000009.jpg",
    ]
    assert check(data).ok


def test_visdials_bad_dialogs_are_listed(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    value = visdial(1, 2, 3)
    value["data"]["dialogs"][0]["dialog"][0]["gt_index"] = 3
    source = write("visdial_1.0_val.json", value)
    root = pictures(*(f"VisualDialog_val2018_00000000000{number}.jpg" for number in (1, 2)))
    with pytest.raises(ArtifactError, match=r"2 of 3 .*row 0, dialog 0: \"gt_index\""):
        prepared("visdial", source, images=root)
    data = prepared("visdial", source, images=root, max_bad=0.7)
    assert [dialog.image_id for dialog in data.dialogs("val")] == [2]
    assert "row 2: there is no picture" in skipped(data)[1]


@pytest.mark.parametrize("value", [visdial(1, split="test"), {"data": []}])
def test_visdial_that_cannot_be_used(write: Write, prepared: Prepare, value: Any) -> None:
    name = "visdial_1.0_test.json" if "version" in value else "visdial_1.0_val.json"
    with pytest.raises(ArtifactError, match=r"visdial_1\.0.*(hidden|not an object)"):
        prepared("visdial", write(name, value))


def ovad() -> dict[str, Any]:
    kinds = [{"id": 0, "name": "colour:red", "type": "colour", "is_has_att": "is"}]
    box = {"image_id": 139, "bbox": [1, 1, 2, 2], "category_id": 1, "att_vec": [1]}
    return {
        "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (139, 285)],
        "annotations": [{**box, "id": 1}, {**box, "id": 2, "image_id": 285, "att_vec": [-1]}],
        "attributes": [{**kind, "freq_set": "head"} for kind in kinds],
        "categories": [{"id": 1, "name": "person"}],
    }


def test_ovad(write: Write, prepared: Prepare, pictures: Callable[..., Path]) -> None:
    root = pictures("val2017/000000000139.jpg", "val2014/COCO_val2014_000000000285.jpg")
    source = write("ovad2000.json", ovad())
    data = prepared("ovad", source, images=root)
    attributes, boxes = data.boxes()
    assert attributes[0]["freq_set"] == "head"
    assert boxes[0].image == "val2017/000000000139.jpg"
    assert boxes[1].image == "val2014/COCO_val2014_000000000285.jpg"
    assert check(data).ok


def test_ovads_bad_boxes_are_listed(write: Write, prepared: Prepare) -> None:
    value = ovad()
    value["annotations"][0]["att_vec"] = [1, 0]
    with pytest.raises(ArtifactError, match=r"1 of 2 .*row 0: \"att_vec\" has 2 labels"):
        prepared("ovad", write("ovad2000.json", value))
    with pytest.raises(ArtifactError, match=r"is none of: OVAD's JSON"):
        prepared("ovad", write("ovad.json", {"images": []}))


@pytest.fixture
def clips(tmp_path: Path) -> Callable[..., Path]:
    """A folder of short animated pictures."""

    def clips(*names: str) -> Path:
        root = tmp_path / "clips"
        frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 120, 240)]
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            frames[0].save(root / name, save_all=True, append_images=frames[1:])
        return root

    return clips


def test_msrvtts_captions_and_questions(
    write: Write, prepared: Prepare, clips: Callable[..., Path]
) -> None:
    caption = {"clip_name": "video7020", "caption": "a woman creating a fondant baby"}
    asked = {"id": 158581, "video_id": 7020, "question": "what is she doing?", "answer": "cook"}
    sources = [
        write("msrvtt_test.jsonl", [caption], lines=True),
        write("test_qa.json", [{**asked, "category_id": 14}]),
    ]
    data = prepared("msrvtt", sources, images=clips("TestVideo/video7020.gif"))
    assert data.clips() == [ClipRow("TestVideo/video7020", caption["caption"])]
    assert data.clip_questions() == [
        ClipQuestionRow("158581", "TestVideo/video7020", "what is she doing?", "cook")
    ]
    assert (data.folder / "videos").is_symlink()
    assert check(data).ok


def test_msvds_questions_name_clips_by_number(
    write: Write, prepared: Prepare, clips: Callable[..., Path]
) -> None:
    asked = {"id": 30933, "video_id": 1301, "question": "what is a man doing?", "answer": "play"}
    names = write("youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\nmv89psg6zh4_33_46 vid1301\n")
    root = clips("mv89psg6zh4_33_46.gif")
    source = write("test_qa.json", [asked])
    data = prepared("msvd-qa", source, images=root, mapping=names)
    assert data.clip_questions()[0].clip == "mv89psg6zh4_33_46"
    with pytest.raises(ArtifactError, match=r"row 0: there is no clip vid1301 below"):
        prepared("msvd-qa", source, images=root, force=True)


def test_a_clip_may_be_named_with_its_ending(write: Write, prepared: Prepare) -> None:
    row = {"video_id": "video6513.mp4", "question": "what?", "answer": "man"}
    data = prepared("msrvtt", write("msrvtt_qa_val.jsonl", [row], lines=True))
    assert data.clip_questions("val") == [ClipQuestionRow("0", "video6513", "what?", "man")]


def test_options_that_do_not_fit(write: Write, prepared: Prepare, tmp_path: Path) -> None:
    source = write("ovad2000.json", ovad())
    with pytest.raises(UsageError, match="ovad takes no mapping; msvd-qa and cc do"):
        prepared("ovad", source, mapping=source)
    with pytest.raises(UsageError, match="max_bad"):
        prepared("ovad", source, max_bad=1.5)
    with pytest.raises(UsageError, match="min_answers"):
        prepared("vqa", source, min_answers=0)
    with pytest.raises(UsageError, match=r"no data set 'coca'; there are coco, "):
        prepared("coca", source)
    with pytest.raises(ArtifactError, match="nowhere is not a folder"):
        prepared("ovad", source, images=tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"gone\.json is missing"):
        prepared("ovad", tmp_path / "gone.json")
    with pytest.raises(ArtifactError, match=r"holds no nocaps_\*\.json"):
        prepared("nocaps", source.parent)
    with pytest.raises(UsageError, match="no annotation files"):
        prepared("ovad", [])
