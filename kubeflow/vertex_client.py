"""Vertex AI through Google's client, which TFX brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tfx_distill.kubeflow.service import Run, RunState, Schedule
from tfx_distill.schema.errors import EnvironmentProblem

_STATES: dict[str, RunState] = {
    "PIPELINE_STATE_SUCCEEDED": "succeeded",
    "PIPELINE_STATE_FAILED": "failed",
    "PIPELINE_STATE_CANCELLED": "failed",
}
_CONSOLE = "https://console.cloud.google.com/vertex-ai/locations"


class VertexClient:
    """The pipelines of a project in a region.

    Args:
      project: Its id.
      region: Where the pipelines run.
      service_account: Of the steps.
      pipeline_root: Where the artifacts go.
    """

    def __init__(
        self, *, project: str, region: str, service_account: str | None, pipeline_root: str
    ) -> None:
        self._place = {"project": project, "location": region}
        self._service_account = service_account
        self._pipeline_root = pipeline_root

    def runs(self, beginning: str) -> Sequence[Run]:
        """The pipeline jobs whose names begin so."""
        from google.cloud import aiplatform

        with self._explained():
            found = [job.to_dict() for job in aiplatform.PipelineJob.list(**self._named(beginning))]
        return [
            Run(
                one["displayName"],
                _STATES.get(one["state"], "running"),
                self._link("runs", one["displayName"]),
            )
            for one in found
        ]

    def create_run(self, name: str, text: str, parameters: Mapping[str, str | int]) -> Run:
        """Begins a pipeline job; its id is the name, so there cannot be another one."""
        with self._explained():
            self._job(name, text, parameters, job_id=name).submit(
                service_account=self._service_account
            )
        return Run(name, "running", self._link("runs", name))

    def schedules(self, beginning: str) -> Sequence[Schedule]:
        """The schedules whose names begin so."""
        from google.cloud import aiplatform

        with self._explained():
            listed = aiplatform.PipelineJobSchedule.list(**self._named(beginning))
            found = [one.to_dict() for one in listed]
        return [
            self._schedule(one["displayName"], one["name"], active=one["state"] == "ACTIVE")
            for one in found
            if one["state"] != "COMPLETED"
        ]

    def create_schedule(self, name: str, text: str, cron: str) -> Schedule:
        """Creates a schedule."""
        with self._explained():
            made = self._job(name, text, {}).create_schedule(
                cron=cron,
                display_name=name,
                allow_queueing=False,
                max_concurrent_run_count=1,
                service_account=self._service_account,
            )
            return self._schedule(name, made.resource_name, active=True)

    def delete_schedule(self, schedule: Schedule) -> None:
        """Deletes a schedule."""
        from google.cloud import aiplatform

        with self._explained():
            aiplatform.PipelineJobSchedule.get(schedule.number, **self._place).delete()

    def _job(
        self, name: str, text: str, parameters: Mapping[str, str | int], job_id: str | None = None
    ) -> Any:
        from google.cloud import aiplatform

        with TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            file.write_text(text)
            return aiplatform.PipelineJob(
                display_name=name,
                template_path=str(file),
                job_id=job_id,
                pipeline_root=self._pipeline_root,
                parameter_values=dict(parameters),
                **self._place,
            )

    def _named(self, beginning: str) -> dict[str, str]:
        return {"filter": f'display_name:"{beginning}*"', **self._place}

    def _schedule(self, name: str, resource: str, *, active: bool) -> Schedule:
        number = resource.rpartition("/")[2]
        return Schedule(name, resource, active, self._link("schedules", number))

    def _link(self, kind: str, number: str) -> str:
        place = f"{_CONSOLE}/{self._place['location']}/pipelines/{kind}/{number}"
        return f"{place}?project={self._place['project']}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tells in our words what goes wrong."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        try:
            yield
        except (GoogleAPIError, GoogleAuthError) as error:
            raise EnvironmentProblem(
                f"Vertex AI, project {self._place['project']} in {self._place['location']}",
                got=" ".join(str(error).split()),
                expected="the right to create pipeline jobs there",
                fix="Check project and region, log in with `gcloud auth application-default "
                "login`, and see docs/kubeflow.md for the roles.",
            ) from error
