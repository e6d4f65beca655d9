"""One fit with Ray Train: workers, checkpoints, resume, and what it used.

Owns: `TorchTrainer`, the checkpoint file, the sum of usage over workers. Knows nothing of what is fitted: a loop gets a
`Worker` and hands back tensors. A fit's name holds a hash of its settings, so that the same fit resumes and another
one never does. Checkpoints are read with `weights_only`: nothing in them is executed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import nn

from fct_ray.engine.actor_pool import quiet_ray_data
from fct_ray.engine.border import BEFORE_TORCH, worker_error
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.progress import progress_bar
from fct_ray.errors import FitError
from fct_ray.metering.meters import ProcessMeter, process_meter
from fct_ray.settings import CheckedSettings, Count, CountOrZero
from fct_ray.storage import objects
from fct_ray.values import Usage

logger = logging.getLogger(__name__)
STATE_FILE = "state.pt"
TABLE_ROWS = 8192
CHECKPOINT_LIST = "checkpoint_manager_snapshot.json"
"""Ray Train's own file in the directory of a fit: what it resumes from."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(CheckedSettings):
    """The Ray Train workers of a fit."""

    num_workers: Count = 1
    """Data-parallel workers; batches are divided among them."""
    threads: Count | None = None
    """Compute threads of each worker. None: the node's cores divided by the workers on it."""
    max_failures: CountOrZero = 3
    """How often a lost worker group is restarted from its last checkpoint."""


@dataclass(slots=True)
class Worker:
    """What a training loop sees of its surroundings: rank, device, data, progress, checkpoints."""

    rank: int
    world_size: int
    device: torch.device
    board: Any
    usage: Usage
    meter: ProcessMeter
    started_s: float
    checkpoints_uri: str
    table: Any
    """A reference to the training data where that is one table, otherwise None: it is a dataset."""

    def batches(self, batch_rows: int, seed: int) -> Any:
        """One pass over this worker's share of the training data in shuffled batches (dicts of tensors)."""
        shard = ray.train.get_dataset_shard("train")
        return shard.iter_torch_batches(
            batch_size=batch_rows, drop_last=True, local_shuffle_buffer_size=4 * batch_rows, local_shuffle_seed=seed
        )

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module as it is trained: with several workers, gradients are averaged over them."""
        if self.world_size == 1:
            return module
        prepared: nn.Module = ray.train.torch.prepare_model(module)
        return prepared

    def tables(self) -> Iterator[Any]:
        """The worker's share of the training data as Arrow tables, in any order."""
        if self.table is not None:
            whole = ray.get(self.table)
            rows = len(whole) // self.world_size
            yield whole.slice(self.rank * rows, rows)
            return
        shard = ray.train.get_dataset_shard("train")
        yield from shard.iter_batches(batch_size=TABLE_ROWS, batch_format="pyarrow")

    def tell(self, done: int, total: int, text: str) -> None:
        """Move the driver's progress bar (rank 0 only; never waits)."""
        if self.rank == 0:
            self.board.put.remote(done, total, text)

    def restore(self) -> dict[str, Any] | None:
        """The state of the last checkpoint, or None at the start."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as directory:
            state: dict[str, Any] = torch.load(Path(directory) / STATE_FILE, weights_only=True, map_location="cpu")
        self.usage = Usage(**state["usage"])
        return state

    def save(self, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Checkpoint (rank 0 writes) and report; a barrier for all workers."""
        self._account()
        with tempfile.TemporaryDirectory() as directory:
            checkpoint = None
            if self.rank == 0:
                fields = {name: getattr(self.usage, name) for name in ("busy_cpu_s", "busy_gpu_s", "flops", "rows")}
                torch.save({**state, "usage": fields}, Path(directory) / STATE_FILE)
                checkpoint = Checkpoint.from_directory(directory)
            ray.train.report(dict(metrics), checkpoint=checkpoint, checkpoint_upload_fn=self._upload)

    def _upload(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        # Ray Train's own way, pyarrow's copy_files, ignores what fails when a stream is closed: the checkpoint would
        # be reported, and its file not be there.
        uri = objects.join(self.checkpoints_uri, f"{name}/{STATE_FILE}")
        objects.write_bytes(uri, (Path(checkpoint.path) / STATE_FILE).read_bytes())
        storage = ray.train.get_context().get_storage()
        return Checkpoint(storage.build_checkpoint_path_from_name(name), storage.storage_filesystem)

    def count(self, *, rows: int, flops: float) -> None:
        """Add work of this worker."""
        self.usage = self.usage + Usage(rows=rows * self.world_size, flops=flops * self.world_size)

    def mean(self, value: float) -> float:
        """The mean of a number over all workers."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return float(tensor.item()) / self.world_size

    def _account(self) -> None:
        busy_cpu_s = self.mean(self.meter.read().busy_cpu_s) * self.world_size
        now_s = time.monotonic()
        busy_gpu_s = (now_s - self.started_s) * self.world_size if self.device.type == "cuda" else 0.0
        self.started_s = now_s
        self.usage = self.usage + Usage(busy_cpu_s=busy_cpu_s, busy_gpu_s=busy_gpu_s)


Loop = Callable[[Worker, Any], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOutcome:
    """The last checkpoint's state (tensors and plain values) and what the fit used."""

    state: dict[str, Any]
    usage: Usage


def run_fit(
    loop: Loop,
    settings: object,
    *,
    name: str,
    storage_uri: str,
    train: TrainSettings,
    size: ClusterSize,
    dataset: ray.data.Dataset | pa.Table,
    describe: str,
) -> FitOutcome:
    """Run `loop(worker, settings)` on every Ray Train worker and return its last checkpoint.

    A table, for loops that ask for `tables()`, goes to the workers as it is: Ray Data would
    start processes of its own for it.

    Raises:
        FitError: the fit diverged or its workers failed more often than allowed; the message says where it stopped.
    """
    quiet_ray_data()
    _drop_torn(objects.join(storage_uri, name))
    filesystem, path = objects.arrow_filesystem(storage_uri)
    table = ray.put(dataset) if isinstance(dataset, pa.Table) else None
    with progress_bar(describe) as board:
        config = {
            "loop": loop,
            "settings": settings,
            "board": board,
            "threads": _threads(train, size),
            "checkpoints_uri": objects.join(objects.absolute(storage_uri), name),
            "table": table,
        }
        trainer = TorchTrainer(
            _run_loop,
            train_loop_config=config,
            scaling_config=ScalingConfig(num_workers=train.num_workers, use_gpu=size.num_gpus > 0),
            run_config=RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                failure_config=FailureConfig(max_failures=train.max_failures),
                # Ray Train imports torch before our loop runs
                worker_runtime_env={"env_vars": dict(BEFORE_TORCH)},  # type: ignore[call-arg] # mypy sees Ray Train V1
            ),
            datasets=None if isinstance(dataset, pa.Table) else {"train": dataset},
        )
        try:
            result = trainer.fit()
        except Exception as error:
            raise FitError(f"fit {name} failed: {worker_error(error)}") from error
    if result.checkpoint is None:
        raise FitError(f"fit {name} ended without a checkpoint; want at least one epoch")
    with result.checkpoint.as_directory() as directory:
        data = (Path(directory) / STATE_FILE).read_bytes()
    state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return FitOutcome(state=state, usage=Usage(**state.pop("usage")))


def _drop_torn(fit_uri: str) -> None:
    """Start over where the list of checkpoints is no JSON: Ray Train writes it in place, so a kill can tear it."""
    uri = objects.join(fit_uri, CHECKPOINT_LIST)
    if not objects.exists(uri):
        return
    try:
        json.loads(objects.read_bytes(uri))
    except ValueError:
        logger.warning("%s was torn when its fit was killed; the fit starts over", uri)
        objects.delete_tree(fit_uri)


def _threads(train: TrainSettings, size: ClusterSize) -> int:
    if train.threads is not None:
        return train.threads
    workers_per_node = -(-train.num_workers // max(size.num_nodes, 1))
    return max(1, size.num_cpus // max(size.num_nodes, 1) // workers_per_node)


def _run_loop(config: dict[str, Any]) -> None:
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        board=config["board"],
        usage=Usage(),
        meter=process_meter(),
        started_s=time.monotonic(),
        checkpoints_uri=config["checkpoints_uri"],
        table=config["table"],
    )
    config["loop"](worker, config["settings"])
