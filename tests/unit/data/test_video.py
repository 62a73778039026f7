"""Frames of clips: which are taken, and that they are the ones that come out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blip_edge.data.video import Sampling, frames, positions
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError

SAMPLINGS: tuple[Sampling, ...] = ("uniform", "legacy", "random", "headtail")
LOSSY = 6  # shades that a video codec may be off


@given(st.integers(1, 500), st.integers(1, 40), st.sampled_from(SAMPLINGS), st.integers(0, 9))
def test_every_sampling_rises_inside_the_clip(
    length: int, number: int, sampling: Sampling, seed: int
) -> None:
    found = positions(length, number, sampling=sampling, seed=seed)
    assert found.shape == (number,)
    assert 0 <= found.min() <= found.max() < length
    assert (np.diff(found) >= 0).all()
    if sampling == "uniform" and number > 1:
        assert (found[0], found[-1]) == (0, length - 1)
    if sampling == "headtail" and length > 1:
        assert (found < length // 2).sum() == number // 2


def test_legacy_is_blips_step_cut_to_a_whole_number() -> None:
    assert positions(100, 8, sampling="legacy").tolist() == [0, 12, 24, 36, 48, 60, 72, 84]
    assert positions(5, 8, sampling="legacy").tolist() == [0] * 8
    assert positions(100, 8).tolist() == [0, 14, 28, 42, 57, 71, 85, 99]
    assert positions(3, 1).tolist() == [1]


def test_drawn_frames_depend_on_the_seed_alone() -> None:
    one, again, other = (positions(200, 8, sampling="random", seed=seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()
    assert len(set(one.tolist())) == 8


@pytest.mark.parametrize(("length", "number"), [(0, 8), (8, 0)])
def test_no_frames_are_an_error(length: int, number: int) -> None:
    with pytest.raises(UsageError, match="cannot be taken"):
        positions(length, number)


def test_an_unknown_sampling_is_an_error() -> None:
    wrong: Any = "unifrom"
    with pytest.raises(UsageError, match="'unifrom': uniform, legacy"):
        positions(8, 8, sampling=wrong)


Clip = Callable[..., Path]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """A clip of `length` frames, each ten shades lighter than the one before it."""

    def clip(name: str, length: int = 20) -> Path:
        path = tmp_path / name
        images = [Image.new("RGB", (32, 32), (10 * shade,) * 3) for shade in range(length)]
        if path.suffix in (".gif", ".png", ".webp"):
            images[0].save(path, save_all=True, append_images=images[1:], lossless=True)
            return path
        av = pytest.importorskip("av")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
            container.mux(stream.encode())
        return path

    return clip


def shades(images: list[Image.Image]) -> list[float]:
    assert {(image.mode, image.size) for image in images} == {("RGB", (32, 32))}
    return [float(np.asarray(image, dtype=np.float32).mean()) for image in images]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.mp4", "a.avi", "a.mkv"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_frames_are_those_asked_for(clip: Clip, name: str, sampling: Sampling) -> None:
    path = clip(name)
    found = shades(frames(path, 4, sampling=sampling))
    assert found == shades(frames(path, 4, sampling=sampling))
    places = [round(shade / 10) for shade in found]
    assert found == pytest.approx([10 * place for place in places], abs=LOSSY)
    if sampling in ("uniform", "legacy"):
        expected = {"uniform": [0, 6, 13, 19], "legacy": [0, 5, 10, 15]}
        assert places == expected[sampling]


@pytest.mark.parametrize("name", ["short.gif", "short.mp4"])
def test_short_clips_repeat_frames(clip: Clip, name: str) -> None:
    found = shades(frames(clip(name, 2), 5))
    assert found == pytest.approx([0, 0, 0, 10, 10], abs=LOSSY)


def test_a_still_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (50, 50, 50)).save(tmp_path / "still.png")
    assert shades(frames(tmp_path / "still.png", 3)) == [50, 50, 50]


@pytest.mark.parametrize("name", ["bad.gif", "bad.png", "bad.mp4"])
def test_clips_that_cannot_be_decoded(tmp_path: Path, name: str) -> None:
    if name.endswith(".mp4"):
        pytest.importorskip("av")
    (tmp_path / name).write_bytes(b"not a clip at all")
    with pytest.raises(ArtifactError, match=rf"{name}: cannot be decoded as a clip") as caught:
        frames(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_video_is_named(clip: Clip) -> None:
    path = clip("cut.mp4")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"cut\.mp4"):
        frames(path)


def test_a_missing_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.mp4: there is no such clip"):
        frames(tmp_path / "gone.mp4")


def test_videos_need_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=r"blip-edge\[video\]"):
        frames(tmp_path / "a.mp4")
