"""Without the model's libraries its tests are not read; test_libraries.py says so as a skip."""

from __future__ import annotations

import importlib.util
from pathlib import Path

LIBRARIES = ("torch", "transformers", "safetensors", "tokenizers")
missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
if missing:
    collect_ignore = [
        path.name for path in Path(__file__).parent.glob("test_*.py")
        if path.name != "test_libraries.py"
    ]  # fmt: skip
