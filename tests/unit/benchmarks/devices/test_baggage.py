"""What travels to another machine: all that a bundle is made of, under names of our own."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from blip_edge.benchmarks import BenchRecipe
from blip_edge.benchmarks.devices.baggage import Baggage, check_bundles, requirements
from blip_edge.benchmarks.job import Job
from blip_edge.errors import ArtifactError
from blip_edge.runtime.asked import Asked
from tests.unit.benchmarks.toy_bundle import write_toy

pytest.importorskip("onnx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "toy $(id)")


def packed(job: Job) -> dict[str, bytes]:
    out = io.BytesIO()
    Baggage(job).write_tar(out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        assert all(member.isreg() for member in archive)
        members = {member.name: archive.extractfile(member) for member in archive}
    return {name: file.read() for name, file in members.items() if file is not None}


def job_of(bundle: Path) -> Job:
    asked = tuple(Asked((bundle / "golden" / name,)) for name in ("a.png", "b.png"))
    return Job(bundles=(bundle,), asked=asked, recipe=BenchRecipe(runs=3), threads=2)


def contents(job: Job) -> list[bytes]:
    return [Path(str(image)).read_bytes() for asked in job.asked for image in asked.images]


def test_a_bundle_arrives_whole_under_other_names(bundle: Path, tmp_path: Path) -> None:
    files = packed(job_of(bundle))
    assert not [name for name in files if "toy" in name or "$" in name]
    for name, data in files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(data)
    job = Job.from_json(json.loads(files["job.json"]), tmp_path / "there")
    check_bundles(job.bundles)
    assert contents(job) == contents(job_of(bundle))
    assert (job.recipe.runs, job.threads) == (3, 2)


def test_both_pictures_of_a_sentence_travel_and_the_sentence(bundle: Path, tmp_path: Path) -> None:
    pair = Asked((bundle / "golden" / "a.png", bundle / "golden" / "b.png"), ("both are red",))
    job = replace(job_of(bundle), task="nlvr2", asked=(pair,))
    files = packed(job)
    there = Job.from_json(json.loads(files["job.json"]), tmp_path)
    names = [Path(str(one)).relative_to(tmp_path).as_posix() for one in there.asked[0].images]
    assert [files[name] for name in names] == contents(job)
    assert (there.task, there.asked[0].texts) == ("nlvr2", ("both are red",))


def test_its_size_is_what_is_needed_there(bundle: Path) -> None:
    files = packed(job_of(bundle))
    assert Baggage(job_of(bundle)).size == sum(map(len, files.values()))


def test_a_link_travels_as_its_file_and_not_out_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "same.onnx").symlink_to("vision.onnx")
    assert packed(job_of(bundle))["bundles/0/same.onnx"] == (bundle / "vision.onnx").read_bytes()
    (tmp_path / "secret").write_text("secret")
    (bundle / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="leaves the folder"):
        Baggage(job_of(bundle))


def test_the_packages_are_the_projects_own_bounds() -> None:
    wanted = requirements(["onnx"])
    assert any(text.startswith("onnxruntime>=") for text in wanted)
    assert any(text.startswith("numpy>=") for text in wanted)
    assert not any("torch" in text or "openvino" in text for text in wanted)
    assert any(text.startswith("openvino>=") for text in requirements(["onnx", "openvino"]))
    assert all(" " not in text and "'" not in text for text in wanted)
