"""torch and transformers, imported when the model is, with the remedy where they are missing."""

from __future__ import annotations

import importlib.util
import os

from alpamayo_ros import torchvision_operators
from alpamayo_ros.errors import ModelError

TRANSFORMERS_AT_LEAST = (5, 20)
TRANSFORMERS_BELOW = (6, 0)


def require_torch() -> None:
    """Raises ModelError where torch or safetensors is not installed."""
    missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(_remedy(", ".join(missing)))


def require_transformers() -> None:
    """Raises ModelError where transformers is missing or too old. Keeps it off the network."""
    # Read when transformers is first imported; nothing here may ask a hub for anything.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    require_torch()
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(_remedy("transformers"))
    torchvision_operators.declare_missing()
    import transformers

    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if not TRANSFORMERS_AT_LEAST <= version < TRANSFORMERS_BELOW:
        low, high = (".".join(map(str, v)) for v in (TRANSFORMERS_AT_LEAST, TRANSFORMERS_BELOW))
        raise ModelError(
            f"transformers {transformers.__version__} is not supported, {low} or newer and below "
            f"{high} is needed: pip install --upgrade 'alpamayo_ros[vla]'"
        )


def _remedy(missing: str) -> str:
    return f"the Alpamayo model needs {missing}: pip install 'alpamayo_ros[vla]'"
