"""What bootstrapping did to a data set, on one page: figures, what stayed and what went, limits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blip_edge.artifact import read_json
from blip_edge.benchmarks.page import picture_uri, write_page
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError

__all__ = ["capfilt_page", "is_bootstrapped"]

_FIGURES = "capfilt.json"
_KINDS = {"web": "Texts of the web", "synthetic": "Texts that the captioner wrote"}


def is_bootstrapped(folder: Path) -> bool:
    """Whether `capfilt` wrote a folder."""
    return (Path(folder) / _FIGURES).is_file()


def capfilt_page(folder: Path, output: Path, *, force: bool = True) -> Path:
    """Write the page of a data set that `capfilt` wrote.

    Raises:
        ArtifactError: its figures cannot be read, or `output` is there and not to be replaced.
    """
    found = read_json(folder / _FIGURES)
    try:
        values = _values(found, Path(folder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder / _FIGURES}: not what capfilt writes ({error!r})") from None
    return write_page("capfilt.html.j2", values, output, force=force)


def _values(found: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    asked = found["recipe"]
    scales = (
        _Scale("probability that text and picture match", 0.0, float(asked["threshold"])),
        _Scale("cosine of their embeddings", -1.0, float(asked["min_itc"])),
        _Scale("confidence of its captioner", 0.0, float(asked.get("min_confidence", 0))),
    )
    kinds = {source: found[source] for source in _KINDS if found[source]["texts"]}
    return {
        "name": folder.name,
        "verdict": _verdict(found, kinds),
        "tiles": _tiles(found, kinds),
        "kinds": [_kind(_KINDS[source], kind, scales) for source, kind in kinds.items()],
        "examples": [
            _examples("Kept, by chance", "yes", found["examples"]["kept"], folder),
            _examples("Dropped, by chance", "no", found["examples"]["dropped"], folder),
        ],
        "limits": _limits(found, kinds),
    }


def _verdict(found: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    parts = [
        f"of {kind['texts']:,} {_KINDS[source][0].lower()}{_KINDS[source][1:]} "
        f"{kind['kept']:,} stay ({_share(kind['noise_ratio'])} dropped)"
        for source, kind in kinds.items()
    ]
    said = f"{found['pictures']:,} pictures: {', '.join(parts)}."
    if found["without_text"]:
        said += f" {found['without_text']:,} pictures are left without a text."
    return said


def _tiles(found: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[dict[str, str]]:
    tiles = [
        {
            "what": _KINDS[source],
            "value": f"{kind['kept']:,}",
            "detail": f"kept of {kind['texts']:,}",
        }
        for source, kind in kinds.items()
    ]
    for source, kind in kinds.items():
        if truth := kind.get("truth"):
            before, after = (_share(truth[key]) for key in ("right", "right_of_kept"))
            detail = f"{_KINDS[source].lower()}, {before} before"
            tiles.append({"what": "Right of what is kept", "value": after, "detail": detail})
            if "roc_auc" in truth:
                detail = f"of the filter, {_KINDS[source].lower()}"
                area = f"{truth['roc_auc']:.3f}"
                tiles.append({"what": "ROC-AUC", "value": area, "detail": detail})
    return tiles


class _Scale(NamedTuple):
    """What a filter or a captioner says of a text, up to 1."""

    name: str
    least: float
    asked: float


def _kind(name: str, kind: Mapping[str, Any], scales: Sequence[_Scale]) -> dict[str, Any]:
    different = kind["diversity"]
    facts = [("texts", f"{kind['texts']:,}"), ("dropped", _share(kind["noise_ratio"]))]
    if truth := kind.get("truth"):
        facts += [
            ("of whose truth is known", f"{truth['known']:,}"),
            (
                "right before, right of what is kept",
                f"{_share(truth['right'])}, {_share(truth['right_of_kept'])}",
            ),
            ("of the right ones kept", _share(truth["kept_of_right"])),
        ]
        if (area := truth.get("confidence_roc_auc")) is not None:
            facts.append(("ROC-AUC of the captioner's confidence", f"{area:.3f}"))
    facts += [
        ("different captions", _share(different["distinct_captions"])),
        (
            "different words, pairs of words",
            f"{_share(different['distinct_1'])}, {_share(different['distinct_2'])}",
        ),
    ]
    counts = (kind["histogram"], kind["itc_histogram"], kind.get("confidence_histogram", ()))
    charts = [_chart(scale, bins) for scale, bins in zip(scales, counts, strict=True) if any(bins)]
    return {"name": name, "charts": charts, "facts": facts}


def _chart(scale: _Scale, counts: Sequence[int]) -> dict[str, Any]:
    """Bars from the scale's least to 1; those of texts that may stay are marked."""
    highest, width = max([*counts, 1]), (1 - scale.least) / len(counts)
    starts = [scale.least + number * width for number in range(len(counts))]
    bins = [
        {
            "height": round(100 * count / highest, 1),
            "stays": start >= scale.asked - width / 2,
            "title": f"{start:.2f} to {start + width:.2f}: {count:,}",
        }
        for start, count in zip(starts, counts, strict=True)
    ]
    ends = f"{counts[0]:,} below {starts[0] + width:.2f}, {counts[-1]:,} above {starts[-1]:.2f}"
    return {"name": scale.name, "least": f"{scale.least:g}", "bins": bins, "spoken": ends}


def _examples(name: str, mark: str, rows: list[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    return {"name": name, "mark": mark, "rows": [_example(row, folder) for row in rows]}


def _example(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    picture, tiny = _picture(folder, str(row["image"]))
    return {
        "picture": picture,
        "tiny": tiny,
        "caption": row["caption"],
        "source": row["source"],
        "said": _said(row),
    }


def _said(row: Mapping[str, Any]) -> str:
    """What the models said of a text, as far as they did."""
    named = {"itm": "", "itc": "cosine ", "confidence": "confidence "}
    return ", ".join(f"{name}{row[key]:.2f}" for key, name in named.items() if key in row)


def _picture(folder: Path, name: str) -> tuple[str | None, bool]:
    """The picture for the page; those in tars are not looked for."""
    dataset = Dataset.open(folder)
    path = dataset.image_path(name)
    return picture_uri(path) if path.is_file() else (None, False)


def _limits(found: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[str]:
    notes = []
    for source, kind in kinds.items():
        truth = kind.get("truth")
        name = _KINDS[source]
        if truth is None or truth["right_of_kept"] is None:
            notes.append(f"{name}: nobody knows how many of those that stay are wrong.")
        else:
            wrong, lost = 1 - truth["right_of_kept"], 1 - (truth["kept_of_right"] or 0.0)
            notes.append(
                f"{name}: {_share(wrong)} of those that stay are wrong, and {_share(lost)} of the "
                "right ones are lost."
            )
    if synthetic := kinds.get("synthetic"):
        alike = 1 - (synthetic["diversity"]["distinct_captions"] or 0.0)
        notes.append(f"{_share(alike)} of the new texts say word for word what another one says.")
    if words := found["disliked"]:
        told = ", ".join(f"{row['word']} ({_share(row['dropped'])})" for row in words)
        notes.append(
            f"What the filter drops more often than chance would, by words: {told}. What pictures "
            "show then becomes rarer in the data, right or wrong."
        )
    notes.append(
        "The captioner and the filter pass their own mistakes on to whoever learns from this."
    )
    return notes


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
