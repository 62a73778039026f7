"""Exit codes are a promise to scripts, and a missing package says what to install."""

from pathlib import Path

import pytest

from blip_edge import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.BlipEdgeError, 1),
        (errors.UsageError, 2),
        (errors.ArtifactError, 3),
        (errors.MissingExtraError, 4),
        (errors.ToleranceError, 5),
    ],
)
def test_each_failure_has_its_exit_code(kind: type[errors.BlipEdgeError], code: int) -> None:
    assert kind("why").exit_code == code
    assert issubclass(kind, errors.BlipEdgeError)


def test_a_package_that_is_there_is_imported() -> None:
    assert errors.import_extra("json", "train").dumps([1]) == "[1]"


def test_a_package_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'blip-edge\[coreml\]'"):
        errors.import_extra("no_such_package_at_all", "coreml")


def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installing the extra again would not help somebody whose package lacks a part of its own."""
    (tmp_path / "half_installed.py").write_text("import something_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        errors.import_extra("half_installed", "coreml")
