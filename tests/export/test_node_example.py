"""The Node example says what Python says, token for token.

Its packages are looked for beside it, or in the folder that BLIP_EDGE_NODE_MODULES names.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer

from blip_edge import load
from blip_edge.exporters.asked import pictures

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"
CAPTIONER = Path("blip_edge", "benchmarks", "web", "captioner.mjs")
Node = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """`node(*words)`: the example, run where its packages can be found."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    packages = Path(os.environ.get("BLIP_EDGE_NODE_MODULES", EXAMPLE / "node_modules"))
    for name in json.loads((EXAMPLE / "package.json").read_text())["dependencies"]:
        if not (packages / name).is_dir():
            pytest.skip(f"{name} is not installed; run: npm install --prefix examples/node")
    root = tmp_path_factory.mktemp("node")
    folder = root / "examples" / "node"
    for file in (folder / "caption.mjs", root / CAPTIONER):
        file.parent.mkdir(parents=True)
        shutil.copy(ROOT / file.relative_to(root), file)
    (folder / "node_modules").symlink_to(packages.resolve())

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [program, str(folder / "caption.mjs"), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def bundle(uneven: Path, exported: Callable[..., Path]) -> Path:
    pytest.importorskip("onnxscript")
    return exported(uneven, "onnx", precision="fp32", rows=4, length=44)


def test_expected_pixels_give_pythons_tokens(bundle: Path, node: Node, tmp_path: Path) -> None:
    golden = json.loads((bundle / "golden" / "golden.json").read_text())
    files = [tmp_path / f"{number}.png" for number in range(len(golden))]
    for file, entry in zip(files, golden, strict=True):
        Image.fromarray(np.load(bundle / "golden" / entry["pixels"][0])).save(file)
    _same_words(bundle, node, files)


def test_other_pictures_are_resized_as_pillow_does(
    bundle: Path, node: Node, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, picture in zip(files, pictures(None, 3, seed=7), strict=True):
        picture.save(file)
    _same_words(bundle, node, files)


def _same_words(bundle: Path, node: Node, files: list[Path]) -> None:
    done = node(bundle, *files, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    expected = load(bundle).caption(files, beams=1)
    assert [one["token_ids"] for one in found] == [list(one.token_ids) for one in expected]
    assert [one["caption"] for one in found] == [one.text for one in expected]
    assert len({one.token_ids for one in expected}) > 1, "one caption for all shows little"
    told = node(bundle, *files).stdout.splitlines()
    assert told == [f"{file}\t{one.text}" for file, one in zip(files, expected, strict=True)]


def test_words_are_joined_as_python_joins_them(tmp_path: Path) -> None:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    texts = ["a man's hat", "they do not fly", "don't.", "playing, running?"]
    words = "[UNK] a man ' s hat they do not fly don t . , ? play ##ing run ##n"
    vocabulary = {word: at for at, word in enumerate(words.split())}
    python = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    python.pre_tokenizer, python.decoder = BertPreTokenizer(), WordPieceDecoder()
    python.save(str(tmp_path / "tokenizer.json"))
    ids = [python.encode(text).ids for text in texts]
    assert all(python.token_to_id("[UNK]") not in one for one in ids)
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ Captioner }} from {json.dumps((ROOT / CAPTIONER).as_uri())};
        const tokenizer = JSON.parse(readFileSync("tokenizer.json", "utf8"));
        const manifest = {{ decode: {{ prompt_ids: [] }} }};
        const captioner = new Captioner({{ manifest, tokenizer }});
        console.log(JSON.stringify({json.dumps(ids)}.map((one) => captioner.text(one))));
    """
    command = [program, "--input-type=module", "--eval", script]
    said = json.loads(subprocess.check_output(command, text=True, cwd=tmp_path))
    assert said == [python.decode(one) for one in ids]
    assert said[:3] == ["a man ' s hat", "they do not fly", "don ' t."]


def test_what_it_cannot_run_is_said_in_a_line(bundle: Path, node: Node, tmp_path: Path) -> None:
    assert node(bundle).returncode == 2
    other = tmp_path / "other"
    other.mkdir()
    document = json.loads((bundle / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**document, "target": "coreml"}))
    done = node(other, "a.png")
    assert done.returncode == 3
    assert "--target onnx" in done.stderr and done.stderr.count("\n") == 1
