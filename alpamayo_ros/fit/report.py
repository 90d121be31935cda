"""The verdicts as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alpamayo_ros.bench.figures import table
from alpamayo_ros.fit.devices import GB, GIB
from alpamayo_ros.fit.verdict import MAX_SAMPLES, Model, Need, Verdict
from alpamayo_ros.fit.weights import shapes


def as_json(model: Model, found: Sequence[Verdict]) -> dict[str, Any]:
    """Bytes throughout."""
    parts = shapes(model.config, model.backbone)
    return {
        "model": model.name,
        "unit": "byte",
        "parameters": {name: part.parameters for name, part in parts.items()},
        "verdicts": [
            {
                "device": one.device.name,
                "device_free_bytes": int(one.device.free_bytes),
                "precision": one.precision,
                "weights": {part: one.weights.of(part).name
                            for part in ("vision", "backbone", "expert", "lm_head")},
                "runtime": one.load.runtime,
                "samples": one.load.samples,
                "cameras": one.load.cameras,
                "new_tokens": one.load.new_tokens,
                "fits": one.fits,
                "most_samples": one.most_samples,
                "loaded_bytes": one.need.loaded,
                "peak_bytes": one.need.peak,
                "weight_bytes": dict(one.need.weights),
                "plan_bytes": dict(one.need.plan),
                "usable_without_training": one.weights.is_usable,
                "notes": one.notes,
            }
            for one in found
        ],
    }  # fmt: skip


def by_part(found: Sequence[Verdict]) -> str:
    """A column a precision and runtime, with the samples of the first device."""
    first = [one for one in found if one.device is found[0].device]
    head = ["GiB", *(f"{one.precision} {one.load.runtime}" for one in first)]
    names = list(dict.fromkeys(name for one in first for name in _parts(one.need)))
    rows = [[name, *(f"{_parts(one.need)[name] / GIB:.2f}" for one in first)] for name in names]
    rows.append(["loaded", *(f"{one.need.loaded / GIB:.2f}" for one in first)])
    rows.append(["peak", *(f"{one.need.peak / GIB:.2f}" for one in first)])
    rows.append(["peak in GB", *(f"{one.need.peak / GB:.2f}" for one in first)])
    return table(head, rows)


def _parts(need: Need) -> dict[str, int]:
    return {**need.weights, **need.plan}


def by_device(found: Sequence[Verdict]) -> str:
    """A row a device: the most samples that fit, or what is missing."""
    columns = list(dict.fromkeys((one.precision, one.load.runtime) for one in found))
    cells = {(one.device, one.precision, one.load.runtime): _cell(one) for one in found}
    head = ["samples that fit", "free GiB", *(" ".join(column) for column in columns)]
    rows = [
        [device.name, f"{device.free_bytes / GIB:.1f}",
         *(cells[device, precision, runtime] for precision, runtime in columns)]
        for device in dict.fromkeys(one.device for one in found)
    ]  # fmt: skip
    return table(head, rows)


def _cell(one: Verdict) -> str:
    mark = "" if one.weights.is_usable else "*"
    if one.fits:
        more = "+" if one.most_samples == MAX_SAMPLES else ""
        return f"{one.most_samples}{more}{mark}"
    return f"lacks {(one.need.peak - one.device.free_bytes) / GIB:.1f}{mark}"


def prices(found: Sequence[Verdict]) -> str:
    """A line a precision, and the devices' own."""
    lines = list(dict.fromkeys(f"{one.precision}: {note}" for one in found for note in one.notes))
    if not all(one.weights.is_usable for one in found):
        lines.append("* it fits, and drives nothing: see its price above")
    return "\n".join(lines)
