"""Nothing that is read can run: no pickle, no eval, no loader that executes; code comes from the user's settings alone."""

from __future__ import annotations

import ast
import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import EncoderMismatchError, FormatError
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.shards.model_directory import check_model_uris
from fct_ray.storage.store import Store
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.settings import GateSettings, UpgradeSettings
from tests.fuzz.outcome import pointing_at, replaced
from tests.fuzz.small_store import make_store

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("fct_ray", "jobs") for path in (ROOT / folder).rglob("*.py"))
EXECUTING_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "runpy", "code", "imp"}
EXECUTING_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
EXECUTING_CALLS |= {"os.system", "os.popen", "ctypes.CDLL", "pd.read_pickle", "pandas.read_pickle"}
EXECUTING_CALLS |= {"torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch.ops.load_library"}
EXECUTING_CALLS |= {"yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "pa.PyExtensionType"}
NEEDED = {
    "torch.load": ("weights_only", "True"),  # else a pickle that runs
    "yaml.load": ("", "_PlainLoader"),  # a SafeLoader, see fct_ray/yaml_mapping.py
}
IMPORTS_BY_NAME = {
    "fct_ray/models/batch_encoder.py",  # the import path of an encoder, from the settings
    "fct_ray/__init__.py",  # modules of a fixed table
    "fct_ray/cli/main.py",  # modules of a fixed table
    "fct_ray/sources/registry.py",  # modules of a fixed table
    "fct_ray/models/by_name/registry.py",  # likewise
    "fct_ray/bench/pipelines/__init__.py",  # likewise
    "fct_ray/connectors/tables.py",  # likewise
    "fct_ray/connectors/registry.py",  # likewise
    "fct_ray/bench/cases/emoji.py",  # the package of a model of fixed numbers
    "fct_ray/sources/image_formats.py",  # asks whether one library is installed, and imports none by name
}


def offences(source: str) -> Iterator[str]:
    """What in a module could execute data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
            yield from (f"import {name}" for name in names if set(name.split(".")) & EXECUTING_MODULES)
        if isinstance(node, ast.Call):
            yield from _call_offences(node)


def _call_offences(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    if ast.unparse(node) == "ctypes.CDLL(None)":  # the C library that this process has anyway
        return
    if called in EXECUTING_CALLS or called.startswith(("pickle.", "joblib.")):
        yield called
    arguments = [("", ast.unparse(value)) for value in node.args]
    arguments += [(word.arg or "**", ast.unparse(word.value)) for word in node.keywords]
    if called in NEEDED and NEEDED[called] not in arguments:
        yield f"{called} without {NEEDED[called]}"
    yield from (
        f"{called} with allow_pickle" for name, value in arguments if name == "allow_pickle" and value != "False"
    )
    yield from (f"{called} with shell" for name, value in arguments if name == "shell" and value != "False")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_executes_what_it_reads(path: Path) -> None:
    source = path.read_text()
    assert list(offences(source)) == []
    if "import_module" in source or "importlib" in source.replace("importlib import metadata", ""):
        assert str(path.relative_to(ROOT)) in IMPORTS_BY_NAME


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from ray import cloudpickle",
        "import ray.cloudpickle as p",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_would_notice(line: str) -> None:
    assert list(offences(line))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real store; see tests/fuzz/small_store.py."""
    return make_store(tmp_path_factory.mktemp("code"))


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves a trace when it is imported; returns where the trace would be."""
    trace = tmp_path / "trace"
    (tmp_path / "planted.py").write_text(f"open({str(trace)!r}, 'w').close()\ndef encoder(): raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return trace


@pytest.mark.parametrize("name", ["planted:encoder", "os:system"])
def test_an_import_path_in_a_manifest_is_a_name_and_never_imported(store: Path, planted: Path, name: str) -> None:
    path = store / "versions/000002/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["encoder"]["name"] = name
    manifest["side_info"]["name"] = name
    data = json.dumps(manifest).encode()
    pairs = str(store.parent / "pairs.parquet")
    with replaced(path, data), replaced(store / "CURRENT.json", pointing_at(store, data)):
        assert Store(str(store)).manifest().encoder.name == name
        searcher = open_searcher(str(store), "now-api")
        assert searcher.search(np.eye(2, 8, dtype=np.float32), 3)[1].shape == (2, 3)
        with pytest.raises(EncoderMismatchError, match=name):
            open_searcher(str(store), "another")
        settings = UpgradeSettings(store=str(store), encoder="next-api", pairs=pairs, gate=GateSettings(share=0.5))
        plan_upgrade(settings, None, None)
    assert not planted.exists()


def test_an_import_path_in_a_models_directory_is_a_directory_and_never_imported(store: Path, planted: Path) -> None:
    directory = store / "models" / "planted:encoder-0123456789ab"
    directory.mkdir()
    (directory / "model.json").write_bytes(next(store.glob("models/h-*/model.json")).read_bytes())
    (directory / "weights.safetensors").write_bytes(next(store.glob("models/h-*/weights.safetensors")).read_bytes())
    assert resolve_encoder("h", Store(str(store))).ref.name == "h"
    assert not planted.exists()


def test_the_planted_module_leaves_its_trace_when_the_settings_name_it(planted: Path) -> None:
    with pytest.raises(SystemExit):
        resolve_encoder("planted:encoder", None)
    assert planted.exists()


class _Trace:
    """Pickled, it creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("extension", ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "arrow.py_extension_type"])
def test_a_pickle_in_a_parquet_extension_type_is_not_loaded_by_a_worker(tmp_path: Path, extension: str) -> None:
    """Pyarrow before 14.0.1 and Ray 2.49 to 2.54 loaded it; workers have Ray Data imported."""
    trace, file = tmp_path / "trace", tmp_path / "shard.parquet"
    payload = pickle.dumps(_Trace(trace))
    file.write_bytes(_with_extension(extension.encode(), payload))
    code = (
        "import ray.data, sys\nfrom fct_ray.errors import FctRayError\nfrom fct_ray.storage.pairs import read_pairs\n"
        "try: read_pairs(sys.argv[1])\nexcept FctRayError as error: print('refused', error)\nelse: print('read')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(("refused", "read")), done.stderr
    assert not trace.exists()
    pickle.loads(payload)  # noqa: S301 (the payload is real)
    assert trace.exists()


def _with_extension(name: bytes, payload: bytes) -> bytes:
    """A gallery file whose `embedding` is of that extension type; written under a name that nobody has registered."""
    unknown = b"x" * len(name)
    metadata = {b"ARROW:extension:name": unknown, b"ARROW:extension:metadata": payload}
    vectors = pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32()))
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("embedding", vectors.type, metadata=metadata)])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([pa.array([1, 2, 3]), vectors], schema=schema), sink)
    data = bytes(sink.getvalue())
    stored = pq.read_metadata(pa.BufferReader(data)).metadata
    assert stored is not None
    written = base64.b64decode(stored[b"ARROW:schema"])
    assert unknown in written
    assert payload in written
    return data.replace(stored[b"ARROW:schema"], base64.b64encode(written.replace(unknown, name)))


def test_a_gate_result_that_names_a_model_elsewhere_is_refused(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    allowed = (store, "s3://bucket/fits", None)
    check_model_uris([f"{store}/runs/r/fit/h-1", "s3://bucket/fits/h-1", "s3://bucket/fits"], allowed, "gate.json")
    for uri in (f"{store}/../h", str(tmp_path / "h"), "s3://bucket/other/h", "s3://other/fits/h", f"{store}-2/h"):
        with pytest.raises(FormatError, match=r"gate\.json: names a model at"):
            check_model_uris([uri], allowed, "gate.json")
