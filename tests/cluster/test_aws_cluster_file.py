"""cluster/aws.yaml against Ray's own schema, and against what we promise of it: spot, from zero, token, no secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "cluster"


@pytest.fixture
def config() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    return content


def workers(config: dict[str, Any]) -> dict[str, Any]:
    return {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}


def test_the_file_passes_rays_own_defaults_and_schema(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))


def test_rays_schema_would_notice_a_misspelt_field(config: dict[str, Any]) -> None:
    config["availible_node_types"] = config.pop("available_node_types")
    with pytest.raises(jsonschema.ValidationError, match="availible_node_types"):
        validate_config(prepare_config(config))


def test_workers_are_spot_and_start_from_zero(config: dict[str, Any]) -> None:
    assert workers(config)
    for kind in workers(config).values():
        assert kind["min_workers"] == 0
        assert kind["max_workers"] > 0
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_the_head_is_on_demand_and_takes_no_work(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0


def test_every_node_has_an_instance_profile_for_the_bucket(config: dict[str, Any]) -> None:
    profiles = {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in workers(config).values()}
    assert profiles == {"fct-ray-worker"}  # workers may not start machines
    head = config["available_node_types"][config["head_node_type"]]
    assert head["node_config"]["IamInstanceProfile"]["Name"] == "fct-ray-head"


def test_token_authentication_is_on_for_every_ray_process(config: dict[str, Any]) -> None:
    starts = [
        command
        for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"])
        for command in commands
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_dashboard_listens_on_loopback_only(config: dict[str, Any]) -> None:
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])


def test_the_package_is_installed_where_the_price_book_is_found(config: dict[str, Any]) -> None:
    assert "/home/ray/fct_ray" in config["file_mounts"]
    assert any("--editable /home/ray/fct_ray" in command for command in config["setup_commands"])


def test_worker_types_have_prices(config: dict[str, Any]) -> None:
    prices = yaml.safe_load((CLUSTER / "prices.yaml").read_text())["node_types"]
    for kind in config["available_node_types"].values():
        node = prices[kind["node_config"]["InstanceType"]]
        if kind["resources"]["CPU"]:
            assert kind["resources"]["CPU"] == node["vcpus"]
            assert kind["resources"].get("GPU", 0) == node["gpus"]
