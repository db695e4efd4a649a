"""A label table in a bucket of an object store that speaks S3.

The log is read and written by deltalake, the label files by pyarrow: two clients, which take the
same settings from the environment, as other tools for S3 do.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from pyarrow import fs

from tfx_distill.labels.conditional_write import second_write_is_refused
from tfx_distill.labels.storage import LOG, URL, Storage, StoredFile, message_of
from tfx_distill.schema.errors import EnvironmentProblem

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 20
_TRIES = 3
_DEFAULT_REGION = "us-east-1"
_CAUSES = (
    (
        # deltalake asks the machine for credentials where there are none.
        ("169.254.169.254", "NoCredentials"),
        "no credentials",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    ),
    (
        ("NO_SUCH_BUCKET", "NoSuchBucket"),
        "no such bucket",
        "Create the bucket, or correct labels.table.",
    ),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "403 Forbidden"),
        "access denied",
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may list, read, write "
        "and delete there.",
    ),
    (
        (
            "NETWORK_CONNECTION",
            "REQUEST_TIMEOUT",
            "error sending request",
            "timed out",
            "urlopen error",
        ),
        "no answer",
        "Check AWS_ENDPOINT_URL, the network and the store.",
    ),
)
"""What the messages of the two clients hold, what it means, and what to do about it."""


class Bucket(Storage):
    """A label table below `s3://BUCKET/PREFIX`."""

    def __init__(self, table: str) -> None:
        self.table = table.rstrip("/")
        self.options = _options()
        self._key = _key(self.table)
        self._files = _file_system(_settings())
        if os.environ.get("AWS_S3_ALLOW_UNSAFE_RENAME", "").lower() in ("1", "true", "yes"):
            raise EnvironmentProblem(
                self.table,
                got="AWS_S3_ALLOW_UNSAFE_RENAME in the environment",
                expected="commits that cannot overwrite each other",
                fix="Unset it: stores with conditional writes need no such setting.",
            )

    def name(self, path: str) -> str:
        """URL."""
        return f"{self.table}/{path}"

    def is_table(self) -> bool:
        """By listing the log."""
        with _explained(self.table):
            return super().is_table()

    def delta(self, version: int | None = None) -> DeltaTable:
        """A version of the table; the newest by default."""
        with _explained(self.table):
            return super().delta(version)

    def require_atomic_commits(self) -> None:
        """Tries it, once for each table: AWS itself has had conditional writes since 2024."""
        settings = _settings()
        if settings.endpoint is None:
            return
        probe = f"_probe-{uuid4().hex}"
        with _explained(self.table):
            kept = second_write_is_refused(
                settings.endpoint,
                settings.region or _DEFAULT_REGION,
                f"{self._key}/{probe}",
                _ANSWER_SECONDS,
            )
            self.delete(probe)
        if kept is not False:
            return
        raise EnvironmentProblem(
            self.table,
            got=f"a store ({_where()}) that lets a second writer overwrite a commit",
            expected="conditional writes: If-None-Match on PutObject",
            fix="Use a store, or a newer release of it, that has them, or a folder where the "
            "store is mounted.",
        )

    def read_log(self, name: str) -> str | None:
        """The text of that object."""
        try:
            with _explained(self.table):
                return self._open(f"{LOG}/{name}").read().decode()
        except FileNotFoundError:
            return None

    def log_names(self) -> list[str]:
        """The names below that prefix."""
        return [os.path.basename(found.path) for found in self._list(LOG)]

    def status(self, path: str) -> StoredFile | None:
        """By asking for the head of the object."""
        with _explained(self.table):
            found = self._files.get_file_info(f"{self._key}/{path}")
        return self._stored(found) if found.is_file else None

    def holds(self, paths: Sequence[str]) -> bool:
        """One list of each of their folders."""
        folders = {os.path.dirname(path) for path in paths}
        there = {self._stored(found).path for folder in folders for found in self._list(folder)}
        return there.issuperset(paths)

    def scratch(self, folder: str) -> Path:
        """A local folder for temporary files, as TMPDIR says: objects cannot be renamed."""
        return Path(tempfile.gettempdir())

    def publish(self, partial: Path, path: str) -> None:
        """Uploads it; the object appears when its last byte has arrived."""
        with _explained(self.table):
            there = self._files.get_file_info(f"{self._key}/{path}")
            # Its name is a digest: it is the same file, and may be committed by now.
            if there.is_file and there.size == partial.stat().st_size:
                return
            # In one call, since closing after a failed one would publish what there is.
            with (
                pa.memory_map(str(partial)) as content,
                self._files.open_output_stream(f"{self._key}/{path}") as upload,
            ):
                upload.write(content.read_buffer())

    def listed(self, beginning: str) -> tuple[list[StoredFile], list[tuple[str, float]]]:
        """Files only: folders come and go with them."""
        with _explained(self.table):
            below = self._files.get_file_info(fs.FileSelector(self._key, allow_not_found=True))
        folders = [
            found.base_name
            for found in below
            if not found.is_file and found.base_name.startswith(beginning)
        ]
        return [self._stored(found) for folder in folders for found in self._list(folder)], []

    def delete(self, path: str) -> None:
        """Deletes the object."""
        with _explained(self.table), contextlib.suppress(FileNotFoundError):
            self._files.delete_file(f"{self._key}/{path}")

    def remove_if_empty(self, folder: str) -> None:
        """Nothing to do: there are no folders."""

    def _open(self, path: str) -> pa.NativeFile:
        return self._files.open_input_file(f"{self._key}/{path}")

    def _list(self, folder: str) -> list[fs.FileInfo]:
        """All objects below a folder."""
        where = fs.FileSelector(f"{self._key}/{folder}", recursive=True, allow_not_found=True)
        with _explained(self.table):
            return [found for found in self._files.get_file_info(where) if found.is_file]

    def _stored(self, found: fs.FileInfo) -> StoredFile:
        path = found.path.removeprefix(f"{self._key}/")
        return StoredFile(path, found.size, found.mtime.timestamp())


def opened(name: str) -> pa.NativeFile:
    """An object, to be read at any place, by its URL."""
    with _explained(name):
        return _file_system(_settings()).open_input_file(_key(name))


def problem(name: str, error: Exception) -> EnvironmentProblem | None:
    """A failure of the store in words; None for other failures."""
    message = message_of(error)
    for marks, meaning, fix in _CAUSES:
        if any(mark in message for mark in marks):
            return EnvironmentProblem(
                name,
                got=f"{meaning} ({_where()})",
                expected="a bucket that can be read and written to",
                fix=fix,
            )
    return None


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Raises failures of the store as an EnvironmentProblem, and other ones as they are."""
    try:
        yield
    except CommitFailedError:
        raise
    except (OSError, DeltaError) as error:
        explained = problem(name, error)
        if explained is None:
            raise
        raise explained from error


def _key(name: str) -> str:
    """Bucket and key, as pyarrow names an object."""
    return name.removeprefix(URL).rstrip("/")


class _Settings(NamedTuple):
    """What the environment says of the store.

    Attributes:
      endpoint: None for that of AWS.
      region: None for the default one.
      account: Id of the access key; tells clients apart, which read the key itself.
    """

    endpoint: str | None
    region: str | None
    account: str | None


def _settings() -> _Settings:
    return _Settings(
        _first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        _first_of("AWS_REGION", "AWS_DEFAULT_REGION"),
        _first_of("AWS_ACCESS_KEY_ID"),
    )


def _first_of(*variables: str) -> str | None:
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


def _where() -> str:
    return _settings().endpoint or "AWS"


def _options() -> dict[str, str]:
    """What deltalake does not take from the environment by itself: bounded times above all."""
    options = {
        "connect_timeout": f"{_CONNECT_SECONDS}s",
        "timeout": f"{_ANSWER_SECONDS}s",
        "max_retries": str(_TRIES - 1),
        "retry_timeout": f"{_TRIES * _ANSWER_SECONDS}s",
    }
    settings = _settings()
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
        # Whoever names an endpoint without TLS wants it.
        options["allow_http"] = str(settings.endpoint.startswith("http:")).lower()
    if settings.region:
        options["region"] = settings.region
    return options


@lru_cache
def _file_system(settings: _Settings) -> fs.S3FileSystem:
    scheme, _, host = (settings.endpoint or "https://").partition("://")
    return fs.S3FileSystem(
        scheme=scheme,
        endpoint_override=host.rstrip("/") or None,
        region=settings.region,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_ANSWER_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
        # Written in the background, a file would be copied to memory.
        background_writes=False,
    )
