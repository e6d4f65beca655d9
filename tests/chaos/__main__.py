"""Kill until enough is known: seeded episodes one after the other, with a log and a table.

python -m tests.chaos --kills 200 --seed 0 --log chaos.jsonl        make chaos
python -m tests.chaos --episodes 3 17 --seed 0                      those two again
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.chaos.decisions import Episode, episode
from tests.chaos.journal import Journal
from tests.chaos.nodes import cluster_of_nodes
from tests.chaos.play import play
from tests.chaos.scenes import Scene


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Kill processes of upgrades at seeded moments, let them resume, and check that nothing is lost."""

    kills: int = 200
    """End when so many were killed."""
    seed: int = 0
    """Decides everything but the timing of processes."""
    episodes: tuple[int, ...] = ()
    """Only these, however many kills they have."""
    log: Path | None = None
    """Where the lines go, one JSON object each."""


def chaos(settings: Settings, directory: Path) -> Journal:
    """Play episodes until enough kills were done; what they left is in `directory` where something was wrong."""
    journal = Journal(settings.log)
    with cluster_of_nodes() as nodes:
        scene = Scene(directory, nodes.address)
        for played in _episodes(settings):
            left = settings.kills - journal.num_kills
            if left <= 0 and not settings.episodes:
                break
            most = len(played.kills) if settings.episodes else left
            play(played, scene, nodes, directory / f"episode-{played.number}", journal, most)
            print(_line(journal), file=sys.stderr, flush=True)
    return journal


def _episodes(settings: Settings) -> Iterator[Episode]:
    numbers = iter(settings.episodes) if settings.episodes else itertools.count()
    return (episode(settings.seed, number) for number in numbers)


def _line(journal: Journal) -> str:
    last = journal.of("episode")[-1]
    victims = [
        f"{line['victim']} at {line['stage']}" for line in journal.of("kill") if line["episode"] == last["episode"]
    ]
    outcome = "; ".join(last["problems"]) or "as it must"
    return f"[{journal.num_kills} kills] episode {last['episode']}, {last['wall_s']} s: {', '.join(victims)}: {outcome}"


def main() -> None:
    """Play, print the table, exit with 1 if anything was wrong."""
    settings = tyro.cli(Settings)
    logging.getLogger("ray").setLevel(logging.ERROR)
    directory = Path(tempfile.mkdtemp(prefix="chaos-stores-"))
    journal = chaos(settings, directory)
    print(journal.table())
    for problem in journal.problems():
        print(problem)
    if journal.problems():
        print(f"stores and outputs: {directory}")
        raise SystemExit(1)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
