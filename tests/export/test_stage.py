"""What `export` accepts, refuses and leaves behind."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blip_edge import load
from blip_edge.artifact import read_provenance
from blip_edge.errors import ArtifactError, MissingExtraError, ToleranceError, UsageError
from blip_edge.exporters import ExportRecipe, export, stage, verify
from blip_edge.exporters.dynamic_targets import OnnxTarget
from blip_edge.models import load_model
from blip_edge.runtime.sums import write_sums

Exported = Callable[..., Path]

pytest.importorskip("coremltools")  # the target that converts fastest


@pytest.fixture
def bundle(folder: Path, exported: Exported, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(exported(folder, "coreml", precision="fp16"), tmp_path / "bundle"))


def test_an_unknown_target_and_a_precision_it_lacks_are_usage_errors(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="onnx, openvino, coreml, executorch, huggingface"):
        export(folder, tmp_path / "out", target="tflite")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="executorch bundles are fp32, not"):
        recipe = ExportRecipe(precision="fp16")
        export(folder, tmp_path / "out", target="executorch", recipe=recipe)
    with pytest.raises(UsageError, match="48 positions"):
        export(folder, tmp_path / "out", target="coreml", recipe=ExportRecipe(length=49))
    with pytest.raises(UsageError, match="no room after the prompt's 4 tokens"):
        export(folder, tmp_path / "out", target="coreml", recipe=ExportRecipe(length=4))
    assert not (tmp_path / "out").exists()


def test_int8_needs_a_quantized_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="blip-edge quantize"):
        export(folder, tmp_path / "out", target="onnx", recipe=ExportRecipe(precision="int8"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_before_anything_is_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(stage, "version", absent)
    monkeypatch.setattr(OnnxTarget, "packages", {"no_such_package": "onnx"})
    with pytest.raises(MissingExtraError, match=r"pip install 'blip-edge\[onnx\]'"):
        export(folder, tmp_path / "out", target="onnx")
    assert list(tmp_path.iterdir()) == []


def test_precision_follows_the_model(folder: Path, quantized: Path, exported: Exported) -> None:
    assert _manifest(exported(folder, "coreml"))["precision"] == "fp16"
    document = _manifest(exported(quantized, "coreml"))
    assert document["precision"] == "int8"
    assert "weights" in document["notes"][0]


def test_a_missed_gate_keeps_the_bundle_aside(folder: Path, tmp_path: Path) -> None:
    recipe = ExportRecipe(precision="fp16", fp16_psnr=150.0, golden=1)
    with pytest.raises(ToleranceError, match=r"PSNR .* dB \(at least 150.0\)"):
        export(folder, tmp_path / "out", target="coreml", recipe=recipe)
    assert [p.name for p in tmp_path.iterdir()] == ["out.rejected"]
    assert (tmp_path / "out.rejected" / "manifest.json").is_file()


def test_a_decoder_that_forgets_its_cache_is_caught(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blip_edge.exporters.graphs import StaticDecoderGraph

    right = StaticDecoderGraph.forward

    def forgetful(
        self: StaticDecoderGraph, ids: torch.Tensor, place: torch.Tensor, *rest: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        beam_idx, *caches = rest
        return right(self, ids, place, beam_idx * 0, *caches)

    monkeypatch.setattr(StaticDecoderGraph, "forward", forgetful)
    with pytest.raises(ToleranceError, match="logits"):
        export(folder, tmp_path / "out", target="coreml", recipe=ExportRecipe(golden=1))


def test_layers_that_stay_in_float_miss_the_gate(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blip_edge.exporters import coreml

    monkeypatch.setattr(coreml, "_in_integers", lambda tools, program, layers: program)
    with pytest.raises(ToleranceError, match="vision: only 0 of 12 layers run in 8 bits"):
        export(quantized, tmp_path / "out", target="coreml", recipe=ExportRecipe(golden=1))


def test_a_bundle_has_a_card_golden_files_and_its_sizes(bundle: Path) -> None:
    document = _manifest(bundle)
    card = (bundle / "README.md").read_text()
    assert "Core ML (iOS 17" in card and document["source"]["model_sha256"] in card
    golden = json.loads((bundle / "golden" / "golden.json").read_text())
    assert len(golden) == 2
    first = golden[0]
    pixels = np.load(bundle / "golden" / first["pixels"][0], allow_pickle=False)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    logits = np.load(bundle / "golden" / first["arrays"]["logits"], allow_pickle=False)
    prompt = document["decode"]["prompt_ids"]
    assert len(logits) == len(first["said"]) - len(prompt) + 1
    assert document["cache"]["static"] == {"rows": 3, "length": 16}
    assert first["said"][: len(prompt)] == prompt
    origin = read_provenance(bundle)
    assert origin.parents[0]["sha256"] == document["source"]["model_sha256"]
    assert (origin.verb, origin.recipe["precision"]) == ("export", "fp16")


def test_a_static_bundle_refuses_more_beams_than_it_was_built_for(bundle: Path) -> None:
    with pytest.raises(UsageError, match="at most 3 beams"):
        load(bundle).caption(bundle / "golden" / "caption0_0.png", beams=4)


def test_a_smaller_static_decoder_searches_within_its_sizes(
    folder: Path, exported: Exported
) -> None:
    small = exported(folder, "coreml", precision="fp32", rows=1, length=9)
    decode = _manifest(small)["decode"]
    assert (decode["num_beams"], decode["max_length"]) == (1, 9)
    caption = load(small).caption(small / "golden" / "caption0_0.png")
    assert len(caption.token_ids) <= 9


def test_verify_names_its_checks_and_compares_with_the_model(bundle: Path, folder: Path) -> None:
    found = verify(bundle, folder)
    names = [check.name for check in found.checks]
    assert names[:3] == ["checksums", "pixels caption0_0.png", "pixels caption1_0.png"]
    assert {"words of caption", "logits caption0_0.png", "int8 coverage of decoder"} <= set(names)
    assert names[-1] == "logits against the model"
    assert found.passed and found.to_json()["checks"][0]["passed"]


@pytest.mark.parametrize("file", ["tokenizer.json", "decoder.mlpackage/Manifest.json"])
def test_a_changed_file_is_refused(bundle: Path, file: str) -> None:
    path = bundle / file
    path.write_text(path.read_text() + " ")
    with pytest.raises(ArtifactError, match="changed after export"):
        verify(bundle)


def test_verify_fails_when_a_golden_logit_changes(bundle: Path) -> None:
    path = bundle / "golden" / "caption0_logits.npy"
    logits = np.load(path)
    logits[1, 5] += 10.0
    np.save(path, logits)
    write_sums(bundle)
    with pytest.raises(ToleranceError, match=r"1 of \d+ checks failed: logits caption0_0\.png"):
        verify(bundle)


def test_verify_fails_when_a_picture_gives_other_pixels(bundle: Path) -> None:
    path = bundle / "golden" / "caption1_0.npy"
    pixels = np.load(path)
    pixels[3, 3, 0] ^= 1
    np.save(path, pixels)
    write_sums(bundle)
    found = r"pixels caption1_0\.png: largest difference 1 of 255"
    with pytest.raises(ToleranceError, match=found):
        verify(bundle)


def test_verify_fails_against_another_model(bundle: Path, uneven: Path) -> None:
    with pytest.raises(ToleranceError, match="logits against the model"):
        verify(bundle, uneven)


def test_a_hugging_face_folder_opens_with_transformers(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    out = export(folder, tmp_path / "hf", target="huggingface")
    opened = transformers.BlipForConditionalGeneration.from_pretrained(out).eval()
    ours = load_model(folder)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(5, 60, (2, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = opened(pixel_values=pixels, input_ids=ids).logits
        actual = ours.blip.lm_logits(ids, ours.blip.vision_model(pixels))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_what_transformers_cannot_hold_is_refused(
    uneven: Path, quantized: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="same heads and widths in every layer"):
        export(uneven, tmp_path / "hf", target="huggingface")
    with pytest.raises(ArtifactError, match="export the float model"):
        export(quantized, tmp_path / "hf", target="huggingface")
    with pytest.raises(UsageError, match="huggingface folders are fp32, not int8"):
        export(
            uneven,
            tmp_path / "hf",
            target="huggingface",
            recipe=ExportRecipe(precision="int8"),
        )
    assert list(tmp_path.iterdir()) == []


def _manifest(bundle: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return document
