"""Kubeflow Pipelines through its own client, the package `kfp`."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from tfx_distill.kubeflow.service import Run, RunState, Schedule
from tfx_distill.schema.errors import EnvironmentProblem

TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
"""Environment variable of the kfp client: a file with the token that opens a shared installation.

Without it the client looks where Kubeflow mounts one into its pods.
"""
_MOUNTED_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
_CONNECT_SECONDS = 10
_PAGE = 100
_CONTAINS = 9
"""Operation IS_SUBSTRING of the API's filters."""
_STATES: dict[str, RunState] = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "failed",
    "SKIPPED": "failed",
}


class KfpClient:
    """The runs of one experiment.

    Args:
      host: Address of the API, or of the user interface, which passes it on; without a slash at its
        end.
      experiment: Which is created when it is needed.
      namespace: Of the experiment, where several users share an installation.
      service_account: Of the steps.
      pipeline_root: Where the artifacts go.
    """

    def __init__(
        self,
        host: str,
        *,
        experiment: str,
        namespace: str | None = None,
        service_account: str | None = None,
        pipeline_root: str,
    ) -> None:
        self._host = host
        self._experiment = experiment
        self._namespace = namespace
        self._common = {"pipeline_root": pipeline_root, "service_account": service_account}

    def runs(self, beginning: str) -> Sequence[Run]:
        """The runs whose names begin so."""
        found = self._listed(lambda **page: self._client.list_runs(**page), "runs", beginning)
        return [self._run(one) for one in found if str(one.storage_state) != "ARCHIVED"]

    def create_run(self, name: str, text: str, parameters: Mapping[str, str | int]) -> Run:
        """Begins a run."""
        with _as_file(text) as package, self._explained():
            made = self._client.run_pipeline(
                self._experiment_id,
                name,
                pipeline_package_path=package,
                params=dict(parameters),
                **self._common,
            )
        return Run(name, "running", self._run_link(made.run_id))

    def schedules(self, beginning: str) -> Sequence[Schedule]:
        """The recurring runs whose names begin so."""
        found = self._listed(
            lambda **page: self._client.list_recurring_runs(**page), "recurring_runs", beginning
        )
        return [self._schedule(one) for one in found]

    def create_schedule(self, name: str, text: str, cron: str) -> Schedule:
        """Creates a recurring run."""
        with _as_file(text) as package, self._explained():
            made = self._client.create_recurring_run(
                self._experiment_id,
                name,
                # Here the first field is that of seconds.
                cron_expression=f"0 {cron}",
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=package,
                **self._common,
            )
        return Schedule(name, made.recurring_run_id, True, self._schedule_link(made))

    def delete_schedule(self, schedule: Schedule) -> None:
        """Deletes a recurring run."""
        with self._explained():
            self._client.delete_recurring_run(schedule.number)

    @cached_property
    def _client(self) -> Any:
        kfp = _imported()
        return kfp.Client(
            host=self._host,
            # Despite its name, this only says which namespace requests are about.
            namespace=self._namespace or "kubeflow",
            credentials=_credentials(kfp),
        )

    @cached_property
    def _experiment_id(self) -> str:
        made = self._client.create_experiment(self._experiment, namespace=self._namespace)
        return str(made.experiment_id)

    def _listed(self, listing: Callable[..., Any], field: str, beginning: str) -> list[Any]:
        predicate = {"operation": _CONTAINS, "key": "display_name", "stringValue": beginning}
        found: list[Any] = []
        token = ""
        with self._explained():
            while True:
                page = listing(
                    page_token=token,
                    page_size=_PAGE,
                    experiment_id=self._experiment_id,
                    filter=json.dumps({"predicates": [predicate]}),
                )
                found += getattr(page, field) or []
                token = page.next_page_token
                if not token:
                    return [one for one in found if one.display_name.startswith(beginning)]

    def _run(self, one: Any) -> Run:
        state = _STATES.get(str(one.state), "running")
        return Run(one.display_name, state, self._run_link(one.run_id))

    def _schedule(self, one: Any) -> Schedule:
        active = str(one.status) != "DISABLED"
        return Schedule(one.display_name, one.recurring_run_id, active, self._schedule_link(one))

    def _run_link(self, number: str) -> str:
        return f"{self._host}/#/runs/details/{number}"

    def _schedule_link(self, one: Any) -> str:
        return f"{self._host}/#/recurringrun/details/{one.recurring_run_id}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Keeps the client quiet, and tells in our words what goes wrong."""
        _imported()
        import kfp_server_api
        import urllib3

        try:
            _require_reachable(self._host)
            with _quiet():
                yield
        except kfp_server_api.ApiException as error:
            raise EnvironmentProblem(
                self._host,
                got=f"HTTP status {error.status}: {_message(error.body) or error.reason}",
                expected="Kubeflow Pipelines, and the right to do this there",
                fix="Check the address; on an installation that users share also --namespace, and "
                f"that {TOKEN_FILE} names a file with a token.",
            ) from error
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise EnvironmentProblem(
                self._host,
                got=f"no answer: {error}",
                expected="the API of Kubeflow Pipelines",
                fix="Check the address, and that it can be reached from here, for example with "
                "`kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`.",
            ) from error


def _imported() -> Any:
    """The package `kfp`.

    Raises:
      EnvironmentProblem: It is not installed.
    """
    try:
        with _quiet():
            import kfp
    except ImportError as error:
        raise EnvironmentProblem(
            "kfp",
            got=str(error),
            expected="the client of Kubeflow Pipelines, which the extra 'kubeflow' brings",
            fix="Install the extra 'kubeflow' of tfx-distill; in a clone, run `make setup`.",
        ) from error
    return kfp


def _credentials(kfp: Any) -> Any:
    file = os.environ.get(TOKEN_FILE) or _MOUNTED_TOKEN
    if not Path(file).exists():
        return None
    return kfp.client.ServiceAccountTokenVolumeCredentials(file)


def _require_reachable(host: str) -> None:
    """The client itself would wait for minutes.

    Raises:
      OSError: Nobody listens there.
    """
    address = urlsplit(host)
    port = address.port or (443 if address.scheme == "https" else 80)
    with socket.create_connection((address.hostname, port), timeout=_CONNECT_SECONDS):
        pass


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the client prints, logs and warns of."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        file.write_text(text)
        yield str(file)


def _message(body: str | None) -> str:
    """What the API says of an error."""
    try:
        return str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return ""
