"""Packages as files and folders: fetched by Debian's and npm's own programs, and unpacked.

Nothing is installed, and nothing in a package is run.
"""

import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from blip_edge.errors import ArtifactError, MissingExtraError

__all__ = ["debian", "debian_folder", "npm", "program", "unpack_deb", "unpack_npm"]


def program(name: str, advice: str) -> str:
    """The path of a program.

    Raises:
        MissingExtraError: it is not installed; `advice` says what to do.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingExtraError(f"{name} is not installed; {advice}")
    return path


def debian(package: str, scratch: Path) -> Path:
    """Download Debian's `package`, as a .deb in `scratch`.

    Raises:
        MissingExtraError: this is not a Debian.
        ArtifactError: it cannot be downloaded.
    """
    apt = program("apt-get", f"download Debian's {package} elsewhere and give it with --from")
    _run([apt, "download", package], scratch, f"{package} cannot be downloaded (apt-get update?)")
    return _one(scratch, "*.deb", package)


def npm(package: str, scratch: Path) -> Path:
    """Download npm's `package`, as a .tgz in `scratch`.

    Raises:
        MissingExtraError: npm is not installed.
        ArtifactError: it cannot be downloaded.
    """
    name = program("npm", f"install it, or give the package {package} with --from")
    _run([name, "pack", "--silent", package], scratch, f"{package} cannot be downloaded")
    return _one(scratch, "*.tgz", package)


def unpack_deb(path: Path, folder: Path) -> str:
    """Unpack a .deb below `folder`, and return its version.

    Raises:
        MissingExtraError: dpkg-deb is not installed.
        ArtifactError: it is no Debian package, or is damaged.
    """
    advice = "install Debian's dpkg, or unpack the package and give the folder with --from"
    tool, wrong = program("dpkg-deb", advice), f"{path} is no Debian package, or is damaged"
    version = _run([tool, "--field", str(path.resolve()), "Version"], None, wrong).strip()
    _run([tool, "--extract", str(path.resolve()), str(folder.resolve())], None, wrong)
    return version


def debian_folder(
    package: str, below: Path, pattern: str, given: Path | None, scratch: Path, *, what: str
) -> tuple[Path, str]:
    """The folder `below` in Debian's `package` with files like `pattern`, and its version.

    Args:
        package: its name.
        below: where in it the files are.
        pattern: what they are called.
        given: the package, or a folder unpacked from it; downloaded if None.
        scratch: where it is unpacked.
        what: what the files are, in an error.

    Raises:
        MissingExtraError: a program that downloads or unpacks is not installed.
        ArtifactError: the package cannot be downloaded, or holds no such files.
    """
    version = "unpacked"
    given = debian(package, scratch) if given is None else given
    if given.is_file():
        version, given = unpack_deb(given, scratch / "deb"), scratch / "deb"
    folder = given / below if (given / below).is_dir() else given
    if not any(folder.rglob(pattern)):
        raise ArtifactError(f"{given} holds no {what} of {package}")
    return folder, version


def unpack_npm(path: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> None:
    """Unpack the files of a .tgz whose path in the package is `wanted`.

    Raises:
        ArtifactError: it is no npm package, or is damaged.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                inside = PurePosixPath(member.name).relative_to("package")
                if not member.isfile() or ".." in inside.parts or not wanted(inside):
                    continue
                file = archive.extractfile(member)
                assert file is not None  # it is a file
                (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                (folder / inside).write_bytes(file.read())
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise ArtifactError(f"{path} is no npm package, or is damaged: {error}") from None


def _run(command: Sequence[str], folder: Path | None, wrong: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ArtifactError(f"{wrong}: {said[-1]}")
    return done.stdout


def _one(folder: Path, pattern: str, package: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ArtifactError(f"{package} cannot be downloaded: no {pattern} arrived")
    return found[0]
