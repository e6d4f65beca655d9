"""Where an upgrade's pairs come from, decided once, when it is planned: a file that the user brings, or raw items.

Owns: the two origins, which of them the settings mean, and how many pairs there will be. Collecting them is `pairs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.errors import SettingsError
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.plan.checks import MIN_GATE_PAIRS, check_pair_counts
from fct_ray.plan.splits import gate_mask
from fct_ray.shards.encoder_names import EncoderChoice, EncoderSpec, why_not
from fct_ray.shards.model_directory import open_encoder
from fct_ray.storage import documents, objects
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.pairs import PairsFile
from fct_ray.values import Manifest
from fct_ray.workflows.upgrade.settings import UpgradeSettings

PAIRS_SHARE, PAIRS_LEAST, PAIRS_MOST = 0.1, 500, 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsFromFile:
    """The new model's embeddings of a sample of the gallery's ids, in a Parquet file."""

    uri: str
    given: PairsFile
    sha256: str
    """The hash of the file as it was when the upgrade was planned."""

    @property
    def identity(self) -> str:
        """What decides the pairs; part of a run's identity."""
        return self.sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsFromEncoder:
    """Raw items of a sample of the gallery, to be embedded by the new encoder."""

    source: str
    encoder: EncoderSpec
    opened: BatchEncoder
    asked: int | None
    """How many the user asked for. None: see `num_pairs`."""

    @property
    def identity(self) -> str:
        """What decides the pairs; part of a run's identity."""
        return f"{self.source} {self.asked}"


PairOrigin = PairsFromFile | PairsFromEncoder


def pair_origin(settings: UpgradeSettings, choice: EncoderChoice) -> PairOrigin:
    """The one origin of the pairs that the settings name; a file of pairs is read.

    Raises:
        SettingsError: they name none or both, or an encoder that is only a name is to embed raw items.
        FormatError: the file of pairs lacks columns, or a value in it cannot be used.
    """
    if settings.pairs is not None and settings.source is not None:
        raise SettingsError("both --pairs and --source are given; want one origin of the pairs: leave one out")
    if settings.pairs is not None and settings.num_pairs is not None:
        raise SettingsError(
            f"--num-pairs {settings.num_pairs} is given with --pairs: all pairs of the file are used; leave --num-pairs out"
        )
    if settings.pairs is not None:
        given = pair_files.read_pairs(settings.pairs)
        sha256 = documents.sha256_hex(objects.read_bytes(settings.pairs))
        return PairsFromFile(uri=settings.pairs, given=given, sha256=sha256)
    if settings.source is None:
        raise SettingsError("no pairs: give --pairs FILE (id, embedding of the new model) or --source with raw items")
    if choice.uri is None:
        raise SettingsError(
            f"encoder {settings.encoder!r} {why_not(choice)}, so it cannot embed --source: give a model directory, "
            "package.module:factory or a pretrained model, or bring its embeddings with --pairs"
        )
    return PairsFromEncoder(
        source=settings.source, encoder=choice.uri, opened=open_encoder(choice.uri), asked=settings.num_pairs
    )


def num_pairs(origin: PairOrigin, parent: Manifest) -> int:
    """How many pairs there will be: those of the file; else as many as asked for, or 10 % of the gallery, 500 to 20,000."""
    if isinstance(origin, PairsFromFile):
        return len(origin.given.ids)
    if origin.asked is not None:
        return origin.asked
    return min(parent.num_rows, max(PAIRS_LEAST, min(PAIRS_MOST, round(parent.num_rows * PAIRS_SHARE))))


def check_num_pairs(origin: PairOrigin, parent: Manifest, settings: UpgradeSettings) -> None:
    """Refuse, before anything is embedded, pairs that the gallery does not have or that are too few to judge by.

    Raises:
        SettingsError: says how many there are, and how many are wanted.
    """
    if isinstance(origin, PairsFromFile):
        count = len(origin.given.ids)
        num_held_out = round(count * settings.gate.share)  # about: which ones it is, the ids say
        if parent.keys is None:
            held_out_P: npt.NDArray[np.bool_] = gate_mask(
                origin.given.ids.to_numpy(), settings.gate.share, settings.seed
            )
            num_held_out = int(held_out_P.sum())
        check_pair_counts(num_fit=count - num_held_out, num_gate=num_held_out)
        return
    wanted, share = num_pairs(origin, parent), settings.gate.share
    if wanted > parent.num_rows:
        raise SettingsError(
            f"--num-pairs is {wanted:,}; version {parent.version} has {parent.num_rows:,} rows: want at most as many"
        )
    if wanted * share < MIN_GATE_PAIRS:
        raise SettingsError(
            f"{wanted:,} pairs, of which the gate holds out a share of {share:g}, leave about {wanted * share:.0f} to judge "
            f"by; want at least {MIN_GATE_PAIRS}: raise --num-pairs or --gate.share"
        )
