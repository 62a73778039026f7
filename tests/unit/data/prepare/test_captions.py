"""COCO, Flickr30k and nocaps, from each of the formats that they are published in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import CaptionRow, check
from blip_edge.errors import ArtifactError
from tests.unit.data.prepare.conftest import Prepare, Write, skipped


def karpathy(number: int, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    sentences = [
        {"raw": text, "tokens": text.split(), "imgid": number, "sentid": 5 * number + place}
        for place, text in enumerate(captions)
    ]
    return {"imgid": number, "split": split, "sentences": sentences, **more}


def coco_image(number: int, split: str, *captions: str) -> dict[str, Any]:
    where = {"filepath": "val2014", "filename": f"COCO_val2014_{number:012d}.jpg"}
    return karpathy(number, split, *captions, cocoid=number, **where)


KARPATHY = {
    "dataset": "coco",
    "images": [
        coco_image(391895, "test", "A man with a red helmet on a moped.", "Man riding a bike."),
        coco_image(60623, "restval", "A young girl inhales a candle.", "A girl blowing."),
        coco_image(483108, "train", "A man on a bicycle."),
        coco_image(384213, "val", "A wooden kitchen.", "A stove and microwave."),
    ],
}


def test_karpathys_coco_becomes_blips_rows(write: Write, prepared: Prepare) -> None:
    data = prepared("coco", write("dataset_coco.json", KARPATHY))
    girl = "val2014/COCO_val2014_000000060623.jpg"
    assert data.captions("train") == [
        CaptionRow(girl, ("A young girl inhales a candle.",), "coco_60623"),
        CaptionRow(girl, ("A girl blowing.",), "coco_60623"),
        CaptionRow(
            "val2014/COCO_val2014_000000483108.jpg", ("A man on a bicycle.",), "coco_483108"
        ),
    ]
    test = data.captions("test")
    assert [row.image_id for row in test] == ["391895"]  # as results files name it
    assert test[0].captions[1] == "Man riding a bike."
    assert data.counts == {"caption_test": 1, "caption_train": 3, "caption_val": 1}
    assert "CC BY 4.0" in data.license
    assert skipped(data) == []


def test_pictures_are_linked_and_found_wherever_they_lie(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    root = pictures(
        "val2014/COCO_val2014_000000391895.jpg",
        "a/deep/COCO_val2014_000000060623.jpg",
        "train2017/000000483108.jpg",  # the same picture, as it is named since 2017
        "train2017/000000384213.jpg",
    )
    data = prepared("coco", write("dataset_coco.json", KARPATHY), images=root)
    assert (data.folder / "images").is_symlink()
    assert [row.image for row in data.captions("train")][1:] == [
        "a/deep/COCO_val2014_000000060623.jpg",
        "train2017/000000483108.jpg",
    ]
    assert check(data).ok


def test_missing_pictures_are_listed_and_too_many_stop(
    write: Write, prepared: Prepare, pictures: Callable[..., Path], tmp_path: Path
) -> None:
    source = write("dataset_coco.json", KARPATHY)
    root = pictures("val2014/COCO_val2014_000000483108.jpg", "000000391895.jpg", "000000384213.jpg")
    with pytest.raises(ArtifactError, match=r"1 of 2 entries.*max-bad.*no picture .*60623\.jpg"):
        prepared("coco", source, images=root)
    assert not (tmp_path / "data").exists()
    data = prepared("coco", source, images=root, max_bad=0.5)
    assert [row.image_id for row in data.captions("train")] == ["coco_483108"]
    assert len(skipped(data)) == 1
    assert "60623.jpg" in skipped(data)[0]


def test_two_pictures_of_one_name_are_not_guessed(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    name = "COCO_val2014_000000483108.jpg"
    source = write("dataset_coco.json", {"images": [KARPATHY["images"][2]]})
    with pytest.raises(ArtifactError, match="2 files could be the picture"):
        prepared("coco", source, images=pictures(f"a/{name}", f"b/{name}"))
    data = prepared("coco", source, images=pictures(f"below/val2014/{name}"))
    assert data.captions("train")[0].image == f"below/val2014/{name}"


def test_a_picture_linked_from_elsewhere_is_not_used(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    root = pictures("val2014/other.jpg")
    name = "COCO_val2014_000000483108.jpg"
    (root.parent / name).write_bytes((root / "val2014/other.jpg").read_bytes())
    (root / "val2014" / name).symlink_to(root.parent / name)
    with pytest.raises(ArtifactError, match="leaves the folder"):
        prepared("coco", write("a.json", {"images": [KARPATHY["images"][2]]}), images=root)


def test_cocos_own_captions(write: Write, prepared: Prepare, pictures: Callable[..., Path]) -> None:
    train = {
        "info": {"year": 2014},
        "licenses": [],
        "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "license": 3}],
        "annotations": [
            {"image_id": 9, "id": 1, "caption": "Two trays of food.\n"},
            {"image_id": 9, "id": 2, "caption": "A box of fruit."},
        ],
    }
    val = {
        "images": [{"id": 139, "file_name": "000000000139.jpg"}],
        "annotations": [{"image_id": 139, "id": 3, "caption": "A room."}],
    }
    sources = [write("captions_train2014.json", train), write("captions_val2017.json", val)]
    data = prepared("coco", sources)
    image = "train2014/COCO_train2014_000000000009.jpg"
    assert data.captions("train") == [
        CaptionRow(image, ("Two trays of food.",), "coco_9"),
        CaptionRow(image, ("A box of fruit.",), "coco_9"),
    ]
    assert data.captions("val") == [CaptionRow("val2017/000000000139.jpg", ("A room.",), "139")]


def test_blips_own_rows_of_coco(write: Write, prepared: Prepare) -> None:
    image = "val2014/COCO_val2014_000000522418.jpg"
    train = [{"caption": "A woman in a net", "image": image, "image_id": "coco_522418"}]
    test = [{"image": image, "caption": ["one", "two"]}]
    write("coco_karpathy_train.json", train)
    folder = write("coco_karpathy_test.json", test).parent
    write("coco_karpathy_test_gt.json", {"images": [{"id": 522418}], "annotations": []})
    data = prepared("coco", folder)  # of a folder the official names are taken
    assert data.captions("train") == [CaptionRow(image, ("A woman in a net",), "coco_522418")]
    assert data.captions("test") == [CaptionRow(image, ("one", "two"), "522418")]


def test_flickr30k(write: Write, prepared: Prepare, pictures: Callable[..., Path]) -> None:
    images = [
        karpathy(0, "train", "Two young guys.", filename="1000092795.jpg"),
        karpathy(1, "test", "Some men.", "They work.", filename="10002456.jpg"),
    ]
    root = pictures("flickr30k-images/1000092795.jpg", "flickr30k-images/10002456.jpg")
    source = write("dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    data = prepared("flickr30k", source, images=root)
    assert data.captions("train")[0].image == "flickr30k-images/1000092795.jpg"
    assert data.captions("train")[0].image_id == "flickr30k_0"
    assert data.captions("test")[0].captions == ("Some men.", "They work.")
    assert check(data).ok


def test_nocaps_keeps_the_domains(write: Write, prepared: Prepare) -> None:
    image = {"id": 0, "open_images_id": "0013ea2087020901", "file_name": "0013ea2087020901.jpg"}
    val = {
        "images": [{**image, "coco_url": "", "domain": "near-domain"}],
        "annotations": [
            {"image_id": 0, "id": 0, "caption": "A baby is standing."},
            {"image_id": 0, "id": 1, "caption": "A toddler."},
        ],
    }
    sources = [
        write("nocaps_val_4500_captions.json", val),
        write("nocaps_test_image_info.json", {"images": [image]}),
    ]
    data = prepared("nocaps", sources)
    said = ("A baby is standing.", "A toddler.")
    assert data.captions("val") == [CaptionRow("0013ea2087020901.jpg", said, "0", "near-domain")]
    assert data.captions("test") == [CaptionRow("0013ea2087020901.jpg", (), "0")]


def test_captions_that_cleaning_empties_are_left_out(write: Write, prepared: Prepare) -> None:
    images = [coco_image(1, "val", "A cat.", " ...! "), coco_image(2, "train", "A dog.", "()")]
    data = prepared("coco", write("dataset_coco.json", {"images": images}), max_bad=1)
    assert data.captions("val")[0].captions == ("A cat.",)
    assert [row.captions for row in data.captions("train")] == [("A dog.",)]
    assert [reason.count("empty after cleaning") for reason in skipped(data)] == [1, 1]
    assert "row 0, sentences 1" in skipped(data)[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"split": None}, 'images: row 0 has no "split"'),
        ({"split": "tests"}, '"split" is none of train'),
        ({"filename": None}, 'images: row 0 has no "filename"'),
        ({"sentences": []}, "nothing is said"),
        ({"sentences": [{"raw": False}]}, 'sentences 0: "raw" holds False'),
        ({"filename": "../../../etc/passwd"}, "leaves the folder"),
    ],
)
def test_what_a_picture_lacks_is_named(
    write: Write, prepared: Prepare, change: dict[str, Any], complaint: str
) -> None:
    source = write("dataset_coco.json", {"images": [{**coco_image(1, "val", "A cat."), **change}]})
    with pytest.raises(ArtifactError, match=r"dataset_coco\.json") as caught:
        prepared("coco", source)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("dataset_coco.json", '{"images": [{"split": "tr', "not valid JSON"),
        ("dataset_coco.json", {"dataset": "coco"}, "is none of: Karpathy's JSON"),
        ("dataset_coco.json", {"images": {}}, '"images" holds {}, not a list'),
        ("dataset_coco.json", {"images": []}, "no usable entry"),
        ("rows.json", [{"image": "a.jpg", "caption": "a"}], "does not say which split"),
        ("captions_val2014.json", {"images": [], "annotations": 3}, "not a list"),
    ],
)
def test_files_of_another_format_are_named(
    write: Write, prepared: Prepare, tmp_path: Path, name: str, content: Any, complaint: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        prepared("coco", write(name, content))
    assert complaint in str(caught.value)
    assert list(tmp_path.glob("*data*")) == []


def test_two_sources_of_one_split_are_refused(write: Write, prepared: Prepare) -> None:
    rows = [{"image": "a.jpg", "caption": ["a"]}]
    with pytest.raises(ArtifactError, match=r"two sources make caption_val\.json"):
        prepared("coco", [write("my_val.json", rows), write("other_val.json", rows)])
