"""What may happen to a model's process, as errors that say what it was and what helps."""

from __future__ import annotations

import builtins
import enum
import signal
from pathlib import Path

from alpamayo_ros.errors import ModelError


class ModelFault(str, enum.Enum):
    """What became of the model's process."""

    HUNG = "hung"  # no answer in time: it was killed
    CRASHED = "crashed"  # by a signal of its own making, such as SIGSEGV
    KILLED = "killed"  # SIGKILL from outside
    OUT_OF_MEMORY = "out_of_memory"  # SIGKILL, and the kernel counted an out-of-memory kill
    EXITED = "exited"  # it ended by itself
    RESTARTING = "restarting"  # not there again yet

    def __str__(self) -> str:
        return self.value


class ModelProcessError(ModelError):
    """A call came to nothing since the model's process was lost, or is not there again yet."""

    def __init__(self, fault: ModelFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class ModelCallError(Exception):
    """A backend raised in its process; its class is made under the name of what was raised."""


def raised_there(name: str, message: str, is_for_users: bool) -> Exception:
    """An exception of the model's process as one of this one, with the same name and words.

    Python's own are of their own class, where a text is all that they take.
    """
    if is_for_users:
        return ModelError(message)
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            error = known(message)
        except TypeError:  # UnicodeDecodeError wants five things
            pass
        else:
            if str(error) == message:  # KeyError quotes what it is given
                return error
    kind = type(name, (ModelCallError,), {})
    made = kind(message)
    assert isinstance(made, ModelCallError)
    return made


def oom_kills() -> int | None:
    """How many processes the kernel has killed for memory since it started; None if untold."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def hung(what: str, limit_s: float, parameter: str) -> ModelProcessError:
    """A call that took longer than it may."""
    return ModelProcessError(
        ModelFault.HUNG,
        f"the model's process hung: {what} took longer than {limit_s:g} s; it was killed and is "
        f"started anew (a slow machine wants a higher {parameter})",
    )


def ended(returncode: int, oom_kills_before: int | None) -> ModelProcessError:
    """A process that is gone, by its return code (negative: the signal's number)."""
    if returncode >= 0:
        return ModelProcessError(
            ModelFault.EXITED,
            f"the model's process ended by itself with exit code {returncode}; its last words are "
            "in the node's log",
        )
    name = _signal_name(-returncode)
    if -returncode != signal.SIGKILL:
        return ModelProcessError(
            ModelFault.CRASHED,
            f"the model's process crashed by {name}; the stack is in the node's log",
        )
    now = oom_kills()
    if now is not None and oom_kills_before is not None and now > oom_kills_before:
        return ModelProcessError(
            ModelFault.OUT_OF_MEMORY,
            "the model's process was killed by the kernel for want of memory: give the machine or "
            "the container more, or choose fewer samples or a smaller model",
        )
    return ModelProcessError(
        ModelFault.KILLED,
        f"the model's process was killed by {name} from outside: a person, a supervisor, or a "
        "container's memory limit",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
