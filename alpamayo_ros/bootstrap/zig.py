"""A compiler for machines that have none: Zig's clang, as PyPI has it in one wheel."""

from __future__ import annotations

from pathlib import Path

REMEDY = "Or install a compiler (Debian, Ubuntu: `sudo apt install build-essential`)."

# -fno-sanitize: without -O Zig makes undefined behaviour trap.
C_WRAPPER = """#!/bin/sh
exec "{python}" -m ziglang cc -fno-sanitize=undefined "$@"
"""

# Zig links a C++ runtime of its own in; the wheels' libraries have GNU's. An exception of theirs
# that passes through our code ends the process unless both have one runtime: GNU's, named first.
# The wheels need these two libraries, so they are there.
CXX_WRAPPER = """#!/bin/sh
runtime=
for word in "$@"; do
  if [ "$word" = -shared ]; then runtime="-l:libstdc++.so.6 -l:libgcc_s.so.1"; fi
done
exec "{python}" -m ziglang c++ -fno-sanitize=undefined "$@" $runtime
"""


def write_wrappers(venv: Path) -> None:
    """`zig-cc` and `zig-c++`, since CMake takes one program for a compiler."""
    for name, text in (("zig-cc", C_WRAPPER), ("zig-c++", CXX_WRAPPER)):
        script = venv / "bin" / name
        script.write_text(text.format(python=venv / "bin" / "python"), encoding="utf-8")
        script.chmod(0o755)


def compilers(venv: Path) -> dict[str, str]:
    """What CMake reads from its environment."""
    return {"CC": str(venv / "bin" / "zig-cc"), "CXX": str(venv / "bin" / "zig-c++")}
