"""SHA256SUMS: the digest of every file of a bundle, as `sha256sum -c` reads it.

A manifest guards the graphs, which are checked whenever a bundle is opened. This guards the rest,
the manifest and the golden files among it, on devices without Python too.
"""

import re
from pathlib import Path

from blip_edge.artifact import inside, sha256_file, write_text
from blip_edge.errors import ArtifactError

__all__ = ["check_sums", "renew_sum", "write_sums"]

_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_sums(folder: Path) -> None:
    """Note the digests of all files that are in `folder` and in the folders in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _NAME)
    _write(folder, {path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


def renew_sum(folder: Path, name: str) -> None:
    """Note the digest of one file that was rightly changed; nothing where no digests are kept."""
    if (folder / _NAME).is_file():
        _write(folder, _read(folder) | {name: sha256_file(folder / name)})


def check_sums(folder: Path) -> int:
    """How many files there are, all of them as they were written.

    Raises:
        ArtifactError: one is missing or was changed, or the digests were.
    """
    sums = _read(folder)
    for name, digest in sums.items():
        path = inside(folder, name)
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {_NAME} names it, export again")
        if sha256_file(path) != digest:
            raise ArtifactError(
                f"{path} was changed after export: sha256 differs from {_NAME}; export again"
            )
    return len(sums)


def _write(folder: Path, sums: dict[str, str]) -> None:
    write_text(folder / _NAME, "".join(f"{sums[name]}  {name}\n" for name in sums))


def _read(folder: Path) -> dict[str, str]:
    source = folder / _NAME
    try:
        *lines, rest = source.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise ArtifactError(f"{source} is missing; export again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{source} cannot be read: {error}") from None
    matches = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match is not None}
    if rest or len(sums) < len(lines):
        raise ArtifactError(f"{source} was changed after export: not a digest and a name a line")
    return sums
