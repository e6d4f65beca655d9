"""The border that every task crosses on its way into a worker and back: what must be set first, and errors as values.

    driver --> [ worker: prepare_process() --> outcome_of(function, ...) ] --> Answer or Failure --> driver

Ray wraps and rewords what a task raises. An error of our own tree therefore travels as a value, and any other error
becomes an IncompleteRunError that says what was raised and where. Owns: that translation, in both directions.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
import ray.exceptions

from fct_ray import errors
from fct_ray.errors import FctRayError, IncompleteRunError

logger = logging.getLogger(__name__)
ValueT = TypeVar("ValueT")
BEFORE_TORCH = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Makes compute threads that wait sleep instead of spin; OpenMP reads it when torch or faiss is first imported.

Two spinning threads beside another busy process on 2 cores made training 4 to 10 times slower.
"""
NODE_ID = "FCT_RAY_NODE_ID"
"""The environment variable from which receipts take the node: `shards/` must not ask Ray."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[ValueT]):
    """What a task returned."""

    value: ValueT


@dataclass(frozen=True, slots=True)
class Failure:
    """What a task raised, as an error of our own tree."""

    error: FctRayError


def set_before_torch() -> None:
    """Set `BEFORE_TORCH` in this process and its children, unless the user set something else."""
    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)


def prepare_process() -> None:
    """Set what a worker process needs before it unpickles, and so imports, a task's function."""
    set_before_torch()
    os.environ[NODE_ID] = ray.get_runtime_context().get_node_id()


def outcome_of(function: Callable[..., ValueT], *arguments: Any) -> Answer[ValueT] | Failure:
    """Call `function(*arguments)`; an error that it raises is returned.

    A call of `sys.exit` ends the process at once: Ray does not restart an actor that leaves by its own wish.
    """
    try:
        return Answer(function(*arguments))
    except FctRayError as error:
        return Failure(_ours(error))
    except SystemExit as wish:
        os._exit(wish.code if isinstance(wish.code, int) else wish.code is not None)
    except Exception as error:  # the border: what Ray makes of it says nothing to a user
        logger.exception("a worker failed")
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"a worker failed: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return Failure(IncompleteRunError(text))


def error_named(name: str, text: str) -> FctRayError:
    """The error of our own tree with this class name; IncompleteRunError where there is none."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, FctRayError):
        return kind(text)
    return IncompleteRunError(text)


def worker_error(error: BaseException) -> FctRayError:
    """The error of our own tree inside what Ray raised; anything else as IncompleteRunError with its last line."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)
        if isinstance(cause, FctRayError):
            return cause
        if isinstance(seen, FctRayError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = cause if isinstance(cause, BaseException) else seen.__cause__
    last_line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return IncompleteRunError(f"a worker failed: {last_line}; finished shards are kept, run the same command to resume")


def _ours(error: FctRayError) -> FctRayError:
    """The error with a class that the driver is sure to know: a user's code may derive its own from ours."""
    known = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return error if type(error).__name__ == known else error_named(known, str(error))
