"""Lets torchvision be imported beside a CPU build of torch, which timm and transformers do.

From PyPI it brings no operators for that build, and asks for two of them by name. They are
declared here and never defined: nothing of ours uses them.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

_kept: list[Any] = []  # a torch.library.Library whose last reference goes takes its operators along


def declare_missing() -> None:
    """To be called before timm or transformers is imported; does nothing without torchvision."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        import torch

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
