"""Folders are there whole or not at all, and nothing outside of them is touched."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blip_edge import artifact
from blip_edge.artifact import (
    Provenance,
    inside,
    kind,
    read_json,
    require_writable,
    write_json,
    writing,
)
from blip_edge.errors import ArtifactError, ToleranceError, UsageError


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An output of an earlier run."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "dataset.json").write_text("old")
    return folder


def test_the_output_is_there_after_the_block_and_not_before(tmp_path: Path) -> None:
    output = tmp_path / "runs" / "out"
    with writing(output) as draft:
        (draft / "a.txt").write_text("x")
        assert not output.exists()
    assert listing(tmp_path) == ["runs", "runs/out", "runs/out/a.txt"]
    ordinary = tmp_path / "ordinary"
    ordinary.mkdir()
    assert output.stat().st_mode == ordinary.stat().st_mode, "others could not read the output"


@pytest.mark.parametrize(
    "stop", [ValueError("a bug"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")]
)
def test_nothing_is_left_when_the_block_ends_badly(tmp_path: Path, stop: BaseException) -> None:
    with pytest.raises(type(stop)), writing(tmp_path / "out") as draft:
        (draft / "half.bin").write_bytes(b"x" * 100)
        raise stop
    assert listing(tmp_path) == []


def test_a_failed_replacement_leaves_the_old_output(old: Path) -> None:
    with pytest.raises(OSError), writing(old, force=True) as draft:
        (draft / "dataset.json").write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (old / "dataset.json").read_text() == "old"
    assert listing(old.parent) == ["out", "out/dataset.json"]


def test_a_killed_verb_leaves_the_old_output(old: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from blip_edge.artifact import writing\n"
        "with writing(Path(sys.argv[1]), force=True) as draft:\n"
        "    (draft / 'dataset.json').write_text('new')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, old], check=False)
    assert done.returncode == -9
    assert (old / "dataset.json").read_text() == "old"
    visible = [path.name for path in old.parent.iterdir() if not path.name.startswith(".")]
    assert visible == ["out"]


def test_force_replaces_the_whole_folder(old: Path) -> None:
    with writing(old, force=True) as draft:
        (draft / "summary.json").write_text("new")
    assert listing(old.parent) == ["out", "out/summary.json"]


def test_an_existing_output_is_refused_without_force(old: Path) -> None:
    with pytest.raises(ArtifactError, match=r"out already exists; pass --force"), writing(old):
        pytest.fail("hours of work would be done before the refusal")
    assert (old / "dataset.json").read_text() == "old"


@pytest.mark.parametrize("read", ["out", "out/images", "runs/../out", "link"])
def test_what_is_read_is_never_replaced(old: Path, read: str) -> None:
    (old.parent / "runs").mkdir()
    (old.parent / "link").symlink_to(old)
    with (
        pytest.raises(UsageError, match="choose another output"),
        writing(old, force=True, reads=(None, old.parent / read)),
    ):
        pass
    assert (old / "dataset.json").read_text() == "old"


def test_what_is_read_beside_the_output_does_not_matter(old: Path) -> None:
    with writing(old, force=True, reads=(old.parent / "out-2", "web-{000..003}.tar")) as draft:
        (draft / "dataset.json").write_text("new")
    assert (old / "dataset.json").read_text() == "new"


@pytest.mark.parametrize("place", [".", "/"])
def test_a_place_without_a_name_is_one_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts and a long run's parts are named after the output."""
    monkeypatch.chdir(tmp_path)
    for force in (False, True):
        refused = pytest.raises(UsageError, match="give -o a folder's name")
        with refused, writing(Path(place), force=force):
            pass


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="not written by blip-edge"), writing(home, force=True):
        pytest.fail("the block ran")
    assert listing(home) == ["thesis.tex"]


@pytest.mark.parametrize("name", ["manifest.json", "index.json", "summary.json"])
def test_a_name_that_others_use_too_makes_no_folder_ours(tmp_path: Path, name: str) -> None:
    """A web app has a manifest.json."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / name).write_text("{}")
    (folder / "app.js").write_text("weeks of work")
    with pytest.raises(ArtifactError, match="not written by"), writing(folder, force=True):
        pass
    assert (folder / "app.js").read_text() == "weeks of work"


def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("notes")
    with (
        pytest.raises(ArtifactError, match="not written by blip-edge"),
        writing(tmp_path / "out", force=True),
    ):
        pytest.fail("the block ran")
    assert (tmp_path / "out").read_text() == "notes"


def test_an_empty_folder_may_be_replaced_with_force(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with writing(tmp_path / "out", force=True) as draft:
        (draft / "a").touch()
    assert listing(tmp_path) == ["out", "out/a"]


def test_a_parent_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be written"), writing(tmp_path / "file" / "x"):
        pytest.fail("the block ran")


def test_the_old_output_comes_back_when_the_new_one_cannot_take_its_place(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "out" and self.parent.name.startswith(".out-"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ArtifactError, match="No space left"), writing(old, force=True) as draft:
        (draft / "dataset.json").write_text("new")
    assert (old / "dataset.json").read_text() == "old"


def test_an_output_that_missed_its_gate_is_set_aside_and_the_old_one_stays(old: Path) -> None:
    stale = old.with_name("out.rejected")
    stale.mkdir()
    (stale / "stale").touch()
    with (
        pytest.raises(ToleranceError, match=r"too far off; it is kept at .*out\.rejected"),
        writing(old, force=True) as draft,
    ):
        (draft / "dataset.json").write_text("new")
        raise ToleranceError("too far off")
    assert (old / "dataset.json").read_text() == "old"
    assert (stale / "dataset.json").read_text() == "new"
    assert listing(old.parent) == [
        "out",
        "out.rejected",
        "out.rejected/dataset.json",
        "out/dataset.json",
    ]


@pytest.mark.parametrize("relative", ["/etc/passwd", "../secret", "a/../../secret", "x/.."])
def test_paths_that_climb_out_are_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(ArtifactError, match="leaves the folder"):
        inside(tmp_path, relative)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (folder / "graph.onnx").symlink_to(tmp_path / "secret.txt")
    (folder / "away").symlink_to(tmp_path, target_is_directory=True)
    for relative in ("graph.onnx", "away/secret.txt"):
        with pytest.raises(ArtifactError, match="leaves the folder"):
            inside(folder, relative)


def test_paths_and_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path, "link/a.png") == tmp_path / "link" / "a.png"
    assert inside(tmp_path, "a..b/c.png") == tmp_path / "a..b" / "c.png"


@pytest.mark.parametrize("relative", ["a\0b", "loop/x"])
def test_what_is_no_path_at_all_is_one_line(tmp_path: Path, relative: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ArtifactError):
        inside(tmp_path, relative)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing"),
        (b"{'a': 1}", "is not valid JSON"),
        (b'{"a": ', "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_json_names_the_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"config\.json {reason}|config\.json .*{reason}"):
        read_json(path)


def test_a_folder_in_place_of_a_json_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_json(tmp_path)


def test_json_keeps_order_and_words(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "café"}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert list(read_json(tmp_path / "x.json")) == ["b", "a"]
    assert "café" in text and text.endswith("}\n")
    assert listing(tmp_path) == ["x.json"]


def test_where_no_file_can_be_put_is_known_beforehand(tmp_path: Path) -> None:
    """Also to root, who may write everywhere: /proc takes no file of anybody."""
    require_writable(tmp_path / "new" / "er" / "x.json")
    places = [tmp_path / "file" / "x.json"]
    (tmp_path / "file").touch()
    if sys.platform == "linux":
        places.append(Path("/proc/nowhere/x.json"))
    for place in places:
        with pytest.raises(ArtifactError, match=r"x\.json cannot be written"):
            require_writable(place)
    assert listing(tmp_path) == ["file"], "looking leaves nothing behind"


def test_a_nan_is_not_written_as_json(tmp_path: Path) -> None:
    """Other readers of JSON refuse NaN; the old document stays."""
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", float("nan"))
    assert read_json(tmp_path / "x.json") == 1
    assert listing(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("model.safetensors", "model"),
        ("manifest.json", "bundle"),
        ("dataset.json", "data"),
        ("summary.json", "run"),
    ],
)
def test_a_folder_is_what_its_mark_says(tmp_path: Path, mark: str, expected: str) -> None:
    (tmp_path / mark).touch()
    assert kind(tmp_path) == expected


def test_a_folder_of_no_kind_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none of manifest\.json, model\.safetensors"):
        kind(tmp_path)
    with pytest.raises(ArtifactError, match="is not a folder"):
        kind(tmp_path / "nowhere")


def test_a_folder_digest_sees_names_and_contents_and_not_drafts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("1")
    (tmp_path / "sub" / "b").write_text("2")
    first = artifact.sha256_folder(tmp_path)
    (tmp_path / ".hidden").write_text("3")
    assert artifact.sha256_folder(tmp_path) == first
    (tmp_path / "sub" / "b").write_text("3")
    changed = artifact.sha256_folder(tmp_path)
    os.rename(tmp_path / "sub" / "b", tmp_path / "sub" / "c")
    assert len({first, changed, artifact.sha256_folder(tmp_path)}) == 3


def test_bytes_of_a_folder_count_every_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "sub" / "b").write_bytes(b"4567")
    assert artifact.folder_bytes(tmp_path) == 7


def test_sha256_of_a_file_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert artifact.sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_provenance_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = Provenance(
        verb="train",
        recipe={"steps": 3},
        parents=[{"path": "a", "sha256": "0"}],
        data={"name": "shapes"},
        version="1",
        seconds=0.5,
        history=[{"step": 0.0, "loss": 1.5}],
    )
    artifact.write_provenance(tmp_path, made)
    assert artifact.read_provenance(tmp_path) == made


@pytest.mark.parametrize("document", [{"verb": "train"}, {"verb": "x", "colour": 1}, [1, 2]])
def test_another_document_is_no_provenance(tmp_path: Path, document: object) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"provenance\.json does not have"):
        artifact.read_provenance(tmp_path)


def test_a_file_that_cannot_be_written_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_json(tmp_path / "taken", {"new": 1})
    assert listing(tmp_path) == ["taken"]
