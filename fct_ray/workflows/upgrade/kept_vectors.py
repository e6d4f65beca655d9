"""Which new embeddings a version keeps as they are, and which of them may be in the gallery while it is judged.

                                              published    while judging
    pairs that maps are fitted on                 yes           yes
    refined items                                 yes           yes
    pairs that are held out                       yes           no
    what a real query looks for, of any kind      yes           no

Owns: that table. Putting them into vectors is `models/true_vectors`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.models.true_vectors import TrueVectors
from fct_ray.storage.true_vector_files import encode_true_vectors
from fct_ray.workflows.upgrade.pairs import Pairs

TRUE_VECTORS_KEPT = "true vectors kept"
"""How reports call the variant of a way that keeps them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorsToKeep:
    """New embeddings of items that a version keeps as they are."""

    published: TrueVectors
    """All that are known."""
    judging: TrueVectors
    """Without those of held-out pairs and of what real queries look for: so that no way looks better than it is."""

    def to_bytes(self) -> bytes:
        """The file that lies beside the model of the version."""
        true = self.published
        return encode_true_vectors(true.ids_T, true.old_crc32_T, true.new_TW)


def vectors_to_keep(
    pairs: Pairs, refined: Pairs, *, held_out_P: npt.NDArray[np.bool_], looked_for: npt.NDArray[np.int64]
) -> VectorsToKeep:
    """Those of all pairs and refined items; `looked_for` are the ids that real queries look for."""
    every = pairs.with_more(refined)
    published = TrueVectors.of(every.ids_P, every.old_PD, every.new_PW)
    withheld = np.concatenate([pairs.ids_P[held_out_P], looked_for])
    return VectorsToKeep(published=published, judging=published.without(withheld))
