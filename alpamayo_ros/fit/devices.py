"""Memory of the devices that people run this on."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3
GB = 1000**3


@dataclass(frozen=True, slots=True)
class Device:
    """What its own tools report, in GiB; makers print the same number as GB, or a larger one."""

    name: str
    memory_gib: float
    reserved_gib: float  # the system's: on Jetson it shares the memory with everything else
    has_fp8: bool  # matrix units for it; as a way to store weights it works anywhere
    is_jetson: bool = False

    @property
    def free_bytes(self) -> float:
        """For a planner."""
        return (self.memory_gib - self.reserved_gib) * GIB


# Reserved: what a driver keeps on a headless card; on Jetson the system, ROS and four cameras.
_CARD, _JETSON = 0.3, 2.0
DEVICES = (
    Device("RTX 3080 10 GB", 10.0, _CARD, False),
    Device("RTX 3080 12 GB", 12.0, _CARD, False),
    Device("RTX 3090", 24.0, _CARD, False),
    Device("RTX 4090", 24.0, _CARD, True),
    Device("A100 40 GB", 40.0, _CARD, False),
    Device("A100 80 GB", 80.0, _CARD, False),
    Device("H100 80 GB", 79.6, _CARD, True),
    Device("H200 141 GB", 140.4, _CARD, True),
    Device("Orin Nano 8 GB", 7.4, _JETSON, False, True),
    Device("Orin NX 16 GB", 15.3, _JETSON, False, True),
    Device("AGX Orin 64 GB", 61.4, _JETSON, False, True),
    Device("Thor 128 GB", 122.8, _JETSON, True, True),
)
