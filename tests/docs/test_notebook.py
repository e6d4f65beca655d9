"""docs/notebook.ipynb runs from its first cell to its last, and is committed without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
import ray
from nbclient import NotebookClient

from fct_ray.engine.cluster import ClusterSize

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.journey
def test_the_notebook_runs_and_shows_plan_report_and_photos(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cluster: ClusterSize
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)  # it joins the cluster that runs already
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("FCT_RAY_DATA", os.environ.get("FCT_RAY_DATA", str(ROOT / ".data")))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = "".join(
        str(output.get("data", {}).get("text/html", "")) + str("image/png" in output.get("data", {}))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    for part in ("planned only", "Gate: passed", "published", "True"):
        assert part in shown


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]  # type: ignore[no-untyped-call]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
