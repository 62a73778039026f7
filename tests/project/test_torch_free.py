"""What runs on a device runs where torch cannot be imported."""

import subprocess
import sys

import pytest

# A finder that refuses is stronger than an empty sys.modules: submodules are refused too.
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"no {{name}} here", name=name)
sys.meta_path.insert(0, Refuse())
"""
TRAINING = ("torch", "torchvision", "transformers", "accelerate")
OPTIONAL = (*TRAINING, "onnx", "onnxscript", "openvino", "nncf", "coremltools", "scipy", "optimum")


def without(names: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NO_TORCH.format(names=names) + program],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "floor", ["runtime", "data", "data.shapes", "metrics", "evaluation", "benchmarks", "cli"]
)
def test_the_floor_imports_on_a_plain_install(floor: str) -> None:
    done = without(OPTIONAL, f"import blip_edge.{floor}")
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_torch_free_floors_imports_without_torch() -> None:
    program = """
import pkgutil
from importlib import import_module
for floor in ("runtime", "data", "metrics", "evaluation", "benchmarks", "cli"):
    package = import_module(f"blip_edge.{floor}")
    for module in pkgutil.walk_packages(package.__path__, f"blip_edge.{floor}."):
        import_module(module.name)
"""
    done = without(OPTIONAL, program)
    assert done.returncode == 0, done.stderr
