"""Recipes: what a stage may be told, as TOML over a frozen dataclass.

A recipe file only overrides the dataclass's defaults, and `--set key=value` only overrides the
file. An unknown key is refused with the nearest known one. Built-in recipes are found by name:
in a checkout beside the package under the stage's folder, in a wheel under `blip_edge/recipes`.
"""

import dataclasses
import inspect
import json
import math
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from blip_edge.errors import UsageError

__all__ = ["as_toml", "find", "load", "names"]

R = TypeVar("R")

_PACKAGE = Path(__file__).parent
_HOMES = (_PACKAGE / "recipes", _PACKAGE.parent)
_STAGES = (
    "train",
    "train/capfilt",
    "distill",
    "distill/students",
    "quantize",
    "exporters",
    "benchmarks",
    "data",
)


def names() -> list[tuple[str, str]]:
    """(stage, name) of every built-in recipe."""
    found = {(stage, path.stem) for stage in _STAGES for path in _files(stage)}
    return sorted(found)


def find(stage: str, name: str | Path) -> Path:
    """The file of a recipe, given by name or by path.

    Raises:
        UsageError: there is none.
    """
    if Path(name).suffix == ".toml":
        if Path(name).is_file():
            return Path(name)
        raise UsageError(f"there is no recipe file {name}")
    known = {path.stem: path for path in _files(stage)}
    if str(name) in known:
        return known[str(name)]
    hint = _nearest(str(name), list(known)) or f"{stage} has {', '.join(sorted(known)) or 'none'}"
    raise UsageError(f"there is no {stage} recipe named {name!r}; {hint}")


def load(
    cls: type[R],
    stage: str,
    name: str | Path | None = None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> R:
    """A recipe of class `cls`: defaults, `base`, then the file, then `key=value` overrides.

    Raises:
        UsageError: the file is missing or not TOML, a key is unknown, or a value is out of range or
            not finite.
    """
    path = None if name is None else find(stage, name)
    values = dict(base or {}) | ({} if path is None else _read(path))
    values |= dict(_override(text) for text in overrides)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            hint = _nearest(key, known) or f"known keys: {', '.join(known)}"
            raise UsageError(f"unknown recipe key {key!r} for {stage}; {hint}")
    try:
        recipe = TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "literal_error":
            close = _nearest(str(first["input"]), re.findall("'([^']*)'", first["ctx"]["expected"]))
            reason += f"; {close}" if close else ""
        raise UsageError(f"{stage} recipe{f' key {where}' if where else ''}: {reason}") from None
    for key in known:
        value = getattr(recipe, key)
        if isinstance(value, float) and not math.isfinite(value):  # no record could hold it
            raise UsageError(f"{stage} recipe key {key}: a finite number is wanted, not {value}")
    return recipe


def as_toml(cls: type[Any], recipe: object | None = None) -> str:
    """`recipe`, or the defaults of `cls`, as TOML with every field's docstring above it."""
    docs = _field_docs(cls)
    lines = [f"# {line}".rstrip() for line in (inspect.getdoc(cls) or "").splitlines()]
    for field in dataclasses.fields(cls):
        value = getattr(recipe, field.name) if recipe is not None else _default(field)
        lines.append("")
        lines += [f"# {line}".rstrip() for line in docs.get(field.name, "").splitlines()]
        unset = value is None or value is dataclasses.MISSING
        lines.append(f"# {field.name} =" if unset else f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _files(stage: str) -> Iterator[Path]:
    for home in _HOMES:
        yield from sorted((home / stage).glob("*.toml"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()  # a bare word is a string


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; only DEL is left, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return str(value)


def _field_docs(cls: type[Any]) -> dict[str, str]:
    """The docstrings written under a dataclass's fields, parents' fields included."""
    import ast  # only `recipe` needs the source, and --help should not pay for it

    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if owner is object or not dataclasses.is_dataclass(owner):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, note in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(note, ast.Expr)
                and isinstance(note.value, ast.Constant)
            ):
                docs[field.target.id] = inspect.cleandoc(str(note.value.value))
    return docs
