"""What the status of a version says: whose embeddings make up a query."""

from __future__ import annotations

import dataclasses

import pytest

from fct_ray.cli.version_tables import print_status, version_document
from fct_ray.kinds import QueryRole
from fct_ray.report.tables import versions_table
from fct_ray.values import EncoderRef, QueryInput
from tests.plan.manifests import parent_manifest


def test_a_version_that_joins_models_names_all_of_them_with_their_roles(capsys: pytest.CaptureFixture[str]) -> None:
    plain = parent_manifest()
    joined = dataclasses.replace(
        plain,
        queries=tuple(
            QueryInput(role=role, encoder=EncoderRef(name=f"{role}-model", fingerprint="0" * 64), dimension=8)
            for role in (QueryRole.OLD, QueryRole.NEW)
        ),
    )
    print_status(joined, "shop")
    printed = " ".join(capsys.readouterr().out.split())
    assert "old: by old-model, 8 dimensions" in printed
    assert "new: by new-model" in printed
    queries = version_document(joined)["queries"]
    assert isinstance(queries, list)
    assert [query["role"] for query in queries] == ["old", "new"]
    (row,) = versions_table("shop", [joined], joined.version).rows
    assert "old: old-model, new: new-model" in row
    (row,) = versions_table("shop", [plain], plain.version).rows
    assert plain.encoder.name in row
