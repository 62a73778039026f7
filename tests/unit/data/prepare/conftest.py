"""Small official downloads: files as their owners publish them, and pictures beside them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.data.prepare import Name, prepare

Write = Callable[..., Path]
Prepare = Callable[..., Dataset]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A downloaded file: JSON, with `lines` a document a line, or text as it is."""

    def write(name: str, value: Any, *, lines: bool = False) -> Path:
        path = tmp_path / "downloads" / name
        path.parent.mkdir(exist_ok=True)
        if lines:
            value = "".join(f"{json.dumps(row)}\n" for row in value)
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return write


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """A folder with small pictures of the given names."""

    def pictures(*names: str) -> Path:
        root = tmp_path / "pictures"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), (200, 30, 30)).save(root / name)
        return root

    return pictures


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """What `prepare` makes of downloaded files."""

    def prepared(name: Name, sources: Path | Iterable[Path], **options: Any) -> Dataset:
        given = [sources] if isinstance(sources, Path) else sources
        return prepare(name, given, tmp_path / "data", **options)

    return prepared


def skipped(data: Dataset) -> list[str]:
    """What was left out, and why."""
    path = data.folder / "skipped.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [f"{row['file']}: {row['reason']}" for row in map(json.loads, lines)]
