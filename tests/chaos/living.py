"""What lives while an upgrade runs: a writer that appends and deletes, started again when it was killed, and its model.

Owns: the writer's process and what must be in the store in the end because of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fct_ray.models.transformation import fit_linear
from tests.chaos import checks
from tests.chaos.decisions import Episode
from tests.chaos.edits import edits, rows_in_the_end
from tests.chaos.processes import Running
from tests.chaos.scenes import NUM_PHOTOS, NUM_ROWS, PAIRS_EVERY, Scene
from tests.chaos.writer import read_diary, write_edits


class Writing:
    """The edits of one episode, from the first to the last."""

    def __init__(self, episode: Episode, scene: Scene, store: Path) -> None:
        """Write their files and begin."""
        self.scene, self.store, self.directory = scene, store, store.with_name("edits")
        kept = range(0, NUM_ROWS, PAIRS_EVERY)
        self.edits = edits(episode.seed, episode.number, first=NUM_ROWS, last=NUM_PHOTOS, kept=kept)
        write_edits(self.directory, self.edits, scene.vectors)
        self.process = self.begin()

    def begin(self) -> Running:
        """Start the writer where it was killed, or at the beginning."""
        arguments = ["-m", "tests.chaos.writer", str(self.store), str(self.directory)]
        self.process = Running(arguments, self.store.with_suffix(".writer.txt"), {"RAY_ADDRESS": self.scene.address})
        return self.process

    def finish(self, patience_s: float) -> list[str]:
        """Let it end. It may have given up after the kill of a Ray process: once more, with nobody killed, it may not."""
        if self.process.wait(patience_s) not in {0, None}:
            self.begin()
        code = self.process.wait(patience_s)
        return [] if code == 0 else [f"the writer ended with {code} undisturbed: {self.process.last_words()}"]

    def check(self) -> list[str]:
        """Exactly the right rows, each transformed, each to be found."""
        vectors = self.scene.vectors
        place = {int(number): position for position, number in enumerate(vectors.ids_N)}
        found = {place[number] for number in checks.stored_ids(self.store)}
        rows, problems = rows_in_the_end(NUM_ROWS, self.edits, read_diary(self.directory), found)
        h = fit_linear(vectors.old_ND, vectors.side_NS, vectors.new_NW)
        with torch.inference_mode():
            wanted_NW = h(torch.from_numpy(vectors.old_ND), torch.from_numpy(vectors.side_NS)).numpy()
        problems += checks.whole(self.store, vectors.ids_N[sorted(rows)].tolist())
        return problems + checks.transformed(self.store, vectors.ids_N, np.asarray(wanted_NW))
