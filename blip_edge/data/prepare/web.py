"""Captions found on the web, with the addresses of their pictures: CC3M, CC12M, SBU.

Formats that are read:

* Conceptual Captions' tables, a pair a line: caption, tab, address, or the other way round.
* BLIP's `ccs_*.json` and `laion_*.json`: rows of `url` and `caption`; or rows of `image` and
  `caption`, whose pictures need no mapping.
* SBU's `sbu-captions-all.json`: `image_urls` and `captions`.

The mapping says where each address was downloaded to. Addresses die: what is not in the mapping, or
not on disk, is left out and listed, but not held against the set.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from blip_edge.data.draft import Draft, Entry, Unavailable
from blip_edge.data.prepare.media import Pictures
from blip_edge.data.prepare.sources import has, load, unknown
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError
from blip_edge.text import clean_caption

__all__ = ["web"]

_Found = tuple[str, str, str | None]  # caption, address or picture, where it was said


def web(
    sources: Sequence[Path], pictures: Pictures, draft: Draft, *, mapping: Mapping[str, str]
) -> None:
    """Write web_train.json."""
    rows = (_rows(path, pictures, mapping) for path in sources)
    draft.rows("web_train.json", chain.from_iterable(rows))


def _rows(path: Path, pictures: Pictures, mapping: Mapping[str, str]) -> Iterator[Entry]:
    read = _documents(path) if path.suffix in (".json", ".jsonl") else _table(path)
    for number, found in enumerate(read):
        where = f"{path}: row {number}"
        try:
            if found is None:
                raise ArtifactError(f"{where} is not a caption and an address with a tab between")
            caption, url, image = found
            if not clean_caption(caption):
                raise ArtifactError(f"{where}: the caption is empty after cleaning")
            yield ({"image": _picture(where, url, image, pictures, mapping), "caption": caption},)
        except ArtifactError as error:
            yield (error,)


def _picture(
    where: str, url: str, image: str | None, pictures: Pictures, mapping: Mapping[str, str]
) -> str:
    name = image or mapping.get(url)
    if name is None:
        raise Unavailable(f"{where}: {url} was not downloaded")
    try:
        return pictures.find(name)
    except ArtifactError as error:
        raise Unavailable(f"{where}: {error}") from None


def _table(path: Path) -> Iterator[_Found | None]:
    """The pairs of a table; None for a line that is none."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                columns = [column.strip() for column in line.split("\t")]
                addresses = [_is_address(column) for column in columns]
                if len(columns) != 2 or not any(addresses):
                    yield None
                else:
                    # An address can be a caption, but then the second column is one too.
                    caption, url = columns if addresses[1] else reversed(columns)
                    yield caption, url, None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as text: {error}") from None


def _documents(path: Path) -> Iterator[_Found | None]:
    value = load(path)
    if has(value, "image_urls", "captions"):
        fields = Fields(value, str(path))
        captions, urls = fields.many("captions", str), fields.many("image_urls", str)
        if len(captions) != len(urls):
            raise ArtifactError(f"{path} has {len(captions)} captions for {len(urls)} addresses")
        yield from ((caption, url, None) for caption, url in zip(captions, urls, strict=True))
    elif isinstance(value, list):
        for row in value:
            yield _pair(row)
    else:
        raise unknown(path, "rows of url and caption, SBU's captions, a table with tabs")


def _pair(row: object) -> _Found | None:
    if not isinstance(row, dict) or not isinstance(row.get("caption"), str):
        return None
    url, image = row.get("url"), row.get("image")
    if isinstance(image, str):
        return row["caption"], "", image
    return (row["caption"], url, None) if isinstance(url, str) else None


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))
