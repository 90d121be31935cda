"""What a finished step was finished for: a hash in a file, so that a second run can skip it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_PASSED_OVER = {"__pycache__"}


def hash_of(*parts: str) -> str:
    """One hash of several texts; ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(b"%d:" % len(encoded) + encoded)
    return digest.hexdigest()


def files_below(folders: Iterable[Path]) -> list[Path]:
    """Every file below the folders that exist, sorted, without what Python caches."""
    return sorted(
        file
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".pyc" and not _PASSED_OVER & set(file.parts)
    )


def hash_of_contents(root: Path, paths: Iterable[Path]) -> str:
    """Hash of the names and contents of files, and of the files below folders; absent ones pass."""
    paths = list(paths)
    files = [path for path in paths if path.is_file()]
    files += files_below(path for path in paths if path.is_dir())
    named = ((str(file.relative_to(root)), file.read_bytes().hex()) for file in sorted(files))
    return hash_of(*(part for pair in named for part in pair))


def hash_of_names(root: Path, folders: Iterable[Path]) -> str:
    """Hash of which files there are below the folders, whatever is in them."""
    return hash_of(*(str(file.relative_to(root)) for file in files_below(folders)))


class Stamps:
    """Hashes of finished steps, one file a step in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, step: str) -> str | None:
        try:
            return (self.folder / step).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def matches(self, step: str, key: str) -> bool:
        return self.read(step) == key

    def write(self, step: str, key: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / (step + ".partial")
        partial.write_text(key, encoding="utf-8")
        partial.replace(self.folder / step)

    def drop(self, step: str) -> None:
        (self.folder / step).unlink(missing_ok=True)

    def begin(self, step: str) -> None:
        """From here until `finish` or `fail`, the step counts as cut off."""
        self.drop(step)
        self.write(step + ".unfinished", "")

    def finish(self, step: str, key: str) -> None:
        self.write(step, key)
        self.drop(step + ".unfinished")

    def fail(self, step: str) -> None:
        """The step ended by itself: what it left is in order, if incomplete."""
        self.drop(step + ".unfinished")

    def was_cut_off(self, step: str) -> bool:
        return self.read(step + ".unfinished") is not None
