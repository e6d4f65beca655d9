"""Joining a cluster, and what is said where there is none."""

from __future__ import annotations

import socket

import pytest

from fct_ray.engine.cluster import ClusterSettings, _join
from fct_ray.errors import SettingsError


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_one_sentence_at_once(scheme: str) -> None:
    """Seen: a traceback, after minutes of attempts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=rf"no Ray cluster can be joined at '{address}' .*refused; give the"):
            _join(address, ClusterSettings())
