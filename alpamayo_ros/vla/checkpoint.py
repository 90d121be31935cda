"""A released folder's safetensors into an empty model: strict, shard by shard, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from alpamayo_ros.digests import file_sha256
from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.model import AlpamayoModel, constants

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
LISTED = 5  # names in an error message; the rest are counted

Place = Callable[[nn.Module, str, Tensor], None]
Progress = Callable[[int, int], None]  # tensors done, tensors in all


@dataclass(frozen=True, slots=True)
class Shards:
    """Which file of a checkpoint holds which tensors."""

    folder: Path
    tensors: Mapping[str, tuple[str, ...]]  # file name -> tensor names

    @property
    def count(self) -> int:
        """Tensors in all."""
        return sum(len(names) for names in self.tensors.values())


def find_shards(folder: Path) -> Shards:
    """The safetensors of a folder by its index, or its single file. Raises ModelError."""
    if not folder.is_dir():
        raise ModelError(
            f"checkpoint folder {folder} does not exist; download the release on a connected "
            "machine (README, Weights) and name its folder in the manifest's `checkpoint`"
        )
    index = folder / INDEX
    if index.exists():
        tensors = _indexed(index)
    elif (folder / SINGLE).exists():
        tensors = {SINGLE: None}
    else:
        pickles = sorted(path.name for kind in PICKLES for path in folder.glob(kind))
        hint = f"; {', '.join(pickles)} may run code when read and is not loaded" if pickles else ""
        raise ModelError(f"{folder} holds neither {INDEX} nor {SINGLE}{hint}")
    missing = [name for name in tensors if not (folder / name).exists()]
    if missing:
        raise ModelError(f"{folder} lacks {_some(missing)}: the download is not complete")
    found: dict[str, tuple[str, ...]] = {}
    for name, listed in tensors.items():
        with _open(folder / name) as file:
            held = tuple(file.keys())
        if listed is not None and set(listed) != set(held):
            wrong = sorted(set(listed) ^ set(held))
            raise ModelError(f"{folder / name} and {INDEX} disagree on {_some(wrong)}")
        found[name] = held
    return Shards(folder, found)


def _indexed(index: Path) -> dict[str, list[str] | None]:
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        files: dict[str, list[str] | None] = {}
        for tensor, file in weight_map.items():
            # A name with folders in it could lead anywhere on the machine.
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise ModelError(f"{index}: {tensor} is in {file!r}, wanted a .safetensors beside")
            listed = files.setdefault(file, [])
            assert listed is not None
            listed.append(tensor)
        return files
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is no index with a weight_map: {error!r}") from error


def single_file(path: Path, without: frozenset[str] = frozenset()) -> Shards:
    """One safetensors file of any name as a checkpoint, less the tensors named."""
    with _open(path) as file:
        names = tuple(name for name in file.keys() if name not in without)
    return Shards(path.parent, {path.name: names})


def check_hashes(shards: Shards, sha256: Mapping[str, str]) -> None:
    """Compare the files that the manifest gives a sha256 for. Raises ModelError."""
    unknown = sorted(set(sha256) - set(shards.tensors))
    if unknown:
        raise ModelError(
            f"the manifest's sha256 names {_some(unknown)}; {shards.folder} has none of them, for "
            "they are another checkpoint's files. Name this folder's in option sha256 (a quantised "
            "one's are in its quantisation.json; `sha256sum` gives any), or set sha256={}"
        )
    for name, wanted in sha256.items():
        found = file_sha256(shards.folder / name)
        if found != wanted.lower():
            raise ModelError(
                f"{shards.folder / name} has sha256 {found}, the manifest says "
                f"{wanted}: it is damaged or another file; download it again"
            )


def load_weights(
    model: AlpamayoModel,
    shards: Shards,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress | None = None,
    place: Place | None = None,
) -> None:
    """Fill an empty model, one tensor in flight at a time.

    Parameters go to `device` as `dtype`; stored constants stay fp32, the codes of quantised layers
    what they are. `place` puts each where it belongs. Raises ModelError naming each tensor that is
    missing, extra, misshapen or not finite, and each shard that cannot be read.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check_names(wanted, shards)
    stored = {name for name, _ in constants(model)}
    codes = _codes(model)
    done = 0
    for name, tensor in _tensors(shards):
        if tuple(tensor.shape) != wanted[name]:
            raise ModelError(
                f"{name} has shape {tuple(tensor.shape)}, the configuration makes it "
                f"{wanted[name]}: wrong config.json, backbone or checkpoint"
            )
        if name in codes and tensor.dtype != codes[name]:
            raise ModelError(
                f"{name} is stored as {_name_of(tensor.dtype)}, its precision makes it "
                f"{_name_of(codes[name])}: another quantisation.json's"
            )
        if name not in codes and not tensor.is_floating_point():
            raise ModelError(
                f"{name} is stored as {_name_of(tensor.dtype)}: quantised or not weights at all, "
                "which this runtime cannot take"
            )
        held = tensor.to(device)
        bad = int((~torch.isfinite(held.float())).sum()) if held.is_floating_point() else 0
        if bad:
            raise ModelError(f"{name} has {bad} values that are not finite: damaged weights")
        kept = held.to(torch.float32 if name in stored else codes.get(name, dtype))
        if kept.is_floating_point() and not torch.isfinite(kept.float()).all():
            raise ModelError(
                f"{name} has values up to {float(held.abs().max()):.3g}, beyond {_name_of(dtype)}: "
                "set option dtype=bfloat16 or float32"
            )
        (place or assign)(model, name, kept)
        done += 1
        if progress is not None:
            progress(done, shards.count)
    model.to(device)  # the constants that no checkpoint holds


def _check_names(wanted: Mapping[str, tuple[int, ...]], shards: Shards) -> None:
    held = [name for names in shards.tensors.values() for name in names]
    held_names = set(held)
    missing = [name for name in wanted if name not in held_names]
    extra = [name for name in held if name not in wanted]
    faults = []
    if missing:
        faults.append(f"lacks {_some(missing)}")
    if extra:
        faults.append(f"holds {_some(extra)}, which the model does not have")
    if len(held) != len(held_names):
        twice = [name for name in held_names if held.count(name) > 1]
        faults.append(f"holds {_some(sorted(twice))} in more than one file")
    if faults:
        raise ModelError(f"checkpoint {shards.folder} {'; it '.join(faults)}")


def _tensors(shards: Shards) -> Iterator[tuple[str, Tensor]]:
    for file_name, names in shards.tensors.items():
        with _open(shards.folder / file_name) as file:
            for name in names:
                yield name, file.get_tensor(name)


def _open(path: Path) -> safe_open:
    """Opening reads the header and checks it against the file's length."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"cannot read {path}: {error}; it is truncated or no safetensors file, download it "
            "again"
        ) from error


def _codes(model: nn.Module) -> dict[str, torch.dtype]:
    """Types of the tensors that quantised layers consist of, by name."""
    return {
        f"{owner}.{leaf}": kind
        for owner, module in model.named_modules()
        for leaf, kind in getattr(module, "stored", {}).items()
    }


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor under its name, as a buffer or a parameter."""
    owner_name, _, leaf = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    if leaf in owner._buffers:
        owner._buffers[leaf] = tensor
    else:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _some(names: list[str]) -> str:
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
