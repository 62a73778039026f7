"""What travels to another machine: all that a bundle is made of, under names of our own."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from blip_edge.benchmarks import BenchRecipe
from blip_edge.benchmarks.devices.baggage import Baggage, check_bundles, requirements
from blip_edge.benchmarks.job import Job
from blip_edge.errors import ArtifactError
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
    images = (bundle / "golden" / "a.png", bundle / "golden" / "b.png")
    return Job(bundles=(bundle,), images=images, recipe=BenchRecipe(runs=3), threads=2)


def test_a_bundle_arrives_whole_under_other_names(bundle: Path, tmp_path: Path) -> None:
    files = packed(job_of(bundle))
    assert not [name for name in files if "toy" in name or "$" in name]
    for name, data in files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(data)
    job = Job.from_json(json.loads(files["job.json"]), tmp_path / "there")
    check_bundles(job.bundles)
    assert [image.read_bytes() for image in job.images] == [
        image.read_bytes() for image in job_of(bundle).images
    ]
    assert (job.recipe.runs, job.threads) == (3, 2)


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
