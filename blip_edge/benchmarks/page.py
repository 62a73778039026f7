"""A page that is one file: a template, the style that all pages have, and pictures inside it."""

import base64
from collections.abc import Mapping
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

from blip_edge import __version__
from blip_edge.artifact import write_text
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import open_image

__all__ = ["picture_uri", "write_page"]

_LARGEST = 480  # pixels of a picture's longer side on the page
_TINY = 128  # below it a picture is enlarged without smoothing, so that its pixels stay visible


def write_page(template: str, values: Mapping[str, Any], output: Path, *, force: bool) -> Path:
    """Fill a template of this package with `values`, `css` and `version`, and write it to `output`.

    Raises:
        ArtifactError: `output` is there and not to be replaced, or cannot be written.
    """
    from jinja2 import Environment, StrictUndefined  # only a page pays for importing it
    from markupsafe import Markup

    if output.exists() and not force:
        raise ArtifactError(f"{output} already exists; pass --force to replace it")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    css = Markup(_file("page.css").rstrip())
    text = environment.from_string(_file(template)).render(css=css, version=__version__, **values)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, text)
    except OSError as error:
        raise ArtifactError(f"{output} cannot be written: {error.strerror or error}") from None
    return output


def picture_uri(path: Path) -> tuple[str, bool]:
    """A picture as an address that holds it, made smaller; and whether it is tiny.

    Raises:
        ArtifactError: it cannot be decoded.
    """
    picture = open_image(path)
    picture.thumbnail((_LARGEST, _LARGEST))
    out = BytesIO()
    picture.save(out, format="PNG", optimize=True)
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return f"data:image/png;base64,{data}", max(picture.size) <= _TINY


def _file(name: str) -> str:
    return resources.files("blip_edge.benchmarks").joinpath(name).read_text(encoding="utf-8")
