"""Pictures and clips of a data set, found below one folder by the names that annotations give them.

Official annotations and official downloads do not agree on folders: Karpathy's file says
`val2014/COCO_val2014_….jpg` where another download has `train2017/….jpg`. So a picture that is not
where it should be is looked for by its file's name, wherever below the folder it lies.
"""

import os
from pathlib import Path

from blip_edge.artifact import inside
from blip_edge.data.dataset import CLIP_ENDINGS
from blip_edge.errors import ArtifactError

__all__ = ["Clips", "Pictures", "coco_names"]

# Rows about one picture stand close together; web sets have millions of pictures with a row each.
_REMEMBERED = 100_000


class Pictures:
    """The pictures below `root`; without a root every name is taken at its word."""

    sort = "picture"

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.resolve()
        self._found: dict[tuple[str, ...], str] = {}
        self._index: dict[str, list[str]] | None = None

    def find(self, *names: str) -> str:
        """The path below the root of the first of `names` that is there.

        Raises:
            ArtifactError: none is there, several files have the name, or it leaves the root.
        """
        if names not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[names] = self._find(names)
        return self._found[names]

    def _find(self, names: tuple[str, ...]) -> str:
        if self._root is None:
            inside(Path("images"), names[0])
            return names[0]
        names = tuple(self._relative(name) for name in names)
        for name in names:
            if self._is_there(name):
                return name
        for name in names:
            if found := self._elsewhere(name):
                inside(self._root, found)
                return found
        raise ArtifactError(f"there is no {self.sort} {names[0]} below {self._root}")

    def _relative(self, name: str) -> str:
        """`name` below the root; BLIP's own lists of web pictures hold absolute paths."""
        assert self._root is not None
        if Path(name).is_absolute() and Path(name).is_relative_to(self._root):
            name = Path(name).relative_to(self._root).as_posix()
        inside(self._root, name)
        return name

    def _is_there(self, name: str) -> bool:
        assert self._root is not None
        return (self._root / name).is_file()

    def _elsewhere(self, name: str) -> str | None:
        if self._index is None:
            self._index = self._walk()
        found = self._index.get(self._key(Path(name).name) or Path(name).name, [])
        if len(found) > 1:  # the folder's own name may tell them apart
            parent = Path(name).parent.name
            found = [path for path in found if Path(path).parent.name == parent] or found
        if len(found) > 1:
            raise ArtifactError(
                f"{len(found)} files could be the {self.sort} {name}: {found[0]}, {found[1]}"
            )
        return found[0] if found else None

    def _walk(self) -> dict[str, list[str]]:
        assert self._root is not None
        index: dict[str, list[str]] = {}
        for folder, _, names in sorted(os.walk(self._root)):
            below = Path(folder).relative_to(self._root)
            for name in names:
                if key := self._key(name):
                    paths, path = index.setdefault(key, []), (below / key).as_posix()
                    paths += [path] if path not in paths else []
        return index

    def _key(self, name: str) -> str | None:
        return name


class Clips(Pictures):
    """The clips below `root`, named without their files' endings."""

    sort = "clip"

    def _is_there(self, name: str) -> bool:
        assert self._root is not None
        return any((self._root / f"{name}{ending}").is_file() for ending in CLIP_ENDINGS)

    def _key(self, name: str) -> str | None:
        stem, ending = os.path.splitext(name)
        return stem if ending.lower() in CLIP_ENDINGS else None


def coco_names(image_id: int, first: str) -> tuple[str, ...]:
    """`first`, and the other names that the same picture has had: COCO's of 2017 and of 2014."""
    digits = f"{image_id:012d}.jpg"
    others = (digits, f"COCO_train2014_{digits}", f"COCO_val2014_{digits}")
    return (first, *(name for name in others if not first.endswith(f"/{name}")))
