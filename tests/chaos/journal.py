"""What happened, as lines of JSON and as a table: one line per kill, one per episode.

Owns: the log's form. `stage` is where the upgrade was when the signal was sent, by what its store showed.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.decisions import Stage, Victim


class Journal:
    """The log of a chaos run."""

    def __init__(self, path: Path | None) -> None:
        """`path` is begun anew; None: nothing is kept in a file."""
        self.lines: list[dict[str, Any]] = []
        self._path = path
        if path is not None:
            path.write_text("")

    def write(self, event: str, **facts: Any) -> None:
        """Add a line."""
        line = {"event": event, **facts}
        self.lines.append(line)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def of(self, event: str) -> list[dict[str, Any]]:
        """All lines of one kind: "kill" or "episode"."""
        return [line for line in self.lines if line["event"] == event]

    @property
    def num_kills(self) -> int:
        """How many were killed so far."""
        return len(self.of("kill"))

    def problems(self) -> list[str]:
        """What was not as it must be, over all episodes."""
        return [f"episode {line['episode']}: {text}" for line in self.of("episode") for text in line["problems"]]

    def table(self) -> str:
        """Victims by stages, then restarts, outcomes and time."""
        counts = Counter((line["victim"], line["stage"]) for line in self.of("kill"))
        stages = [stage for stage in Stage if any(seen == stage for _, seen in counts)]
        lines = ["".join([f"{'victim':10}", *(f"{stage:>12}" for stage in stages), f"{'all':>8}"])]
        for victim in [victim for victim in Victim if any(seen == victim for seen, _ in counts)]:
            row = [counts[victim, stage] for stage in stages]
            lines.append("".join([f"{victim:10}", *(f"{number:12}" for number in row), f"{sum(row):8}"]))
        column = [sum(counts[victim, stage] for victim in Victim) for stage in stages]
        lines.append("".join([f"{'all':10}", *(f"{number:12}" for number in column), f"{sum(column):8}"]))
        return "\n".join([*lines, "", *self._totals()])

    def _totals(self) -> list[str]:
        episodes = self.of("episode")
        starts = sum(line["starts"] for line in episodes)
        gave_up = sum(line["gave_up"] for line in episodes)
        whole = sum(not line["problems"] for line in episodes)
        minutes = sum(line["wall_s"] for line in episodes) / 60
        return [
            f"{self.num_kills} kills in {len(episodes)} episodes, {minutes:.1f} minutes",
            f"{starts} drivers started; {gave_up} of them gave up after the kill of another process",
            f"{whole} of {len(episodes)} episodes ended as they must",
        ]
