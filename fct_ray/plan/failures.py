"""What happens when some of many tasks fail: how long the others go on, and what is said in the end.

    a task fails with an error          it is not tried again
    a task ends its worker process      it is tried ATTEMPTS times in all, then it counts as failed
    a task's worker or node is lost     it is tried again, MOST_LOSSES times at most
    more than most_failures(n) failed   the others are not waited for

Owns: those numbers and the words. Starts nothing and knows no cluster. A task is usually one shard.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.errors import FctRayError, IncompleteRunError

ATTEMPTS = 3
"""How often a task may end its worker process: once beside other work, then in processes of its own."""
MOST_LOSSES = 10
"""How often the worker of one task may be lost for any reason (a preempted node, a worker that Ray ended)."""
FEW_FAILURES, SHARE_OF_FAILURES = 3, 0.01
MOST_TEXTS = 5
_OUT_OF_MEMORY = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
_SHELL_SIGNALS = range(129, 160)
"""Exit codes by which shells and container runtimes say that a signal ended a process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFailure:
    """One failed task, its name for users ("shard 3"), and why."""

    position: int
    name: str
    error: FctRayError


def most_failures(num_tasks: int) -> int:
    """With more failed tasks than this a run stops early: 3, or 1 % of a long run."""
    return max(FEW_FAILURES, int(num_tasks * SHARE_OF_FAILURES))


def failed_together(failures: Sequence[TaskFailure], *, num_tasks: int, num_finished: int) -> FctRayError:
    """One error that names every failed task; its type is that of the failure with the lowest position.

    A task that was alone needs no name: its error is returned unchanged.
    """
    ordered = sorted(failures, key=lambda failure: failure.position)
    if num_tasks == 1:
        return ordered[0].error
    names_of: dict[str, list[str]] = {}
    for failure in ordered:
        names_of.setdefault(str(failure.error), []).append(failure.name)
    texts = [f"{', '.join(names)}: {text}" for text, names in list(names_of.items())[:MOST_TEXTS]]
    left = [name for names in list(names_of.values())[MOST_TEXTS:] for name in names]
    texts += [f"also {', '.join(left)}"] if left else []
    stopped = num_finished + len(ordered) < num_tasks
    head = f"{len(ordered):,} of {num_tasks:,} failed" + (", so the run was stopped early" if stopped else "")
    tail = f"{num_finished:,} of {num_tasks:,} are finished, and what they stored is kept: repair it, run again"
    return type(ordered[0].error)("\n".join([f"{head}. {texts[0]}", *texts[1:]]) + f"\n{tail}")


def ended_worker(exit_codes: Sequence[int]) -> IncompleteRunError:
    """The error of a task that ended its worker once, and then the processes of its own with these exit codes.

    A negative exit code is the signal that ended the process, as Python's `subprocess` says it.
    """
    times = f"it ended its worker process {1 + len(exit_codes)} times"
    ways = ", then ".join(dict.fromkeys(_way(code) for code in exit_codes))
    if _OUT_OF_MEMORY & set(exit_codes):
        advice = (
            "give it more memory: larger nodes, fewer actors on each (--pool.cpus-per-actor), or fewer rows per shard"
        )
    else:
        advice = "the worker's own output says more: run again with --cluster.verbose"
    return IncompleteRunError(f"{times} ({ways}) and was given up; {advice}")


def lost_worker(losses: int) -> IncompleteRunError:
    """The error of a task whose worker, or whose node, was lost again and again while it ran."""
    return IncompleteRunError(
        f"the worker or the node that ran it was lost {losses} times, and it was given up; if these are not preempted "
        "nodes, Ray ends workers where a node's memory is nearly full: use larger nodes, or fewer actors on each"
    )


def _way(code: int) -> str:
    number = -code if code < 0 else code - 128 if code in _SHELL_SIGNALS else None
    if number is None:
        return f"exit code {code}"
    try:
        name = f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        name = f"signal {number}"
    said = f"killed by {name}" if code < 0 else f"exit code {code}, as when killed by {name}"
    return said + (": most likely out of memory" if code in _OUT_OF_MEMORY else "")
