"""What this distribution says that it needs: its metadata, or pyproject.toml in a checkout."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

__all__ = ["declared", "package_name"]

_NAME = "blip-edge"
_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def declared() -> list[tuple[str, str | None]]:
    """(requirement, extra or None) as the distribution declares them."""
    if _PYPROJECT.is_file():
        project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8")).get("project", {})
        rows: list[tuple[str, str | None]] = [
            (text, None) for text in project.get("dependencies", [])
        ]
        for extra, texts in project.get("optional-dependencies", {}).items():
            rows += [(text, extra) for text in texts]
        return rows
    try:
        texts = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    return [(text, _extra(text)) for text in texts]


def package_name(requirement: str) -> str:
    """`Neural_Compressor[pt]>=3` is of the package `neural-compressor`."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower()
    return re.sub(r"[-_.]+", "-", name)


def _extra(requirement: str) -> str | None:
    found = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
    return found[1] if found else None
