"""Descriptions of Debian packages: short ones (queries) and long ones (documents), with the archive's section as label.

Owns: fetching the lists through apt into a folder of our own, reading them, and which packages are kept. The kept texts
are written once (`texts-v1.jsonl`), in an order that is random and fixed, so that the first N documents are a sample.
Knows no model.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fct_ray.errors import SourceError
from fct_ray.sources.debian import APT_OPTIONS

KEPT = "texts-v1.jsonl"
"""The kept texts; raise the version when reading, cleaning or order change."""
MIN_CHARACTERS = 80
"""Shorter long descriptions say too little to be found."""
VIEWED_CHARACTERS = 400
"""No case shows more of a document to a model."""
HEAD_CHARACTERS = 60
"""Documents are compared where the first characters of one stand in another."""
ORDER_SEED = 0
APT_HELPER = "/usr/lib/apt/apt-helper"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageText:
    """One package: its description in a few words, and at length (paragraphs joined)."""

    name: str
    section: str
    short: str
    long: str


def package_texts(directory: Path) -> list[PackageText]:
    """The kept texts, in their fixed random order; made below `directory` if they are not there.

    Raises:
        SourceError: there is no apt here, or it reaches no mirror.
    """
    path = directory / KEPT
    if not path.is_file():
        lists = directory / "lists"
        if not any(lists.glob("*_Translation-en*")):
            _fetch_lists(directory)
        texts = list(distinct_texts(_read_lists(lists)))
        order = np.random.default_rng(ORDER_SEED).permutation(len(texts))
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(asdict(texts[index])) + "\n" for index in order), encoding="utf-8")
        partial.replace(path)
    with path.open(encoding="utf-8") as lines:
        return [PackageText(**json.loads(line)) for line in lines]


def distinct_texts(texts: Sequence[PackageText]) -> Iterator[PackageText]:
    """Those with a short description of their own, whose document neither equals nor stands in another's.

    Packages made from one source share their descriptions, or begin alike: of documents with the same first
    HEAD_CHARACTERS only the first package by name is kept. A document that contains its own query is left out: it
    would be found by any model.
    """
    heads: dict[str, PackageText] = {}
    shorts: set[str] = set()
    for text in sorted(texts, key=lambda text: text.name):
        head, short = text.long[:HEAD_CHARACTERS], text.short.lower()
        if len(text.long) < MIN_CHARACTERS or short in shorts or short in text.long.lower() or head in heads:
            continue
        shorts.add(short)
        heads[head] = text
    contained = set()
    for text in heads.values():
        view = text.long[:VIEWED_CHARACTERS]
        for match in re.finditer(r"(?<=\s)\S", view):
            head = view[match.start() : match.start() + HEAD_CHARACTERS]
            if head in heads:
                contained.add(head)
    yield from (text for head, text in heads.items() if head not in contained)


def _fetch_lists(directory: Path) -> None:
    lists, archives = directory / "lists", directory / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True, exist_ok=True)
    logger.info("fetching the descriptions of Debian packages (16 MB)")
    own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache::archives={archives}"]
    command = ["apt-get", *APT_OPTIONS, *own, "-o", f"Dir::Cache={directory}", "-o", "Acquire::Languages=en", "update"]
    said = _output(command)
    if not any(lists.glob("*_Translation-en*")):
        raise SourceError(
            f"apt-get update brought no Translation-en list into {lists}: {said.strip()[-200:]!r}; "
            "check that this machine reaches a Debian mirror"
        )


def _read_lists(lists: Path) -> list[PackageText]:
    sections: dict[str, str] = {}
    texts: dict[str, PackageText] = {}
    for path in sorted(lists.glob("*_binary-*_Packages*")):
        for fields in _stanzas(path):
            sections.setdefault(fields["Package"], fields.get("Section", "unknown").rsplit("/", 1)[-1])
    for path in sorted(lists.glob("*_Translation-en*")):
        for fields in _stanzas(path):
            short, _, long = fields.get("Description-en", "").partition("\n")
            name = fields["Package"]
            texts.setdefault(
                name,
                PackageText(
                    name=name, section=sections.get(name, "unknown"), short=short.strip(), long=_one_line(long)
                ),
            )
    return list(texts.values())


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    for stanza in _output([APT_HELPER, "cat-file", str(path)]).split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in {" ", "\t"}:
                fields[key] += "\n" + line
            else:
                key, _, value = line.partition(": ")
                fields[key] = value
        if "Package" in fields:
            yield fields


def _one_line(text: str) -> str:
    """Paragraphs (separated by " .") and lines joined by one space."""
    return " ".join(word for line in text.splitlines() if line.strip() != "." for word in line.split())


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 (our words)
    except FileNotFoundError as error:
        raise SourceError(
            f"{command[0]} is not on this machine; make the case on Debian or Ubuntu, and copy {KEPT} from there"
        ) from error
    except subprocess.CalledProcessError as error:
        raise SourceError(f"{' '.join(command)} failed: {error.stderr.decode(errors='replace')[-300:]}") from error
    return done.stdout.decode("utf-8", errors="replace")
