"""Writing exactly the next version of the table, while others write too."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from tfx_distill.labels import partition
from tfx_distill.labels.partition import Partition
from tfx_distill.labels.storage import Storage, message_of, problem
from tfx_distill.schema.errors import EnvironmentProblem

_TRIES = 50
_LINKS = (
    "If this is a mount that lacks hard links, name the bucket of its store in labels.table, or "
    "set MOUNT_ALLOW_UNSAFE_RENAME=true while nobody else commits. "
)

T = TypeVar("T")


def until_written(table: Storage, attempt: Callable[[], T]) -> T:
    """The result of the first attempt that no other writer came before.

    Args:
      table: Storage of the label table.
      attempt: Looks at the table, decides, and writes a version; called again after a conflict.

    Raises:
      EnvironmentProblem: The table cannot be written, or others write without a pause.
    """
    failure = Exception()
    for _ in range(_TRIES):
        try:
            return attempt()
        except CommitFailedError as error:
            # Another writer took the version: look at the table again, then try the next one.
            failure = error
            time.sleep(random.uniform(0.005, 0.05))
        except (DeltaError, OSError) as error:
            failure = error
            break
    raise problem(table.table, failure) or EnvironmentProblem(
        table.table,
        got=f"a commit that failed: {message_of(failure)}",
        expected="a commit in the log of the table",
        fix=f"{_LINKS if 'rename file' in str(failure) else ''}Check free space, permissions and "
        "other writers there, then run again; the table is as it was before.",
    ) from failure


def write_version(
    delta: DeltaTable,
    actions: Sequence[AddAction | RemoveAction],
    metadata: str,
    transactions: Sequence[Transaction] = (),
) -> int:
    """Writes the version after the loaded one, and returns its number.

    Args:
      delta: The table as the decision was made from it.
      actions: Files that appear and disappear.
      metadata: JSON object that the commit carries.
      transactions: Transaction ids to set.

    Raises:
      CommitFailedError: Another writer took that version.
    """
    version = delta.version() + 1
    delta.create_write_transaction(
        list(actions),
        "append",
        delta.schema(),
        list(partition.COLUMNS),
        commit_properties=CommitProperties(
            # Spark shows this field in DESCRIBE HISTORY; own fields it would not.
            custom_metadata={"userMetadata": metadata},
            # No silent retry at a later version: it would keep the files of a concurrent
            # labelling of the same partition beside ours, and the version would be unknown.
            max_commit_retries=0,
            app_transactions=list(transactions),
        ),
    )
    return version


def removal(path: str, size: int | None, target: Partition) -> RemoveAction:
    """The action that makes a file disappear from this version on."""
    return RemoveAction(path, True, int(time.time() * 1000), size, target.values)
