"""The errors of this package: one small tree, every error picklable, every message with a next action.

A message says the value seen, the value wanted and what to do next. Errors cross process borders (Ray
actors raise them, the driver shows them), so an error holds nothing but its message.
"""


class FctRayError(Exception):
    """Root of every error that this package raises on purpose."""


class SettingsError(FctRayError):
    """A setting is wrong or settings contradict each other; found before any work starts."""


class StoreError(FctRayError):
    """The store, or an object of it, is missing, damaged, or not what its manifest says."""


class NotFoundError(StoreError):
    """An object that should be there is not; the message has its URI."""


class FormatError(StoreError):
    """A document or a Parquet file does not have the format of the store; the message has its URI."""


class DataError(StoreError):
    """Values inside a shard are unusable (NaN, infinite, duplicate ids); the message has shard and row."""


class PublishConflictError(StoreError):
    """CURRENT moved since this run pinned it; nothing of the other publisher was overwritten."""


class LeaseHeldError(StoreError):
    """Another living process works on the same thing; nothing was changed."""


class ModelError(FctRayError):
    """A model file is missing, damaged, or fitted for other encoders than the ones at hand."""


class EncoderMismatchError(ModelError):
    """Queries of this encoder cannot search this version."""


class GateRefusedError(FctRayError):
    """The gate refused the transformation: nothing was published."""


class SourceError(FctRayError):
    """Raw items cannot be found or read."""


class FitError(FctRayError):
    """Fitting a model failed or diverged."""


class IncompleteRunError(FctRayError):
    """A run ended without all of its shards; run it again to resume."""
