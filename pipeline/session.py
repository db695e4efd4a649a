"""One run of a config on this machine, from the check of its data to the summary."""

from __future__ import annotations

from tfx_distill.datasets import logs
from tfx_distill.pipeline import gathering, graph, local_runner, summary
from tfx_distill.pipeline.summary import Summary
from tfx_distill.schema import tfmd
from tfx_distill.schema.config import RunConfig

RESOLVED = "config.yaml"


def run(
    config: RunConfig, *, spans: tuple[int, int] | None = None, until: str | None = None
) -> tuple[Summary, Exception | None]:
    """Runs the pipeline; what an earlier run finished and nothing changed is not done again.

    Args:
      config: What to run.
      spans: First and last span; all there are by default.
      until: Id of the last component to run.

    Returns:
      The summary, which is also in the run folder, and the first error.

    Raises:
      DistillError: Config or data cannot be used; nothing was done.
    """
    folder = config.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    chosen = logs.select_spans(config.data, spans)
    settings = logs.LogConfig.of(config)
    files = logs.split_files(config.data, chosen)
    types = logs.column_types(settings, [*files["train"], *files["eval"]])
    logs.require_serving_values(config, types)
    schema = tfmd.tfmd_schema(config, types)
    (folder / RESOLVED).write_text(config.to_yaml())
    source = graph.Input(
        first=chosen[0],
        last=chosen[-1],
        fingerprint=logs.fingerprint(config.data, chosen),
        schema_file=tfmd.write(schema, folder / "schema"),
    )
    outcome = local_runner.run(graph.build(config, source), until=until)
    result = gathering.summarise(config, outcome, f"{chosen[0]}-{chosen[-1]}")
    summary.write(result, folder)
    return result, outcome.error
