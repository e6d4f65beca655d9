"""Whether a run may go on from what its gallery became."""

from __future__ import annotations

import dataclasses

import pytest

from fct_ray.errors import PublishConflictError
from fct_ray.plan.catch_up import bases, check_catch_up
from tests.plan.manifests import NEW, parent_manifest

V1 = parent_manifest()
V2 = dataclasses.replace(parent_manifest(num_shards=4), version=2, parent=1, run="append-2")
UPGRADED = dataclasses.replace(V2, version=3, parent=2, run="upgrade-3", encoder=NEW)


def test_a_run_goes_on_from_the_same_models_and_from_no_others() -> None:
    check_catch_up(V1, V2, "upgrade-9")
    with pytest.raises(
        PublishConflictError, match=r"started from version 1 .* version 3 \(encoder new, run upgrade-3\)"
    ):
        check_catch_up(V1, UPGRADED, "upgrade-9")


def test_what_a_run_may_have_started_from_ends_where_the_models_change_or_versions_were_collected() -> None:
    versions = {1: V1, 2: V2, 3: UPGRADED}
    assert list(bases(V2, lambda version: versions.get(version.parent or 0))) == [V2, V1]
    assert list(bases(UPGRADED, lambda version: versions.get(version.parent or 0))) == [UPGRADED]
    assert list(bases(V2, lambda version: None)) == [V2]
