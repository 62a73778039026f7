"""Tars of pictures and captions."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

__all__ = ["picture", "write_tar"]


def picture(shade: int) -> bytes:
    """A PNG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (12, 10), (shade % 256, 255 - shade % 256, shade // 256)).save(out, "PNG")
    return out.getvalue()


def write_tar(
    path: Path, samples: Iterable[tuple[str, bytes, str]], *, ending: str = "png"
) -> Path:
    """A tar of (key, picture, caption)."""
    with tarfile.open(path, "w") as archive:
        for key, data, caption in samples:
            for kind, content in ((ending, data), ("json", json.dumps({"caption": caption}))):
                info = tarfile.TarInfo(f"{key}.{kind}")
                raw = content.encode() if isinstance(content, str) else content
                info.size = len(raw)
                archive.addfile(info, io.BytesIO(raw))
    return path
