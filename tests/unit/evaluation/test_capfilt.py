"""CapFilt: which texts a picture ends up with, whoever kills the run, of folders and of tars."""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.shards import Sample, read_shard
from blip_edge.errors import ArtifactError, BlipEdgeError, UsageError
from blip_edge.evaluation.capfilt import CapfiltRecipe, capfilt, work
from blip_edge.evaluation.capfilt import bootstrap as bootstrap_module
from blip_edge.evaluation.capfilt.bootstrap import Bootstrap, Named
from blip_edge.evaluation.capfilt.on_ray import do_on_ray
from blip_edge.evaluation.capfilt.parts import is_done, read_part, row_parts
from blip_edge.runtime.results import Caption
from tests.unit.evaluation.painter import COLOURS, Critic, Painter
from tests.unit.training.tars import picture, write_tar


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders that open as a captioner and as a filter."""
    made = {"captioner": Painter(), "filter": Critic(), "doubtful": Critic(0.4)}
    paths = {}
    for name in made:
        paths[name] = tmp_path / name
        paths[name].mkdir()
        (paths[name] / "weights").write_text(name)
    monkeypatch.setattr(
        bootstrap_module, "load", lambda folder, threads=None: made[Path(folder).name]
    )
    return paths


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """Three pictures: one right and one wrong text, a wrong one, and none."""
    folder = tmp_path / "web"
    (folder / "images").mkdir(parents=True)
    for name, value in COLOURS.items():
        Image.new("RGB", (8, 5), value).save(folder / "images" / f"{name}.png")
    rows = [
        {"image": "red.png", "caption": "red thing"},
        {"image": "red.png", "caption": "click here"},
        {"image": "red.png", "caption": "Red thing!"},
        {"image": "blue.png", "caption": "so red"},
        {"image": "white.png"},
    ]
    _write(folder / "web_train.json", rows)
    _write(folder / "caption_train.json", [{"image": "red.png", "caption": "people said this"}])
    _write(folder / "dataset.json", {"name": "three", "version": "1", "license": "CC0-1.0"})
    return folder


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def _run(data: Path | str, output: Path, folders: dict[str, Path], **how: Any) -> Path:
    models = {"captioners": [folders["captioner"]], "filters": [folders["filter"]]}
    recipe = how.pop("recipe", CapfiltRecipe(part=2))
    return capfilt(data, output, recipe, **{**models, **how})


def _captions(folder: Path) -> Counter[tuple[str, str]]:
    rows = json.loads((folder / "web_train.json").read_text())
    return Counter((row["image"], row["caption"]) for row in rows)


def test_right_texts_stay_new_ones_come_and_wrong_ones_go(
    web: Path, tmp_path: Path, folders: dict[str, Path]
) -> None:
    out = _run(web, tmp_path / "out", folders)
    assert _captions(out) == Counter(
        [
            ("red.png", "red thing"),
            ("red.png", "a red picture"),
            ("blue.png", "a blue picture"),
            ("white.png", "a white picture"),
        ]
    )
    dataset = Dataset.open(out)
    assert [row.image for row in dataset.web()] == ["red.png", "red.png", "blue.png", "white.png"]
    assert dataset.image_path("red.png").is_file()
    assert dataset.captions("train")[0].captions == ("people said this",)
    assert not list(tmp_path.glob("out.parts"))


def test_every_text_says_where_it_comes_from(
    web: Path, tmp_path: Path, folders: dict[str, Path]
) -> None:
    out = _run(web, tmp_path / "out", folders, seed=4)
    rows = [json.loads(line) for line in (out / "texts.jsonl").read_text().splitlines()]
    assert len(rows) == 6  # a text that training would read as another is not there twice
    dropped = {row["caption"] for row in rows if not row["kept"]}
    assert dropped == {"click here", "so red"}
    new = next(row for row in rows if row["source"] == "synthetic")
    assert (new["top_p"], new["seed"], new["round"], new["itm"]) == (0.9, 4, 1, 0.9)
    parents = json.loads((out / "provenance.json").read_text())["parents"]
    assert new["model"] == parents[0]["sha256"]
    found = json.loads((out / "capfilt.json").read_text())
    assert (found["web"]["texts"], found["web"]["kept"]) == (3, 1)
    assert (found["synthetic"]["texts"], found["synthetic"]["kept"]) == (3, 3)


def test_filter_alone_and_captioner_alone(
    web: Path, tmp_path: Path, folders: dict[str, Path]
) -> None:
    filtered = _run(web, tmp_path / "filtered", folders, captioners=[])
    assert _captions(filtered) == Counter([("red.png", "red thing")])
    written = _run(web, tmp_path / "written", folders, filters=[])
    assert sum(_captions(written).values()) == 6
    row = json.loads((written / "texts.jsonl").read_text().splitlines()[0])
    assert "itm" not in row and row["kept"]


def test_a_killed_run_goes_on_and_nothing_is_there_twice(
    web: Path, tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _run(web, tmp_path / "whole", folders)
    with monkeypatch.context() as patched:
        _stop_before(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            _run(web, tmp_path / "out", folders)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArtifactError, match="--resume"):
        _run(web, tmp_path / "out", folders)
    with pytest.raises(ArtifactError, match="other data, models or settings"):
        _run(web, tmp_path / "out", folders, resume=True, seed=9)
    with monkeypatch.context() as patched:
        done = _count(patched)
        _run(web, tmp_path / "out", folders, resume=True)
    assert done == [1]
    for name in ("web_train.json", "texts.jsonl", "capfilt.json"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_what_stopped_before_its_first_part_leaves_nothing(
    web: Path, tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _stop_before(patched, 0)
        with pytest.raises(KeyboardInterrupt):
            _run(web, tmp_path / "out", folders)
    assert not (tmp_path / "out.parts").exists()
    assert _run(web, tmp_path / "out", folders).is_dir()


@pytest.mark.parametrize("output", [".", "/"])
def test_an_output_without_a_name_is_one_line(
    web: Path, folders: dict[str, Path], output: str
) -> None:
    with pytest.raises(UsageError, match="give -o a folder's name"):
        _run(web, Path(output), folders)


def test_a_folder_that_is_missing_is_not_taken_for_a_tar(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    with pytest.raises(ArtifactError, match="nowhere is not a folder"):
        _run(tmp_path / "nowhere", tmp_path / "out", folders)
    with pytest.raises(ArtifactError, match=r"no\.tar is missing"):
        _run(tmp_path / "no.tar", tmp_path / "out", folders)


def _stop_before(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = work.bootstrap_part

    def stops(part: Any, *rest: Any) -> None:
        if part.number == number:
            raise KeyboardInterrupt
        real(part, *rest)

    monkeypatch.setattr(work, "bootstrap_part", stops)


def _count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    real, done = work.bootstrap_part, list[int]()

    def counts(part: Any, *rest: Any) -> None:
        done.append(part.number)
        real(part, *rest)

    monkeypatch.setattr(work, "bootstrap_part", counts)
    return done


def test_a_picture_is_decoded_once_and_asked_about_once(
    web: Path, tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Image.open

    def notes(path: Path, *rest: Any) -> Any:
        opened.append(str(path))
        return real(path, *rest)

    monkeypatch.setattr(Image, "open", notes)
    _run(web, tmp_path / "out", folders, recipe=CapfiltRecipe(captions=3))
    assert sorted(Path(one).name for one in opened) == ["blue.png", "red.png", "white.png"]


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Two tars; the second has a sample whose text is missing and one without a picture."""
    folder = tmp_path / "tars"
    folder.mkdir()
    write_tar(folder / "0.tar", [("a", picture(3), "some grey thing"), ("b", picture(9), "red")])
    with tarfile.open(write_tar(folder / "1.tar", [("c", picture(5), "x grey x")]), "a") as more:
        for name, data in (("d.png", picture(7)), ("e.json", b'{"caption": "no picture"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            more.addfile(info, _bytes(data))
    return folder


def _bytes(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def _samples(folder: Path) -> Iterator[Sample]:
    for path in sorted(folder.glob("*.tar")):
        for sample in read_shard(path):
            assert isinstance(sample, Sample), sample
            yield sample


def test_tars_become_tars(tmp_path: Path, tars: Path, folders: dict[str, Path]) -> None:
    names = f"{tars}/{{0..1}}.tar"
    with pytest.raises(ArtifactError, match="1 of 5 pictures cannot be used"):
        _run(names, tmp_path / "out", folders)
    out = _run(names, tmp_path / "out", folders, resume=True, recipe=_lenient())
    found = {sample.key: sample for sample in _samples(out)}
    assert {key: sample.captions for key, sample in found.items()} == {
        "a": ("some grey thing", "a grey picture"),
        "b": ("a grey picture",),
        "c": ("x grey x", "a grey picture"),
        "d": ("a grey picture",),
    }
    assert found["d"].data == picture(7)
    skipped = (out / "skipped.jsonl").read_text().splitlines()
    assert len(skipped) == 1 and "e has no picture" in skipped[0]


def test_a_tar_loses_pictures_of_which_nothing_is_left(
    tmp_path: Path, tars: Path, folders: dict[str, Path]
) -> None:
    out = _run(tars / "0.tar", tmp_path / "out", folders, captioners=[])
    assert [sample.key for sample in _samples(out)] == ["a"]


def test_a_picture_of_another_format_than_its_name_can_be_read_again(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """Web sets call pictures .jpg whatever they are; no reader takes a .gif."""
    Image.new("RGB", (8, 8), "gray").save(tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    write_tar(tmp_path / "web.tar", [("a", data, "some grey thing")], ending="jpg")
    (found,) = _samples(_run(tmp_path / "web.tar", tmp_path / "out", folders, captioners=[]))
    assert (found.data, found.ending) == (data, "jpg")


def _lenient() -> CapfiltRecipe:
    return CapfiltRecipe(part=2, max_bad=0.5)


def test_a_damaged_tar_is_told_by_name(
    tmp_path: Path, tars: Path, folders: dict[str, Path]
) -> None:
    whole = (tars / "0.tar").read_bytes()
    (tars / "0.tar").write_bytes(whole[:700])
    with pytest.raises(ArtifactError, match=r"0\.tar"):
        _run(f"{tars}/{{0..1}}.tar", tmp_path / "out", folders)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"captioners": ["filter"]}, "filter cannot be a captioner: .*caption pictures"),
        ({"filters": ["captioner"]}, "captioner cannot be a filter: .*match texts"),
    ],
)
def test_a_model_that_cannot_do_its_part_is_named_before_any_work(
    web: Path, tmp_path: Path, folders: dict[str, Path], models: dict[str, Any], message: str
) -> None:
    chosen = {role: [folders[name] for name in names] for role, names in models.items()}
    with pytest.raises(ArtifactError, match=message):
        _run(web, tmp_path / "out", folders, **chosen)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.parts").exists()


def test_what_makes_no_sense_is_refused(
    web: Path, tmp_path: Path, folders: dict[str, Path]
) -> None:
    with pytest.raises(UsageError, match="a captioner, a filter, or both"):
        _run(web, tmp_path / "out", folders, captioners=[], filters=[])
    with pytest.raises(UsageError, match="beams 2 cannot write 3"):
        CapfiltRecipe(captions=3, beams=2)
    with pytest.raises(UsageError, match="min_itc is a cosine"):
        CapfiltRecipe(min_itc=1.5)
    with pytest.raises(UsageError, match="min_confidence and max_bad are shares"):
        CapfiltRecipe(min_confidence=1.5)
    with pytest.raises(ArtifactError, match="no text is left"):
        _run(web, tmp_path / "out", folders, captioners=[], recipe=CapfiltRecipe(threshold=1.0))


def test_a_picture_that_cannot_be_read_is_listed(
    web: Path, tmp_path: Path, folders: dict[str, Path]
) -> None:
    (web / "images" / "blue.png").write_bytes(b"no picture")
    with pytest.raises(ArtifactError, match=r"blue\.png"):
        _run(web, tmp_path / "out", folders)
    out = _run(web, tmp_path / "other", folders, recipe=_lenient())
    assert {image for image, _ in _captions(out)} == {"red.png", "white.png"}
    assert "blue.png" in (out / "skipped.jsonl").read_text()


class Mortal(Painter):
    """Dies over its first picture, once."""

    def __init__(self, alive: Path) -> None:
        super().__init__()
        self._alive = alive

    def captions(
        self, image: list[Image.Image], count: int, *, seed: int = 0, **how: Any
    ) -> list[list[Caption]]:
        if not self._alive.exists():
            self._alive.touch()
            os._exit(9)
        return super().captions(image, count, seed=seed, **how)


class Doubles(work.Models):
    """Opens a painter that dies once and a critic, in whichever process."""

    def open(self) -> Bootstrap:
        painters = [Named(Mortal(alive), "p") for alive in self.captioners]
        return Bootstrap(painters, [Named(Critic(), "c") for _ in self.filters], self.recipe)


def doubles(alive: Path) -> Doubles:
    return Doubles((alive,), (alive,), CapfiltRecipe(), 0, {})


def test_a_killed_process_loses_nothing(web: Path, tmp_path: Path) -> None:
    folder, models = tmp_path / "parts", doubles(tmp_path / "alive")
    folder.mkdir()
    parts = row_parts(Dataset.open(web), 1)
    with pytest.raises(BlipEdgeError, match="go on with --resume"):
        list(work.share_parts(parts, folder, models, processes=2))
    rest = [part for part in parts if not is_done(folder, part.number)]
    assert rest
    assert len(list(work.share_parts(rest, folder, models, processes=2))) == len(rest)
    found = [one for part in parts for one in read_part(folder, part.number)]
    assert [one.name for one in found] == ["red.png", "blue.png", "white.png"]
    assert all(any(text.kept for text in one.texts) for one in found)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray")
def test_a_cluster_finds_the_same_and_loses_nothing(web: Path, tmp_path: Path) -> None:
    """One of its processes dies over its first picture."""
    pytest.importorskip("ray", reason="Ray is not installed")
    whole, clustered = tmp_path / "whole", tmp_path / "clustered"
    parts, models = row_parts(Dataset.open(web), 2), doubles(tmp_path / "alive")
    for folder in (whole, clustered):
        folder.mkdir()
    done = do_on_ray(parts, clustered, models, [4, 6], address="local", actors=1)
    assert sorted(part.number for part in done) == [0, 1]
    list(work.do_parts(parts, whole, models.open()))  # it lives by now
    for name in ("part-000000.jsonl", "part-000001.jsonl"):
        assert (clustered / name).read_text() == (whole / name).read_text()
