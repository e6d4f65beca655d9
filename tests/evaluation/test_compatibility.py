"""Recovered shares, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.errors import SettingsError
from fct_ray.evaluation.compatibility import cosine_mean, recovered_shares
from fct_ray.judgements import CompatibilityRow
from fct_ray.kinds import Method


def row(method: Method, top1: float, mean_average_precision: float) -> CompatibilityRow:
    return CompatibilityRow(
        method=method, query="new", gallery="h", side_information=True, top1=top1, top5=1.0, map=mean_average_precision
    )


def test_the_published_imagenet_rows_give_the_published_shares() -> None:
    # Ramanujan et al., CVPR 2022: old/old 46.4/28.3, new/new 68.4/45.6, FCT with side-information 65.1/44.0
    shares = recovered_shares(
        [row(Method.OLD_OLD, 0.464, 0.283), row(Method.FCT_SIDE, 0.651, 0.440), row(Method.NEW_NEW, 0.684, 0.456)]
    )
    assert list(shares) == [Method.FCT_SIDE]
    assert shares[Method.FCT_SIDE].top1 == pytest.approx(0.85, abs=0.005)
    assert shares[Method.FCT_SIDE].map == pytest.approx(0.91, abs=0.005)


def test_harm_is_a_negative_share() -> None:
    shares = recovered_shares(
        [row(Method.OLD_OLD, 0.5, 0.5), row(Method.DIRECT, 0.1, 0.25), row(Method.NEW_NEW, 0.7, 1.0)]
    )
    assert shares[Method.DIRECT].top1 == pytest.approx(-2.0)
    assert shares[Method.DIRECT].map == pytest.approx(-0.5)


def test_nothing_to_recover_gives_no_shares_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert (
        recovered_shares([row(Method.OLD_OLD, 0.5, 0.5), row(Method.FCT_SIDE, 0.5, 0.5), row(Method.NEW_NEW, 0.5, 0.6)])
        == {}
    )
    assert "nothing to recover" in caplog.text


def test_shares_without_their_reference_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"lack new_new"):
        recovered_shares([row(Method.OLD_OLD, 0.5, 0.5)])
    with pytest.raises(SettingsError, match="repeat"):
        recovered_shares([row(Method.OLD_OLD, 0.5, 0.5), row(Method.OLD_OLD, 0.5, 0.5)])


def test_mean_cosine_by_hand() -> None:
    assert cosine_mean(np.array([[1, 0], [0, 2]], np.float32), np.array([[1, 1], [0, 9]], np.float32)) == pytest.approx(
        (np.sqrt(0.5) + 1) / 2
    )
    with pytest.raises(SettingsError, match="equal"):
        cosine_mean(np.ones((1, 2), np.float32), np.ones((1, 3), np.float32))
