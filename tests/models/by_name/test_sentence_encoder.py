"""A sentence-transformers directory with real weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fct_ray.bench.cases import text_models
from fct_ray.errors import DataError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.by_name.registry import open_named
from tests.models.by_name.packaged_models import TEXTS, minilm_directory

MINILM = f"sentence-transformers:{minilm_directory()}"


def test_real_weights_give_the_vectors_that_the_layers_written_out_give() -> None:
    """`bench/cases/text_models` has these six layers in plain torch, with the tokenizer of the package."""
    encoder = open_named(MINILM)
    seen = encoder.encode({"text": list(TEXTS)})
    np.testing.assert_allclose(seen, text_models.all_l6()(TEXTS), atol=1e-4)
    assert (encoder.dimension, encoder.metric, encoder.normalized) == (384, Metric.IP, True)
    cosines = seen @ seen.T
    assert cosines[0, 1] > max(cosines[0, 2], cosines[0, 3])
    assert cosines[2, 3] > max(cosines[2, 0], cosines[2, 1])
    assert encoder.encode({"text": []}).shape == (0, 384)
    with pytest.raises(DataError, match="wants 'text'"):
        encoder.encode({"image": []})


def test_the_fingerprint_needs_no_torch_and_changes_with_pooling_weights_and_nothing_else(tmp_path: Path) -> None:
    code = (
        f"import sys; from fct_ray.models.by_name.registry import open_named; print(open_named({MINILM!r}).fingerprint)"
    )
    code += "; assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first = open_named(MINILM).fingerprint
    assert done.stdout.strip() == first
    copy = tmp_path / "copy"
    shutil.copytree(minilm_directory(), copy)
    (copy / "README.md").write_text("hello")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert open_named(f"sentence-transformers:{copy}?batch=8").fingerprint == first
    pooling = copy / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    pooling.write_text(json.dumps(settings | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    assert open_named(f"sentence-transformers:{copy}").fingerprint != first


@pytest.mark.parametrize(
    ("location", "said"),
    [("/nowhere/model", "there is no directory /nowhere/model"), ("{empty}", "has no modules.json")],
)
def test_a_place_without_a_model_is_one_sentence(location: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        open_named(f"sentence-transformers:{location.replace('{empty}', str(tmp_path))}")


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [
        (MINILM, "sentence_transformers", "sentence-transformers"),
        ("timm:resnet18", "timm", "timm"),
        ("open-clip:ViT-B-32?weights=openai", "open_clip", "open-clip"),
        ("openai:m@http://127.0.0.1:9/v1", "httpx", "openai"),
    ],
)
def test_a_missing_extra_is_one_sentence_with_the_command(spec: str, library: str, extra: str) -> None:
    """In a process of its own, in which the library cannot be imported."""
    code = f"""
import sys
sys.modules[{library!r}] = None
from fct_ray.errors import SettingsError
from fct_ray.models.by_name.registry import open_named
try:
    open_named({spec!r}).dimension
except SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(f"pip install 'fct_ray[{extra}]'"), done.stdout
    assert done.stdout.count("\n") == 1
