"""What keeps the code easy to find one's way in: short files, short functions, names that a stranger knows."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = sorted([*(ROOT / "fct_ray").rglob("*.py"), *(ROOT / "jobs").glob("*.py")])
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 350, 60
MEDIAN_LINES = range(100, 251)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base", "core"}
OUR_OWN_LANGUAGE = re.compile(
    r"\b(contest\w*|contenders?|lanes?|in hand|heartbeats?|beats?(?!\"))\b|\"\"\"Of ", re.IGNORECASE
)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_is_short_its_functions_too_and_it_says_what_it_is_about(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION
    ]
    assert long == []
    assert ast.get_docstring(tree), "a module says what it owns and what it does not know"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_names_and_prose_are_not_a_language_of_our_own(path: Path) -> None:
    assert path.stem not in VAGUE_NAMES
    found = OUR_OWN_LANGUAGE.search(path.read_text())
    assert found is None, f"{found.group()!r} says nothing to a stranger"


def test_most_files_are_neither_scraps_nor_tomes() -> None:
    assert int(statistics.median(len(path.read_text().splitlines()) for path in FILES)) in MEDIAN_LINES
