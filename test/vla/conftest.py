"""Without the model's libraries its tests are not read; test_libraries.py says so as a skip."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARIES = ("torch", "transformers", "safetensors", "tokenizers")
missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
if missing:
    collect_ignore = [
        path.name for path in Path(__file__).parent.glob("test_*.py")
        if path.name != "test_libraries.py"
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread_for_fast(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny kernels gain nothing from threads, and on a busy machine wait for each other."""
    if not request.node.path.name.startswith("test_fast_"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
