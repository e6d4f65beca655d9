"""What cannot work is refused before a worker starts, with what was seen, what is wanted and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import SideInfoUse
from fct_ray.plan.checks import (
    check_budget,
    check_pair_counts,
    check_transformation,
    check_upgrade,
    uncovered_share,
)
from fct_ray.plan.forecast import Forecast
from tests.plan.manifests import NEW, OLD, SIDE, parent_manifest

FITTING: dict[str, Any] = {
    "from_encoder": OLD.fingerprint,
    "to_encoder": NEW.fingerprint,
    "side_fingerprint": SIDE.fingerprint,
    "old_dimension": 32,
    "side_dimension": 16,
    "new_dimension": 64,
    "new_encoder": NEW,
    "wanted_dimension": 64,
}


def test_a_sound_upgrade_is_let_through() -> None:
    for side_info in (SideInfoUse.STORED, SideInfoUse.NONE, SIDE.name, SIDE.fingerprint):
        check_upgrade(parent_manifest(), new_encoder=NEW, new_dimension=64, side_info=side_info)
    check_upgrade(parent_manifest(side_info=None), new_encoder=NEW, side_info=SideInfoUse.NONE)


def test_an_empty_store_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"0 shards and 0 rows.*embed or adopt"):
        check_upgrade(parent_manifest(num_shards=0), new_encoder=NEW)


def test_an_upgrade_to_the_encoder_it_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="already holds embeddings of old"):
        check_upgrade(parent_manifest(), new_encoder=OLD)


def test_unknown_side_information_is_refused() -> None:
    with pytest.raises(SettingsError, match="stores none"):
        check_upgrade(parent_manifest(side_info=None), new_encoder=NEW, side_info="simclr")
    with pytest.raises(SettingsError, match=r"'other' is asked for.*that of 'simclr'"):
        check_upgrade(parent_manifest(), new_encoder=NEW, side_info="other")


def test_a_new_dimension_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="dimension 0"):
        check_upgrade(parent_manifest(), new_encoder=NEW, new_dimension=0)


def test_an_h_for_this_upgrade_is_let_through_with_and_without_side_information() -> None:
    check_transformation(parent_manifest(), **FITTING)
    without = {**FITTING, "side_fingerprint": None, "side_dimension": 0}
    check_transformation(parent_manifest(), **without)
    check_transformation(parent_manifest(side_info=None), **without)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"from_encoder": NEW.fingerprint, "to_encoder": OLD.fingerprint},
            "from new to old, wanted the other direction",
        ),
        ({"from_encoder": "e" * 64}, "fitted from encoder eeeeeeeeeeee, wanted from old"),
        ({"to_encoder": "e" * 64}, "fitted to encoder eeeeeeeeeeee, wanted to new"),
        ({"old_dimension": 31}, "takes embeddings of dimension 31, version 1 has 32"),
        ({"new_dimension": 65}, "makes dimension 65, new has 64"),
        ({"side_dimension": 8}, "of dimension 8, version 1 stores"),
        ({"side_fingerprint": "e" * 64}, "side-information eeeeeeeeeeee"),
    ],
)
def test_an_h_fitted_for_something_else_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_transformation(parent_manifest(), **{**FITTING, **changes})


def test_an_h_that_needs_side_information_is_refused_where_the_store_has_none() -> None:
    with pytest.raises(ModelError, match="stores none"):
        check_transformation(parent_manifest(side_info=None), **FITTING)


def test_too_few_pairs_to_judge_by_are_refused() -> None:
    check_pair_counts(num_fit=100, num_gate=30)
    with pytest.raises(SettingsError, match="29 held out"):
        check_pair_counts(num_fit=100, num_gate=29)


def test_the_uncovered_share_counts_rows_of_shards_without_a_pair() -> None:
    assert uncovered_share([1, 0, 3], [10, 30, 60]) == pytest.approx(0.3)
    assert uncovered_share([], []) == 0
    with pytest.raises(SettingsError, match="wanted one each"):
        uncovered_share([1], [1, 2])


def test_a_forecast_over_budget_is_refused_and_so_is_a_budget_without_a_price() -> None:
    expected = Forecast(wall_s=100, node_s=200, usd=3.5, bound="compute")
    check_budget(expected, max_usd=3.5, max_wall_s=100)
    with pytest.raises(SettingsError, match=r"forecast is 3.5 USD, budget 3 USD"):
        check_budget(expected, max_usd=3.0)
    with pytest.raises(SettingsError, match="100 s, limit 99 s"):
        check_budget(expected, max_wall_s=99)
    with pytest.raises(SettingsError, match="no price"):
        check_budget(Forecast(wall_s=1, node_s=1, usd=None, bound="start"), max_usd=3.0)


def test_a_budget_is_refused_where_the_forecast_leaves_work_out() -> None:
    expected = Forecast(wall_s=1, node_s=1, usd=0.1, bound="start", left_out=("embedding the pairs: nobody knows",))
    check_budget(expected)
    with pytest.raises(SettingsError, match="leaves out embedding the pairs: nobody knows"):
        check_budget(expected, max_usd=3.0)
