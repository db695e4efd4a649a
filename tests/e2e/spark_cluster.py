"""A standalone Spark cluster whose master and workers each have a network of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PORT = 7077
START_SECONDS = 120


@dataclass(frozen=True)
class Daemon:
    """A master or a worker: its address and its process, which leads a group of processes."""

    address: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """`kill -9` of the daemon, and of the executors that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Cluster:
    """What a driver has to know.

    Attributes:
      master: As in `spark.master`.
      driver: The address under which the workers find this process.
      workers: Two of them, with a core each.
    """

    master: str
    driver: str
    workers: tuple[Daemon, ...]


def why_not() -> str | None:
    """Why there cannot be such a cluster here."""
    name = f"try{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces: {getattr(error, 'stderr', None) or error}"
    return None


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A running master with two workers, ended with the `with` block."""
    folder.mkdir()
    with ExitStack() as stack:
        addresses = stack.enter_context(_networks(4))
        driver, at, *hosts = addresses
        # Leaving the stack unwinds the processes before their networks.
        arguments = ("master.Master", "--host", at, "--port", str(PORT), "--webui-port", "0")
        stack.enter_context(_daemon(folder, addresses[at], at, *arguments))
        master = f"spark://{at}:{PORT}"
        log = folder / f"{at}.log"
        _wait_for(log, "New state: ALIVE", 1)
        workers = []
        for host in hosts:
            size = ("--cores", "1", "--memory", "1g", "--work-dir", str(folder / host))
            arguments = ("worker.Worker", "--host", host, "--webui-port", "0", *size, master)
            workers.append(stack.enter_context(_daemon(folder, addresses[host], host, *arguments)))
        _wait_for(log, "Registering worker", len(workers))
        yield Cluster(master, driver, tuple(workers))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def _networks(count: int) -> Iterator[dict[str, str]]:
    """Addresses on one bridge: the first one of this process, the others each in a namespace.

    Yields:
      By address, the name of its namespace; empty for the first one.
    """
    number = os.getpid()
    net = f"10.{90 + number % 100}.{number % 251}"
    bridge = f"sp{number}"
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        addresses = {f"{net}.1": ""}
        for host in range(2, count + 1):
            space, outside, inside = (f"{kind}{number}x{host}" for kind in ("sp", "so", "si"))
            _ip("netns", "add", space)
            stack.callback(_ip, "netns", "del", space)
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            _ip("link", "set", inside, "netns", space)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("-n", space, "addr", "add", f"{net}.{host}/24", "dev", inside)
            _ip("-n", space, "link", "set", inside, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            addresses[f"{net}.{host}"] = space
        yield addresses


@contextmanager
def _daemon(folder: Path, space: str, address: str, *arguments: str) -> Iterator[Daemon]:
    import pyspark

    home = Path(pyspark.__file__).parent
    kind, *rest = arguments
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": address,
        "SPARK_DAEMON_MEMORY": "256m",
        "PYSPARK_PYTHON": sys.executable,
    }
    program = [str(home / "bin/spark-class"), f"org.apache.spark.deploy.{kind}", *rest]
    with (folder / f"{address}.log").open("wb") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", space, *program],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    daemon = Daemon(address, process)
    try:
        yield daemon
    finally:
        if process.poll() is None:
            daemon.kill()


def _wait_for(log: Path, words: str, times: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while log.read_text().count(words) < times:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {words!r} in:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
