import subprocess
import sys


def test_verifying_imports_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from blip_edge.exporters import ExportRecipe, Verification, verify\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_an_attribute_error() -> None:
    import blip_edge.exporters as exporters

    assert not hasattr(exporters, "exprot")
