"""What went wrong in a worker, said in our own errors."""

from __future__ import annotations

import ray.exceptions

from fct_ray.errors import FctRayError, IncompleteRunError


def worker_error(error: BaseException) -> FctRayError:
    """The error of our own tree inside what Ray raised; anything else as IncompleteRunError with its last words."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)
        if isinstance(cause, FctRayError):
            return cause
        if isinstance(seen, FctRayError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = cause if isinstance(cause, BaseException) else seen.__cause__
    last_words = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return IncompleteRunError(
        f"a worker failed: {last_words}; finished shards are kept, run the same command to resume"
    )
