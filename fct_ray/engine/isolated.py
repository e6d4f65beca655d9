"""A task in a process of its own, for tasks that have ended a shared worker before: how the process ends is seen.

Ray knows that a worker process is gone, but not its exit code, and would try again for ever. Here the worker survives
its task, tells the exit code or the signal, and the tasks beside it are not disturbed. Starting the process takes
seconds, so only second attempts run this way.

Owns: the process, and the pipe by which its outcome comes back. It ends when its parent does, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from fct_ray.engine.border import Answer, Failure, outcome_of
from fct_ray.plan.failures import ATTEMPTS, ended_worker

_CONTEXT = multiprocessing.get_context("spawn")


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Answer[Any] | Failure:
    """The outcome of `function(*arguments)` in a process of its own; a Failure once that ended `ATTEMPTS - 1` times."""
    exit_codes = []
    for _ in range(ATTEMPTS - 1):
        receiving, sending = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_run, args=(sending, function, arguments), daemon=True)
        process.start()
        sending.close()
        try:
            outcome: Answer[Any] | Failure = receiving.recv()
        except (EOFError, OSError):
            process.join()
            exit_codes.append(process.exitcode or 0)
        else:
            process.join()
            return outcome
    return Failure(ended_worker(exit_codes))


def _run(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sending.send(outcome_of(function, *arguments))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
