"""cluster/kuberay-rayjob.yaml against KubeRay's fields, Kubernetes' own pod schema, and what we promise of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rayjob() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "cluster" / "kuberay-rayjob.yaml").read_text())
    return content


@pytest.fixture
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(__file__).parent / "rayjob_schema.json").read_text())
    return content


def groups(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = rayjob["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_rayjob_has_only_fields_that_kuberay_knows(rayjob: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(rayjob, schema)


def test_the_schema_would_notice_a_number_where_the_crd_wants_a_string(
    rayjob: dict[str, Any], schema: dict[str, Any]
) -> None:
    rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="not of type 'string'"):
        jsonschema.validate(rayjob, schema)


def test_pod_templates_pass_kubernetes_own_schema(rayjob: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    version = kubernetes_validate.latest_version()
    for group in groups(rayjob):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


def test_workers_start_from_zero_with_autoscaling_on_spot_nodes(rayjob: dict[str, Any]) -> None:
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    for group in cluster["workerGroupSpecs"]:
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
        pod = group["template"]["spec"]
        assert pod["nodeSelector"]["karpenter.sh/capacity-type"] == "spot"
        assert any(toleration["key"] == "spot" for toleration in pod["tolerations"])


def test_token_authentication_is_on_and_ray_is_new_enough_for_it(rayjob: dict[str, Any]) -> None:
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(int(part) for part in cluster["rayVersion"].split(".")) >= (2, 52, 0)


def test_the_bucket_is_reached_by_role_and_no_pod_carries_keys(rayjob: dict[str, Any]) -> None:
    for group in groups(rayjob):
        assert group["template"]["spec"]["serviceAccountName"] == "fct-ray"
        assert all("env" not in container for container in group["template"]["spec"]["containers"])


def test_the_entrypoint_is_our_upgrade_job_in_the_images_working_directory(rayjob: dict[str, Any]) -> None:
    words = shlex.split(rayjob["spec"]["entrypoint"])
    assert words[:2] == ["python", "jobs/upgrade.py"]
    assert words[words.index("--store") + 1].startswith("s3://")
    assert (ROOT / "jobs" / "upgrade.py").is_file()
    directories = {
        container["workingDir"] for group in groups(rayjob) for container in group["template"]["spec"]["containers"]
    }
    assert directories == {"/home/ray/fct_ray"}
    assert "WORKDIR /home/ray/fct_ray" in (ROOT / "cluster" / "Dockerfile").read_text()


def test_both_cluster_files_and_the_image_use_one_ray_version(rayjob: dict[str, Any]) -> None:
    version = rayjob["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"FROM rayproject/ray:{version}-" in (ROOT / "cluster" / "Dockerfile").read_text()
    assert f"rayproject/ray:{version}-" in (ROOT / "cluster" / "aws.yaml").read_text()
