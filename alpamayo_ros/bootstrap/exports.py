"""Repair of the wheels' CMake exports, which name folders of the machine that built them.

A message package's export lists the include folders of Python and numpy as they were in the build
image, /opt/python/cp311-cp311/…; CMake refuses a target whose include folder does not exist.
"""

from __future__ import annotations

import re
from pathlib import Path

_IMAGE = r"/opt/python/cp3\d+-cp3\d+t?"
PYTHON_INCLUDE = re.compile(_IMAGE + r"/include/python3\.\d+t?(?=[\s;\"')]|$)")
NUMPY_INCLUDE = re.compile(
    _IMAGE + r"/lib/python3\.\d+t?/site-packages/numpy/_?core/include(?=[\s;\"')]|$)"
)


def repair_text(text: str, python_include: str, numpy_include: str) -> str:
    """`text` with both of the build image's include folders replaced by this machine's."""
    # A function, since backslashes in a replacement string would be escapes.
    text = NUMPY_INCLUDE.sub(lambda _: numpy_include, text)
    return PYTHON_INCLUDE.sub(lambda _: python_include, text)


def repair_exports(prefix: Path, python_include: str, numpy_include: str) -> list[Path]:
    """Repair every export below `prefix`/share; returns the files changed. Safe to repeat."""
    changed = []
    for file in sorted(prefix.glob("share/*/cmake/*.cmake")):
        text = file.read_text(encoding="utf-8")
        repaired = repair_text(text, python_include, numpy_include)
        if repaired != text:
            # Not in place: pip may have hard-linked the file to a cache.
            partial = file.with_suffix(".partial")
            partial.write_text(repaired, encoding="utf-8")
            partial.replace(file)
            changed.append(file)
    return changed
