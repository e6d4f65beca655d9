"""The Python examples of the documentation and of docstrings run, and print what they say."""

from __future__ import annotations

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from importlib import import_module
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from fct_ray.engine.cluster import ClusterSize

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if "```python" in path.read_text(encoding="utf-8")
)
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "fct_ray").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
MARKS = {"docs/api.md": pytest.mark.journey}
_MARKDOWN = Sybil([PythonCodeBlockParser(doctest_optionflags=FLAGS)])
_DOCSTRINGS = Sybil([DocTestParser(FLAGS)], document_types={".py": PythonDocStringDocument})


@pytest.mark.parametrize("page", [pytest.param(page, marks=MARKS.get(page, ())) for page in PAGES])
def test_the_python_examples_of_a_page_run(page: str, example_directory: Path, cluster: ClusterSize) -> None:
    document = _MARKDOWN.parse(ROOT / page)
    document.namespace["__name__"] = "__main__"  # classes of examples reach workers by value, as in a notebook
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_docstrings_of_a_module_run(module: str, request: pytest.FixtureRequest) -> None:
    if module.startswith("fct_ray/api/"):
        request.getfixturevalue("example_directory")
        request.getfixturevalue("cluster")
    document = _DOCSTRINGS.parse(ROOT / module)
    imported = import_module(module.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    document.namespace.update(vars(imported))
    for example in document.examples():
        example.evaluate()
