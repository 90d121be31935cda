"""How many cases a target gets: a few, always the same, in the suite; `make fuzz`: many new ones.

A case that computes for longer than HANG_S counts as a hang, in Python or in a library's C code; so
does one that waits for ten times as long. A busy machine makes neither.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

CASES = int(os.environ.get("FUZZ_CASES", "0"))
SMALL = 15  # of each target, in the suite
HANG_S, WAITS_S = 60, 600  # the slowest case takes a second
COUNTS: Counter[str] = Counter()

Check = Callable[..., None]


def fuzzed(share: float, **strategies: SearchStrategy[Any]) -> Callable[[Check], Check]:
    """A test of a check on drawn values; `share` of FUZZ_CASES is its part."""

    def decorate(check: Check) -> Check:
        @functools.wraps(check)
        def counted(*args: Any, **drawn: Any) -> None:
            COUNTS[check.__name__.removeprefix("test_")] += 1
            signal.setitimer(signal.ITIMER_PROF, HANG_S)
            signal.alarm(WAITS_S)
            if CASES:
                faulthandler.dump_traceback_later(WAITS_S + 5, exit=True)
            try:
                check(*args, **drawn)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
                if CASES:
                    faulthandler.cancel_dump_traceback_later()

        limits = settings(
            max_examples=max(1, round(CASES * share)) if CASES else SMALL,
            derandomize=not CASES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            report_multiple_bugs=False,
            # Not `explain`: it traces every line, and takes slow cases for hangs.
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        )
        test: Check = limits(given(**strategies)(counted))
        return test

    return decorate


def _hung(number: int, frame: Any) -> None:
    raise AssertionError(f"a case computes for more than {HANG_S} s or waits for {WAITS_S} s")


signal.signal(signal.SIGALRM, _hung)
signal.signal(signal.SIGPROF, _hung)
