"""The command of a schedule's only step: `python -m tfx_distill.kubeflow.scheduler_step`."""

from __future__ import annotations

import click

from tfx_distill.kubeflow import submitting
from tfx_distill.kubeflow.execution import Execution
from tfx_distill.kubeflow.preparation import chosen_config
from tfx_distill.kubeflow.scheduler import Turn
from tfx_distill.kubeflow.submitting import Order
from tfx_distill.pipeline.telling import explained


@click.command()
@click.option(
    "--executor_input", required=True, callback=lambda context, option, text: Execution.parse(text)
)
@explained
def main(executor_input: Execution) -> None:
    """Submit what is next of a stream."""
    given = executor_input.parameter
    turn = Turn.model_validate_json(given("turn"))
    # A number may come as 1.0.
    seed = int(given("seed"))
    config = chosen_config(turn.config, given("config_uri"), seed)
    connection = turn.connection
    order = Order(config, connection.target, turn.students_only, {"seed": seed}, turn.attempts)
    outcome = submitting.submit(connection.service(config), order, given("span"))
    click.echo(submitting.words(outcome))


if __name__ == "__main__":
    main()
