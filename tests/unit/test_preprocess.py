"""Pixels as BLIP was trained on them, whatever the file, and one line for what is no picture."""

import json
import struct
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from blip_edge.errors import ArtifactError
from blip_edge.preprocess import MAX_PIXELS, Preprocess, open_image

SIZE = 24
# One rounding of float32 in the division and in the subtraction each.
CLOSE = 1e-6


def noise(width: int = 37, height: int = 20) -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels)


def drawn(mode: str) -> Image.Image:
    return noise().convert("RGB").convert(mode) if mode != "RGBA" else noise()


FILES = [
    ("RGB", "png"),
    ("RGBA", "png"),
    ("L", "png"),
    ("P", "png"),
    ("1", "png"),
    ("CMYK", "jpg"),
    ("RGB", "jpg"),
    ("P", "gif"),
    ("RGBA", "webp"),
]


@pytest.mark.parametrize(("mode", "ending"), FILES)
def test_pixels_are_those_of_blips_own_transform(mode: str, ending: str, tmp_path: Path) -> None:
    """Resize((S, S), bicubic), ToTensor, Normalize, on `Image.open(...).convert("RGB")`."""
    transforms = pytest.importorskip("torchvision.transforms")
    path = tmp_path / f"picture.{ending}"
    drawn(mode).save(path)
    preprocess = Preprocess(size=SIZE)
    reference = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    with Image.open(path) as image:
        expected = reference(image.convert("RGB")).numpy()
    got = preprocess([path])
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_allclose(got[0], expected, rtol=CLOSE, atol=CLOSE)
    assert got.std() > 0.1, "the picture is blank and shows no mistake"


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_grey_of_16_bits_is_seen_as_the_same_grey_of_8(ending: str, tmp_path: Path) -> None:
    """Pillow cuts it off at 255: all but the darkest greys would be white."""
    grey = np.asarray(noise().convert("L"))
    fine = grey.astype(np.int64) * 257 + np.arange(37) % 200 - 100  # what 8 bits cannot tell
    path = tmp_path / f"fine.{ending}"
    Image.fromarray(fine.clip(0, 65535).astype(np.uint16)).save(path)
    bytes_of = Preprocess(size=SIZE).to_uint8
    opened, read, expected = (
        bytes_of(Image.open(path)),
        bytes_of(path),
        bytes_of(Image.fromarray(grey)),
    )
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(opened, expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_scale_are_named(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    noise().convert("L").convert(mode).save(path)
    with pytest.raises(ArtifactError, match=rf"depth\.tiff: 32 bits a pixel \(mode {mode}\)"):
        open_image(path)
    with pytest.raises(ArtifactError, match="a picture in memory: 32 bits"):
        Preprocess(size=SIZE).to_uint8(Image.new(mode, (4, 4)))


def test_pixels_are_those_of_hugging_faces_processor(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    preprocess = Preprocess(size=SIZE)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocess.to_json()))
    theirs = getattr(transformers, "BlipImageProcessorPil", transformers.BlipImageProcessor)
    processor = theirs.from_pretrained(tmp_path)
    pictures = [noise().convert("RGB"), noise(9, 50).convert("RGB")]
    expected = processor(images=pictures, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(preprocess(pictures), expected, rtol=CLOSE, atol=CLOSE)


def test_a_picture_in_memory_equals_its_file(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    preprocess = Preprocess(size=SIZE)
    np.testing.assert_array_equal(
        preprocess.to_uint8(noise()), preprocess.to_uint8(str(tmp_path / "a.png"))
    )


def test_batches_are_stacked_in_order() -> None:
    preprocess = Preprocess(size=SIZE)
    pictures: list[Path | str | Image.Image] = [noise(), noise(10, 60), noise(8, 8)]
    together = preprocess(pictures)
    assert together.shape == (3, 3, SIZE, SIZE)
    np.testing.assert_array_equal(together[1], preprocess(pictures[1:2])[0])


def test_a_transparent_palette_is_no_reason_for_a_warning(tmp_path: Path) -> None:
    palette = noise().convert("RGB").quantize(8)
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128, *[255] * 6]))
    assert open_image(tmp_path / "p.png").mode == "RGB"


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
def test_a_truncated_picture_is_named(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"half.{ending}"
    noise(200, 200).convert("RGB").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=rf"half\.{ending}: cannot be decoded"):
        open_image(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"<html>404 Not Found</html>"])
def test_a_file_that_is_no_picture_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"page\.jpg: cannot be decoded") as caught:
        open_image(tmp_path / "page.jpg")
    assert "\n" not in str(caught.value)


def test_a_missing_picture_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.png: there is no such picture"):
        open_image(tmp_path / "none.png")
    with pytest.raises(ArtifactError, match="cannot be decoded"):
        open_image(tmp_path)


def test_bytes_changed_at_random_never_raise_anything_else(tmp_path: Path) -> None:
    """A data set of a million pictures has some that are damaged in every way there is."""
    rng = np.random.default_rng(11)
    path = tmp_path / "damaged"
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "TGA", "ICO", "SPIDER"):
        picture = noise().convert("F" if kind == "SPIDER" else "RGB")
        picture.save(path, kind)
        whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(40):
            changed = whole.copy()
            places = rng.integers(0, min(len(changed), 120), 3)
            changed[places] = rng.integers(0, 256, 3)
            path.write_bytes(changed[: rng.integers(1, len(changed) + 1)].tobytes())
            try:
                open_image(path)
            except ArtifactError as error:
                assert str(path) in str(error)


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])
@pytest.mark.parametrize(("width", "height"), [(13_378, 13_378), (100_000, 100_000)])
def test_a_picture_that_claims_too_many_pixels_is_not_decoded(
    width: int, height: int, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert width * height > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_header(width, height))
    # Programs around us may have switched Pillow's own limit off.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ArtifactError, match=r"bomb\.png: .*too many"):
        open_image(tmp_path / "bomb.png")


def test_a_picture_below_the_limit_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow itself warns from half of our limit on."""

    def decode(self: PngImageFile) -> NoReturn:
        raise OSError("here the pixels are read")

    (tmp_path / "large.png").write_bytes(png_header(13_377, 13_377))
    monkeypatch.setattr(PngImageFile, "load", decode)
    with pytest.raises(ArtifactError, match="here the pixels are read"):
        open_image(tmp_path / "large.png")


def test_preprocessor_config_comes_back() -> None:
    preprocess = Preprocess(size=40, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    written = json.loads(json.dumps(preprocess.to_json()))
    assert Preprocess.from_json(written, source="x") == preprocess


def test_an_older_config_with_one_number_for_the_size() -> None:
    config = {**Preprocess(size=40).to_json(), "size": 40, "size_divisor": 32, "do_pad": True}
    del config["resample"]
    assert Preprocess.from_json(config, source="x") == Preprocess(size=40)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": {"shortest_edge": 224}}, "no 'height'"),
        ({"size": {"height": 20, "width": 30}}, "square pictures, not 20x30"),
        ({"resample": 2}, "resample 2 is not bicubic"),
        ({"image_mean": [0.5]}, "three channels"),
        ({"image_std": None}, "not a BLIP image processor"),
        ({"do_normalize": False}, "do_normalize True, not False"),
        ({"do_center_crop": True}, "do_center_crop False, not True"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"rescale_factor": None}, "rescale_factor None, not 1/255"),
    ],
)
def test_another_transform_than_blips_is_refused(change: dict[str, object], reason: str) -> None:
    """Silently seeing other pixels than in training costs accuracy that nobody can explain."""
    with pytest.raises(ArtifactError, match=f"preprocessor.json.*{reason}"):
        Preprocess.from_json(
            {**Preprocess(size=40).to_json(), **change}, source="preprocessor.json"
        )


def test_a_list_is_no_image_processor() -> None:
    with pytest.raises(ArtifactError, match="is not a BLIP image processor"):
        Preprocess.from_json([1, 2], source="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_picture_that_a_phone_took_is_seen_upright(turned: int, tmp_path: Path) -> None:
    """Stored as the sensor lay, with a note of how the phone was held."""
    upright = noise().convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[turned]) if turned in back else upright
    stored.save(tmp_path / "photo.png", exif=exif)
    preprocess = Preprocess(size=SIZE)
    expected = preprocess.to_uint8(upright)
    assert np.array_equal(preprocess.to_uint8(tmp_path / "photo.png"), expected)
    with Image.open(tmp_path / "photo.png") as opened:
        assert np.array_equal(preprocess.to_uint8(opened), expected), "and so is one in memory"
