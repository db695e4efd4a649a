"""Runs one component of a TFX pipeline, without a metadata store and without a driver."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tfx.dsl.compiler import compiler
from tfx.orchestration.data_types_utils import build_parsed_value_dict
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import inputs_utils
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.orchestration.portable.launcher import DEFAULT_EXECUTOR_OPERATORS
from tfx.proto.orchestration import pipeline_pb2

from tfx_distill.kubeflow.execution import Artifacts


def execute(
    pipeline: Pipeline, component: str, run: str, inputs: Artifacts, outputs: Artifacts
) -> Artifacts:
    """Lets TFX's own operators run the executor, as a local run does.

    Args:
      pipeline: Of which the component is a part.
      component: Its id.
      run: Id of the run.
      inputs: By input.
      outputs: New artifacts, by output; one each.

    Returns:
      The outputs with the properties that the executor gave them.
    """
    ir = compiler.Compiler().compile(pipeline)
    deployment = runner_utils.extract_local_deployment_config(ir)
    spec = runner_utils.extract_executor_spec(deployment, component)
    (node,) = (one.pipeline_node for one in ir.nodes if one.pipeline_node.node_info.id == component)
    # TFX hands the arguments of the process to Beam.
    del sys.argv[1:]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        done = DEFAULT_EXECUTOR_OPERATORS[type(spec)](spec).run_executor(
            ExecutionInfo(
                execution_id=0,
                input_dict=inputs,
                output_dict=outputs,
                exec_properties=exec_properties(node),
                execution_output_uri=str(folder / "output"),
                stateful_working_dir=str(folder / "state"),
                tmp_dir=str(folder / "tmp"),
                pipeline_node=node,
                pipeline_info=ir.pipeline_info,
                pipeline_run_id=run,
            )
        )
    for key, (item,) in outputs.items():
        (content,) = done.output_artifacts[key].artifacts
        item.set_mlmd_artifact(content)
    return outputs


def exec_properties(node: pipeline_pb2.PipelineNode) -> dict[str, Any]:
    """The execution properties of a node, by name."""
    found: dict[str, Any] = build_parsed_value_dict(
        inputs_utils.resolve_parameters_with_schema(node.parameters)
    )
    return found
