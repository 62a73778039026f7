"""Pictures out of packages: small packages of the same shape, made here."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from blip_edge.data import CaptionRow, Dataset, check
from blip_edge.data.draft import Unavailable
from blip_edge.data.picturebook import make_pictures
from blip_edge.data.picturebook.picture import family, looks_photographic, on_white, split_of
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
    '<rect x="2" y="2" width="4" height="2"/></svg>'
)

draws = pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="needs rsvg-convert")
packs = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")


def stamp(folder: Path, name: str, text: str | None, *, colour: str | None = "red") -> None:
    path = folder / "usr/share/tuxpaint/stamps" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        path.write_text(SVG)
    else:
        image = Image.new("RGBA", (40, 30))
        if colour:
            ImageDraw.Draw(image).ellipse((5, 5, 24, 14), fill=colour)
        image.save(path)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The stamps' package, unpacked: 29 numbered stamps, and some that are left out."""
    folder = tmp_path / "tree"
    for number in range(29):
        text = f"A {chr(97 + number % 26)}“thing”…\nde.utf8=Ein Ding.\n"
        stamp(folder, f"animals/thing-{chr(97 + number)}x.png", text)
    stamp(folder, "animals/mirror.png", None)
    stamp(folder, "animals/german.png", "de.utf8=Nur deutsch.\n")
    stamp(folder, "animals/empty.png", "Nothing.", colour=None)
    stamp(folder, "symbols/drawn.svg", "A drawing.")
    return folder


def clip(path: Path, title: str, described: str = "", licence: str = "PublicDomain") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = (
        f"<metadata><dc:title>{title}</dc:title><dc:description>{described}</dc:description>"
        f'<cc:license rdf:resource="http://web.resource.org/cc/{licence}"/></metadata>'
    )
    names = 'xmlns:dc="d" xmlns:cc="c" xmlns:rdf="r" '
    path.write_text(SVG.replace("<svg ", f"<svg {names}").replace("<rect", f"{metadata}<rect"))


@draws
def test_clip_art_is_what_the_web_says_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "clipart"
    clip(folder / "animals/cat.svg", "Cat &amp; mouse", "a cat that sees a mouse")
    clip(folder / "animals/dog.svg", "someone@example.org", "dog")
    clip(folder / "animals/cow.svg", "Cow", licence="GPL")
    clip(folder / "shapes/stars/star_9.svg", "star")
    clip(folder / "animals/none.svg", "")
    data = make_pictures("openclipart", tmp_path / "data", packages=[folder], size=32)
    assert [(row.image, row.captions[0]) for row in data.web()] == [
        ("openclipart/animals-cat.jpg", "Cat & mouse"),
        ("openclipart/animals-cat.jpg", "a cat that sees a mouse"),
        ("openclipart/animals-dog.jpg", "someone@example.org"),
    ]
    assert not data.has("caption_train.json")
    assert data.license == "CC-PDDC"


@pytest.fixture
def emoji(tmp_path: Path) -> Path:
    """npm's package of emoji: 40 things, a flag and a skin tone."""
    folder = tmp_path / "package"
    (folder / "color/svg").mkdir(parents=True)
    (folder / "data").mkdir()
    common = {"group": "objects", "subgroups": "tool", "skintone": ""}
    rows = [
        {**common, "hexcode": f"1F{n:03X}", "annotation": f"tool {n:c}"} for n in range(65, 105)
    ]
    flag = {**common, "hexcode": "F", "annotation": "flag: Chad", "group": "flags"}
    tone = {**common, "hexcode": "T", "annotation": "waving hand", "skintone": "3"}
    (folder / "data/openmoji.json").write_text(json.dumps([*rows, flag, tone]))
    (folder / "package.json").write_text(json.dumps({"name": "openmoji", "version": "17.0.0"}))
    for row in rows:
        (folder / f"color/svg/{row['hexcode']}.svg").write_text(SVG)
    path = tmp_path / "openmoji-17.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "package")
    shutil.rmtree(folder)
    return path


def rows(data: Dataset) -> list[CaptionRow]:
    return [row for split in ("train", "val", "test") for row in data.captions(split)]


def test_stamps_from_a_folder(tree: Path, tmp_path: Path) -> None:
    data = make_pictures("stamps", tmp_path / "data", packages=[tree], size=32, drawings=False)
    assert len(rows(data)) == 29
    assert data.license == "GPL-2.0-or-later"
    assert 'A a"thing"...' in {row.captions[0] for row in rows(data)}
    with Image.open(data.image_path("stamps/animals-thing-ax.jpg")) as image:
        assert image.size == (32, 16)  # without its margin
        assert min(image.getpixel((0, 0))) > 200  # type: ignore[arg-type]
    skipped = (data.folder / "skipped.jsonl").read_text()
    assert "animals/empty.png: the picture is transparent" in skipped
    origins = json.loads((data.folder / "pictures.json").read_text())
    assert origins[0]["category"] == "animals"
    assert origins[0]["photo"] is False
    assert check(data).ok


@draws
@packs
def test_a_picturebook_from_packages(tree: Path, emoji: Path, tmp_path: Path) -> None:
    control = "Package: tuxpaint-stamps-default\nVersion: 2022.06.04-1\nArchitecture: all\n"
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"{control}Maintainer: N <n@example.org>\nDescription: s\n"
    )
    deb = tmp_path / "stamps.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, capture_output=True)
    data = make_pictures("picturebook", tmp_path / "data", packages=[emoji, deb], size=32)
    assert len(rows(data)) == 30 + 40
    assert data.version == "stamps 2022.06.04-1, openmoji 17.0.0"
    assert data.license == "CC-BY-SA-4.0 and GPL-2.0-or-later"
    with Image.open(data.image_path("openmoji/1F041.jpg")) as image:
        assert image.width == 32
        assert image.height in (16, 17)  # the drawing's edges are soft
    alone = make_pictures("openmoji", tmp_path / "alone", packages=[emoji], size=32)
    ours = {row.image for row in data.captions("test") if row.image.startswith("openmoji")}
    assert {row.image for row in alone.captions("test")} == ours
    assert check(data).ok


def test_a_missing_program_is_named(
    tree: Path, emoji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"rsvg-convert is not installed.*librsvg2-bin"):
        make_pictures("openmoji", tmp_path / "data", packages=[emoji])
    with pytest.raises(MissingExtraError, match=r"apt-get is not installed.*--from"):
        make_pictures("stamps", tmp_path / "data", drawings=False)
    deb = tmp_path / "stamps.deb"
    deb.write_bytes(b"!<arch>")
    with pytest.raises(MissingExtraError, match=r"dpkg-deb is not installed.*--from"):
        make_pictures("stamps", tmp_path / "data", packages=[deb], drawings=False)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Programs of these names that run a line of shell."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()

    def program(name: str, line: str) -> None:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    return program


def test_a_download_that_fails_says_why(
    tmp_path: Path, program: Callable[[str, str], None]
) -> None:
    program("apt-get", "echo noise >&2; echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(ArtifactError, match=r"tuxpaint-stamps-default cannot .*: E: Unable to loc"):
        make_pictures("stamps", tmp_path / "data", drawings=False)
    program("npm", "exit 0")
    program("rsvg-convert", "exit 0")
    with pytest.raises(ArtifactError, match=r"openmoji@17\.0\.0 cannot be .*: no \*\.tgz arrived"):
        make_pictures("openmoji", tmp_path / "data")


def test_packages_that_are_something_else(
    tmp_path: Path, tree: Path, emoji: Path, program: Callable[[str, str], None]
) -> None:
    program("rsvg-convert", "exit 0")
    whole = emoji.read_bytes()
    emoji.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"openmoji-17\.0\.0\.tgz is no npm package, or is dam"):
        make_pictures("openmoji", tmp_path / "data", packages=[emoji])
    with tarfile.open(emoji, "w:gz") as archive:
        archive.add(tree, "package")
    with pytest.raises(ArtifactError, match="is not the package openmoji"):
        make_pictures("openmoji", tmp_path / "data", packages=[emoji])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ArtifactError, match="holds no stamps"):
        make_pictures("stamps", tmp_path / "data", packages=[tmp_path / "nothing"])
    with pytest.raises(UsageError, match="stamps takes no openmoji"):
        make_pictures("stamps", tmp_path / "data", packages=[emoji])
    with pytest.raises(UsageError, match="picturebook takes no second stamps"):
        make_pictures("picturebook", tmp_path / "data", packages=[tree, tree])
    with pytest.raises(ArtifactError, match="gone is missing"):
        make_pictures("stamps", tmp_path / "data", packages=[tmp_path / "gone"])
    with pytest.raises(UsageError, match="at least 16"):
        make_pictures("stamps", tmp_path / "data", packages=[tree], size=8)


def test_a_stamp_linked_from_elsewhere_is_refused(tree: Path, tmp_path: Path) -> None:
    path = tree / "usr/share/tuxpaint/stamps/animals/thing-ax.png"
    (tmp_path / "secret.png").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "secret.png")
    with pytest.raises(ArtifactError, match="leaves the folder"):
        make_pictures("stamps", tmp_path / "data", packages=[tree], drawings=False)


def test_too_many_damaged_pictures_stop(tree: Path, tmp_path: Path) -> None:
    (tree / "usr/share/tuxpaint/stamps/animals/thing-ax.png").write_bytes(b"not a picture")
    with pytest.raises(ArtifactError, match=r"thing-ax\.png: cannot be decoded"):
        make_pictures("stamps", tmp_path / "data", packages=[tree], drawings=False)


def test_photographs_are_told_from_drawings() -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    both = Image.merge("RGB", [noise.rotate(turn).getchannel(0) for turn in (0, 90, 180)])
    assert looks_photographic(both.convert("RGBA"))
    assert not looks_photographic(Image.new("RGBA", (64, 64), "red"))


@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 255, 255, 255)])
def test_what_shows_nothing_is_left_out(colour: tuple[int, int, int, int]) -> None:
    with pytest.raises(Unavailable):
        on_white(Image.new("RGBA", (20, 20), colour), 16)


@pytest.mark.parametrize(
    ("name", "shared"),
    [("cat2", "cat"), ("Cat_02", "cat"), ("cat-2b", "cat"), ("42", "42"), ("tuba", "tu")],
)
def test_numbered_variants_are_a_family(name: str, shared: str) -> None:
    assert family("animals", name) == f"animals/{shared}"


def test_splits_are_the_same_for_ever() -> None:
    # Worked out once from the sha256; a change would leak test pictures into training.
    keys = ("animals/cat", "food/apple", "vehicles/car", "sports/ball", "town/house", "plants/oak")
    expected = ["val", "val", "train", "train", "val", "train"]
    assert [split_of(key) for key in keys] == expected


@given(st.text(max_size=8), st.integers(0, 999))
def test_a_number_never_changes_the_split(name: str, number: int) -> None:
    stem = f"x{name}x"
    assert split_of(family("a", f"{stem}{number}")) == split_of(family("a", stem))
