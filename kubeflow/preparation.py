"""The first step of a run: which spans it is on, and what every other step has to know of it."""

from __future__ import annotations

from tfx_distill.datasets import logs
from tfx_distill.kubeflow import dag
from tfx_distill.kubeflow.uris import local_path
from tfx_distill.pipeline import graph, session, stream
from tfx_distill.pipeline.session import Spans
from tfx_distill.schema import config as run_config
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError
from tfx_distill.schema.sections import Section


class Plan(Section):
    """What was known when a pipeline was compiled.

    Attributes:
      config: The resolved run config, as YAML.
      digest: Of the graph, see `dag.digest`.
      later: For a later span of a stream, the spans of the run; None where the run chooses.
      students_only: Whether another pipeline's teacher labels.
    """

    config: str
    digest: str
    later: Spans | None
    students_only: bool


class Prepared(Section):
    """What every step of a run starts from.

    Attributes:
      run: Id of the run.
      config: The resolved run config, as YAML.
      source: What the run reads.
      later: As of `Plan`.
    """

    run: str
    config: str
    source: graph.Input

    @property
    def run_config(self) -> RunConfig:
        """The run config."""
        return RunConfig.from_yaml(self.config)


def prepare(plan: Plan, run: str, *, config_uri: str, seed: int, spans: str) -> Prepared:
    """Looks at config and logs.

    Args:
      plan: Of the compiled pipeline.
      run: Id of the run.
      config_uri: A config file that replaces the compiled one; empty for none.
      seed: Replaces that of the config.
      spans: `A..B`; empty for all there are, or for the bootstrap of a stream.

    Raises:
      DistillError: Config or data cannot be used, or another graph was compiled.
    """
    config = chosen_config(plan.config, config_uri, seed)
    chosen = plan.later or _chosen(config, spans)
    version = stream.labels_version(config, chosen) if plan.students_only else None
    source = session.prepare(config, chosen, labels_version=version)
    if dag.digest(graph.build(config, source)) != plan.digest:
        raise ConfigError(
            config_uri or "the compiled pipeline",
            got="a config that makes another graph than the one that was compiled",
            expected="the same students, and the same kind of run",
            fix="Compile the pipeline again from this config, with this version of tfx-distill.",
        )
    if config.stream is not None and chosen.carried is None:
        stream.pin(config)
    return Prepared(run=run, config=config.to_yaml(), source=source)


def chosen_config(text: str, uri: str, seed: int) -> RunConfig:
    """The config of a run.

    Args:
      text: The one that was compiled.
      uri: A file that replaces it; empty for none.
      seed: Replaces that of either.

    Raises:
      ConfigError: The file is no run config.
    """
    config = run_config.load(local_path(uri)) if uri else RunConfig.from_yaml(text)
    return config.model_copy(update={"seed": seed})


def _chosen(config: RunConfig, spans: str) -> Spans:
    if config.stream is None:
        numbers = logs.parse_spans(spans.replace("..", "-")) if spans else None
        found = logs.select_spans(config.data, numbers)
        return Spans(found[0], found[-1])
    standing = stream.progress(config)
    first = next(iter(standing.pending), None)
    if first is None or first.carried is not None:
        raise ConfigError(
            "spans",
            got=standing.waiting or "a stream whose bootstrap has ended",
            expected="the spans of the bootstrap",
            fix="Compile the pipeline of a later span with `--span`.",
        )
    return first
