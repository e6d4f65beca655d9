"""One episode: an upgrade is started, its processes are killed as decided, it is started again until it ends, and checked.

Owns: the order of effects around kills. Who is killed when is decided in `decisions`, what must hold in the end in
`checks`. A driver may give up after the kill of another process (then the same command resumes); it may not without one.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from tests.chaos import checks
from tests.chaos.decisions import Episode, Kill, Stage, Victim, chosen
from tests.chaos.journal import Journal
from tests.chaos.living import Writing
from tests.chaos.nodes import Nodes, busy_actors, other_workers, workers_below
from tests.chaos.processes import Running, descendants, end
from tests.chaos.scenes import NUM_ROWS, Scene
from tests.chaos.sight import Seen, look, num_verified, receipts, stage_of

LOOK_EVERY_S, LOOK_OFTEN_S = 0.02, 0.002
"""Until the stages that last for moments only: verifying and publishing."""
PATIENCE_S = 240.0
"""A process that needs longer, after the last kill, hangs."""
FIND_S = 10.0
"""How long a victim that is not there yet is waited for."""
MOST_STARTS = 15


def play(episode: Episode, scene: Scene, nodes: Nodes, directory: Path, journal: Journal, most_kills: int) -> None:
    """Play an episode to its end and write down what happened; `most_kills` of its kills at most."""
    kills = episode.kills[:most_kills]
    stage_play = _Play(replace(episode, kills=kills), scene, nodes, directory, journal)
    started_s = time.monotonic()
    try:
        stage_play.run()
        stage_play.check()
    finally:
        stage_play.clear()
        nodes.replace()
        journal.write(
            "episode",
            episode=episode.number,
            setup={name: getattr(episode.setup, name) for name in ("index", "fits", "alone", "living")},
            starts=stage_play.starts,
            gave_up=len(stage_play.gave_up),
            last_words=stage_play.gave_up,
            orphans=stage_play.orphans,
            problems=stage_play.problems,
            wall_s=round(time.monotonic() - started_s, 1),
        )
    if not stage_play.problems:
        shutil.rmtree(directory)


class _Play:
    def __init__(self, episode: Episode, scene: Scene, nodes: Nodes, directory: Path, journal: Journal) -> None:
        self.episode, self.scene, self.nodes, self.journal = episode, scene, nodes, journal
        self.undisturbed = scene.undisturbed(episode.setup)
        directory.mkdir(parents=True)
        self.store = scene.copy(directory / "store")
        self.problems: list[str] = []
        self.gave_up: list[str] = []
        self.starts = self.orphans = 0
        self._reporting = False
        self._kills = deque(episode.kills)
        self._finished: dict[str, int] = {}
        self._driver: Running | None = None
        self._below: list[psutil.Process] = []
        self._writing = Writing(episode, scene, self.store) if episode.setup.living else None

    def run(self) -> None:
        """Start and kill until the upgrade, and the writer, have ended."""
        code: int | None = None
        while code != 0 and not self.problems:
            if self.starts == MOST_STARTS:
                self.problems.append(f"not published after {MOST_STARTS} starts: {self._words()}")
                return
            code = self._attempt()
        if self._writing is not None and not self.problems:
            self.problems += self._writing.finish(PATIENCE_S)

    def check(self) -> None:
        """Hold the store against what must be."""
        if self.problems:
            return
        if self._writing is not None:
            self.problems += self._writing.check()
        else:
            undisturbed = self.undisturbed.store
            self.problems += checks.same_as_undisturbed(self.store, undisturbed)
            self.problems += checks.usage_adds_up(self.store, undisturbed)
            self.problems += checks.whole(self.store, self.scene.vectors.ids_N[:NUM_ROWS].tolist())
        self.problems += checks.not_done_again(self.store, self._finished)
        self.problems += checks.nobody_at_work(self.store)

    def clear(self) -> None:
        """End what is left of the episode's processes."""
        for process in (self._driver, None if self._writing is None else self._writing.process):
            if process is not None and process.code() is None:
                process.kill_with_all_below()
        self.orphans = end(self._below)

    def _alone_and_new(self) -> bool:
        """A Ray of the driver's own may not come up on a machine that is busy with others: once, that is no error."""
        return self.episode.setup.alone and not self.gave_up

    def _attempt(self) -> int:
        """One driver, from its start to its end; returns its exit code (-9 if it was killed)."""
        verified_before, disturbed = num_verified(self.store), self._alone_and_new()
        self.starts += 1
        self._driver = driver = self.scene.driver(self.store, self.episode.setup)
        while driver.code() is None and self._kills:
            kill = self._kills[0]
            if not self._wait_for(driver, kill, verified_before):
                break
            self._below += descendants(driver.pid) if self.episode.setup.alone else []
            disturbed = self._strike(driver, kill, verified_before) or disturbed
            self._kills.popleft()
        code = driver.wait(PATIENCE_S)
        if code is None:
            self.problems.append(f"the driver hangs: {self._words()}")
        elif code > 0 or (code < 0 and not disturbed):
            self.gave_up.append(self._words())
            if not disturbed:
                self.problems.append(f"exit code {code} without a kill: {self._words()}")
        return 1 if code is None else code

    def _wait_for(self, driver: Running, kill: Kill, verified_before: int) -> bool:
        """Wait until a kill is due; False if the driver ends before, or nothing is left to disturb."""
        end_s, due, due_s = time.monotonic() + PATIENCE_S, None, math.inf
        while driver.code() is None and time.monotonic() < end_s:
            stage, now_s = self._stage(driver, verified_before), time.monotonic()
            if due is None and stage.place >= kill.stage.place:
                due, due_s = stage, now_s + kill.moment * self.undisturbed.lengths_s[stage]
            if now_s >= due_s or due not in {None, stage}:
                return True
            if stage is Stage.REPORTING and self._reporting:
                return False
            time.sleep(LOOK_EVERY_S if stage.place < Stage.VERIFYING.place else LOOK_OFTEN_S)
        return False

    def _strike(self, driver: Running, kill: Kill, verified_before: int) -> bool:
        """Kill; False if there was nobody to kill."""
        end_s = time.monotonic() + FIND_S
        while driver.code() is None and time.monotonic() < end_s:
            stage, seen = self._stage(driver, verified_before), self._look(driver)
            before = receipts(self.store)
            name = self._kill(driver, kill)
            if name is None:
                time.sleep(LOOK_EVERY_S)
                continue
            self._finished.update(before)
            self._reporting = self._reporting or stage is Stage.REPORTING
            if self._writing is None and seen.version != 1 and not seen.published:
                self.problems.append(f"CURRENT is version {seen.version} before the end")
            self.journal.write(
                "kill",
                episode=self.episode.number,
                start=self.starts,
                victim=kill.victim,
                name=name,
                wanted=kill.stage,
                stage=stage,
                finished_shards=len(before),
            )
            self._recover(kill)
            return True
        return False

    def _kill(self, driver: Running, kill: Kill) -> str | None:
        """Send the signal; returns who was hit."""
        if kill.victim is Victim.DRIVER:
            driver.kill()
            return "driver"
        if kill.victim is Victim.MACHINE:
            driver.kill_with_all_below()
            return "driver and its Ray"
        if kill.victim is Victim.NODE:
            return self.nodes.lose(chosen(kill.pick, len(self.nodes)))
        if kill.victim is Victim.WRITER:
            if self._writing is None or self._writing.process.code() is not None:
                return None
            self._writing.process.kill()
            return "writer"
        roots = [driver.pid] if self.episode.setup.alone else self.nodes.raylets()
        below = workers_below(roots)
        found = busy_actors(below) if kill.victim is Victim.ACTOR else other_workers(below)
        if not found:
            return None
        process, title = found[chosen(kill.pick, len(found))]
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return title

    def _recover(self, kill: Kill) -> None:
        """What happens after a loss in any cluster: another node comes, a writer is started again."""
        if kill.victim in {Victim.NODE, Victim.WRITER}:
            time.sleep(kill.absence_s)
        if kill.victim is Victim.NODE:
            self.nodes.replace()
        if self._writing is not None and kill.victim is Victim.WRITER:
            self._writing.begin()

    def _look(self, driver: Running) -> Seen:
        return look(self.store, driver.pid)

    def _stage(self, driver: Running, verified_before: int) -> Stage:
        return stage_of(self._look(driver), fits=self.episode.setup.fits, verified_before=verified_before)

    def _words(self) -> str:
        return "" if self._driver is None else self._driver.last_words()
