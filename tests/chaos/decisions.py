"""Who is killed, and when: decided by a seed before anything runs.

An episode is one upgrade, from an adopted store to the version that it publishes, in which processes are killed in the
order of its stages until it ends. Owns: which kinds of episodes there are and how often each comes, which victims a stage
has. Knows no process and no clock: a moment is a share of its stage's usual length, a victim a share of a list.
Units: shares from 0 to 1; `_s` seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np


class Stage(StrEnum):
    """How far an upgrade is, as its store shows it; in order."""

    PLANNING = "planning"
    PAIRS = "pairs"
    FITTING = "fitting"
    GATE = "gate"
    STREAMING = "streaming"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"
    REPORTING = "reporting"
    """CURRENT has moved; nothing is left to do but to say so."""

    @property
    def place(self) -> int:
        """Position in the order of stages."""
        return list(Stage).index(self)


class Victim(StrEnum):
    """What is killed, always with SIGKILL."""

    DRIVER = "driver"
    MACHINE = "machine"
    """The driver and every process of its own Ray at once."""
    ACTOR = "actor"
    """An actor that transforms shards, fits, or directs a fit."""
    WORKER = "worker"
    """Any other Ray worker process: it runs a task, keeps Ray's books, or waits."""
    NODE = "node"
    """A raylet and all that runs under it; another node comes some seconds later."""
    WRITER = "writer"
    """The process that appends and deletes while the upgrade runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What kind of upgrade is disturbed, and where it runs."""

    index: str
    fits: bool = False
    """Whether h is fitted by Ray Train; else it is given."""
    alone: bool = False
    """Whether the driver starts a Ray of its own; else it joins the cluster that all episodes share."""
    living: bool = False
    """Whether another process appends and deletes meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One kill: due when the upgrade has come to `stage`, or is beyond it."""

    stage: Stage
    victim: Victim
    moment: float
    """Share of the stage's usual length that passes first."""
    pick: float
    """Which one, as a share of the list of all that could be meant."""
    absence_s: float
    """How long it takes until another node comes, or the writer is started again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One disturbed upgrade; the same seed and number always give the same one."""

    seed: int
    number: int
    setup: Setup
    kills: tuple[Kill, ...]


FLAT, IVF = Setup(index="Flat"), Setup(index="IVF16,Flat")
ROUND = (
    IVF,
    replace(FLAT, living=True),
    FLAT,
    replace(IVF, fits=True),
    IVF,
    replace(IVF, alone=True),
    replace(IVF, living=True),
    FLAT,
)
"""The setups of episodes 0, 1, ... in turn."""
WEIGHTS = {
    Stage.PLANNING: 2,
    Stage.PAIRS: 2,
    Stage.GATE: 2,
    Stage.STREAMING: 6,
    Stage.VERIFYING: 3,
    Stage.PUBLISHING: 3,
}
"""How often a stage is chosen; a setup that fits chooses fitting as often as all the others together."""
VICTIMS = {
    Stage.PLANNING: (Victim.DRIVER, Victim.DRIVER, Victim.NODE),
    Stage.PAIRS: (Victim.DRIVER, Victim.WORKER, Victim.NODE),
    Stage.FITTING: (Victim.DRIVER, Victim.ACTOR, Victim.ACTOR, Victim.NODE),
    Stage.GATE: (Victim.DRIVER, Victim.DRIVER, Victim.NODE),
    Stage.STREAMING: (Victim.DRIVER, Victim.DRIVER, Victim.ACTOR, Victim.ACTOR, Victim.WORKER, Victim.NODE),
    Stage.VERIFYING: (Victim.DRIVER, Victim.WORKER, Victim.NODE),
    Stage.PUBLISHING: (Victim.DRIVER,),
}
LEAST_KILLS, MOST_KILLS = 4, 8
LONGEST_ABSENCE_S = 3.0
WRITER_SHARE = 0.4
"""Of the kills of a living gallery's episodes."""


def episode(seed: int, number: int) -> Episode:
    """Episode `number` of the chaos with this seed."""
    random = np.random.default_rng((seed, number))
    setup = ROUND[number % len(ROUND)]
    stages = sorted(
        (_stage(random, setup) for _ in range(random.integers(LEAST_KILLS, MOST_KILLS, endpoint=True))),
        key=lambda stage: stage.place,
    )
    return Episode(seed=seed, number=number, setup=setup, kills=tuple(_kill(random, setup, stage) for stage in stages))


def _stage(random: np.random.Generator, setup: Setup) -> Stage:
    if setup.fits and random.random() < 0.5:
        return Stage.FITTING
    weights = np.array(list(WEIGHTS.values()), dtype=float)
    return list(WEIGHTS)[int(random.choice(len(weights), p=weights / weights.sum()))]


def _kill(random: np.random.Generator, setup: Setup, stage: Stage) -> Kill:
    victim = VICTIMS[stage][int(random.integers(len(VICTIMS[stage])))]
    if setup.living and random.random() < WRITER_SHARE:
        victim = Victim.WRITER
    if setup.alone and victim in {Victim.NODE, Victim.DRIVER}:
        victim = Victim.MACHINE if random.random() < 0.5 else Victim.DRIVER
    return Kill(
        stage=stage,
        victim=victim,
        moment=float(random.random()),
        pick=float(random.random()),
        absence_s=float(random.random() * LONGEST_ABSENCE_S),
    )


def chosen(pick: float, number: int) -> int:
    """The position that a share of a list of `number` things means."""
    return min(int(pick * number), number - 1)
