"""METEOR and SPICE: how they are called, and what is said where they cannot be.

The programs themselves are stood in for; `tests/parity/test_metrics.py` runs METEOR where it is.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from blip_edge.errors import MissingExtraError
from blip_edge.metrics import Score, java
from blip_edge.metrics.java import meteor, meteor_missing, spice, spice_missing

SAID = {"b": "A dog runs.", "a": "two cats"}
MEANT = {"a": ["Two cats!"], "b": ["the dog runs", "it's a dog"]}
PLAIN = (
    {0: ["a dog runs"], 1: ["two cats"]},
    {0: ["the dog runs", "it 's a dog"], 1: ["two cats"]},
)

MODULES = [
    "pycocoevalcap",
    *("pycocoevalcap.meteor", "pycocoevalcap.meteor.meteor"),
    *("pycocoevalcap.spice", "pycocoevalcap.spice.spice"),
]

METEOR = """
    class Pipe:
        closed = 0
        def close(self):
            Pipe.closed += 1

    class Process:
        stdout, stderr = Pipe(), Pipe()

    class Meteor:
        called = []
        meteor_p = Process()
        def compute_score(self, gts, res):
            self.called.append((res, gts))
            return 0.4, [0.25, 1]
"""
SPICE = """
    class Spice:
        called = []
        def compute_score(self, gts, res):
            self.called.append((res, gts))
            return 0.3, [{"All": {"f": 0.1}}, {"All": {"f": 0.5}}]
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of the name, whose programs need no Java; returns SPICE's folder."""
    root = tmp_path / "pycocoevalcap"
    for name, code in {"meteor": METEOR, "spice": SPICE}.items():
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
        (root / name / f"{name}.py").write_text(dedent(code))
    (root / "spice" / "lib").mkdir()
    real = [name for name in sys.modules if name.split(".")[0] == "pycocoevalcap"]
    for module in {*real, *MODULES}:
        monkeypatch.setitem(sys.modules, module, ModuleType(module))  # forgotten afterwards
        del sys.modules[module]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    return root / "spice"


def models(folder: Path) -> None:
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (folder / "lib" / name).touch()


def test_meteor_gets_plain_words_and_keeps_the_ids(programs: Path) -> None:
    assert meteor_missing() is None
    assert meteor(SAID, MEANT) == Score(0.4, {"b": 0.25, "a": 1.0})
    module = sys.modules["pycocoevalcap.meteor.meteor"]
    assert module.Meteor.called == [PLAIN]
    assert module.Pipe.closed == 2


def test_spice_gets_plain_words_and_keeps_the_ids(programs: Path) -> None:
    models(programs)
    assert spice_missing() is None
    assert spice(SAID, MEANT) == Score(0.3, {"b": 0.1, "a": 0.5})
    assert sys.modules["pycocoevalcap.spice.spice"].Spice.called == [PLAIN]


@pytest.mark.parametrize("failure", ["ValueError('')", "BrokenPipeError()"])
def test_a_meteor_that_dies_says_so(programs: Path, failure: str) -> None:
    path = programs.parent / "meteor" / "meteor.py"
    path.write_text(path.read_text().replace("return 0.4, [0.25, 1]", f"raise {failure}"))
    with pytest.raises(MissingExtraError, match="METEOR's Java program did not answer"):
        meteor(SAID, MEANT)
    assert sys.modules["pycocoevalcap.meteor.meteor"].Pipe.closed == 2


def test_a_spice_that_dies_says_so(programs: Path) -> None:
    models(programs)
    path = programs / "spice.py"
    failure = "import subprocess; raise subprocess.CalledProcessError(1, ['java'])"
    path.write_text(path.read_text().replace("return 0.3", f"{failure}\n        return 0.3"))
    with pytest.raises(MissingExtraError, match="made for Java 8"):
        spice(SAID, MEANT)


def test_without_models_spice_fetches_nothing(programs: Path) -> None:
    assert meteor_missing() is None
    with pytest.raises(MissingExtraError, match=r"get_stanford_models fetches them"):
        spice(SAID, MEANT)
    assert "pycocoevalcap.spice.spice" not in sys.modules


@pytest.mark.parametrize(("metric", "missing"), [(meteor, meteor_missing), (spice, spice_missing)])
def test_without_java_or_the_package(
    metric: Callable[..., object],
    missing: Callable[[], str | None],
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models(programs)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing() == "there is no java command: install a Java runtime"
    with pytest.raises(MissingExtraError, match="no java command"):
        metric(SAID, MEANT)
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    assert missing() == "pycocoevalcap is not installed: pip install 'blip-edge[metrics]'"
    with pytest.raises(MissingExtraError, match="pycocoevalcap is not installed"):
        metric(SAID, MEANT)


def test_what_cannot_be_scored_is_found_before_anything_is_started() -> None:
    for metric in (meteor, spice):
        with pytest.raises(ValueError, match="no captions"):
            metric({}, {})
        with pytest.raises(ValueError, match="not both"):
            metric({1: "a"}, {2: ["a"]})
