"""`alpamayo world faults`: what each fault does to a drive, with and without the safety stage."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from alpamayo_ros.commands.common import Progress, add_json_argument, write_json
from alpamayo_ros.commands.world_drive import kinds_of, seeds_of
from alpamayo_ros.jobs import Machines, cores, in_order

DESCRIPTION = """Inject each fault at 10 m/s into the expert's closed-loop drives.

A fault begins when the vehicle is fast enough and lasts; the drive ends when the vehicle stands, or
20 s later. Each drive is driven twice: with the safety stage, and with plans that reach the
controller unchecked. The controller stops by itself where no plan comes, in both.

example:
  alpamayo world faults --scenarios free,curvy,lead --seeds 1-3 --check
"""
Result = dict[str, Any]
Job = tuple[str, str, int, bool]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to drive."""
    parser.add_argument("--scenarios", default="free,curvy,lead", metavar="LIST",
                        help="as of `world drive` (default free,curvy,lead)")  # fmt: skip
    parser.add_argument("--seeds", default="1-3", metavar="RANGE", help="1-20, or 3,5 (1-3)")
    parser.add_argument("--faults", default="", metavar="LIST", help="some of them (default all)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N",
                        help="processes (default: one a core)")  # fmt: skip
    parser.add_argument("--check", action="store_true",
                        help="exit 1 unless each drive with the stage is clean")  # fmt: skip
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Drive, then print the table."""
    from alpamayo_ros.errors import UserError
    from alpamayo_ros.world.spoilt import FAULTS

    faults = tuple(args.faults.split(",")) if args.faults else FAULTS
    unknown = [fault for fault in faults if fault not in FAULTS]
    if unknown:
        raise UserError(f"no fault {', '.join(unknown)}; --faults takes {', '.join(FAULTS)}")
    kinds, seeds = kinds_of(args.scenarios), seeds_of(args.seeds)
    jobs: list[Job] = [
        (fault, kind, seed, safety)
        for fault in faults for kind in kinds for seed in seeds for safety in (False, True)
    ]  # fmt: skip
    results = _drive_all(jobs, args.jobs or cores())
    rows = {fault: _row([r for r in results if r["fault"] == fault]) for fault in faults}
    write_json(args.json, {"summary": rows, "drives": results})
    if str(args.json) != "-":
        print(table(rows))
    unclean = [r for r in results if r["safety"] and not r["clean"]]
    for r in unclean:
        print(f"{r['fault']} in {r['kind']}-{r['seed']}: {r['ended']}, "
              f"{max(r['worst_outside_m'], 0.0):.2f} m outside its lane")  # fmt: skip
    return 1 if args.check and unclean else 0


class _FaultDrives:
    """Whatever process drives: nothing is loaded for it."""

    def open(self) -> None:
        """Nothing."""

    def do(self, opened: None, item: Job) -> Result:
        """One drive."""
        from alpamayo_ros.world.fault_drive import FaultDrive

        return asdict(FaultDrive(*item).run())

    def close(self, opened: None) -> None:
        """Nothing is held."""


def _drive_all(jobs: Sequence[Job], processes: int) -> list[Result]:
    progress = Progress("driving", len(jobs), "drives")
    results = []
    try:
        for result in in_order(_FaultDrives(), jobs, Machines(min(processes, len(jobs)))):
            results.append(result)
            progress.update(len(results))
    finally:
        progress.close()
    return results


def _row(results: Sequence[Result]) -> dict[str, Any]:
    row: dict[str, Any] = {"drives": len(results) // 2}
    for name, safety in (("without", False), ("with", True)):
        chosen = [r for r in results if r["safety"] == safety]
        row[name] = {
            "clean": sum(r["clean"] for r in chosen),
            "stopped": sum(r["ended"] == "stopped" for r in chosen),
            "drives_on": sum(r["ended"] == "drives on" for r in chosen),
            "worst_outside_m": max(r["worst_outside_m"] for r in chosen),
        }
    noticed = [r["noticed_ms"] for r in results if r["safety"] and r["noticed_ms"] is not None]
    row["noticed_ms"] = max(noticed, default=None)
    return row


def table(rows: dict[str, Any]) -> str:
    """As README.md has it."""
    lines = [
        "| fault at 10 m/s | drives | clean before | clean with it | which then | noticed within |",
        "|---|---|---|---|---|---|",
    ]
    for fault, row in rows.items():
        safe = row["with"]
        then = [f"{safe['stopped']} stop"] if safe["stopped"] else []
        then += [f"{safe['drives_on']} drive on"] if safe["drives_on"] else []
        noticed = f"{row['noticed_ms']:.0f} ms" if row["noticed_ms"] is not None else "-"
        lines.append(
            f"| {fault.replace('_', ' ')} | {row['drives']} | {row['without']['clean']} | "
            f"{safe['clean']} | {', '.join(then)} | {noticed} |"
        )
    return "\n".join(lines)
