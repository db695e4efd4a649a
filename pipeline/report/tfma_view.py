"""TensorFlow Model Analysis's own views of an evaluation, as a page that needs no network.

The data come from TFMA's own functions, the elements that show them from TFMA's package. Those
draw with Google Charts, which may not be copied and is loaded from a server; `assets` has a layer
with the same interface that draws with Vega-Lite and HTML tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx_distill.pipeline.report import assets, view_document

_BODY = f"""<p>Every metric of TensorFlow Model Analysis: choose a model, a task and slices. A click
on the name of a column sorts by it, a click on a bar or row marks the slice.</p>
<form class="controls" onsubmit="return false">
{view_document.select("tfma-model", "Model")}{view_document.select("tfma-task", "Task")}
{view_document.select("tfma-slices", "Slices")}
<label>Only slices with <input id="tfma-filter" type="search"></label>
<output id="tfma-count"></output>
</form>
<h2>Metrics</h2>
<div id="tfma-metrics"></div>
<h2>Calibration and thresholds, over all examples</h2>
<div id="tfma-plot"></div>"""


def write(
    evaluation: str | Path,
    page: Path,
    folder: Path,
    *,
    title: str = "Evaluation",
    home: str = "index.html",
) -> None:
    """Writes the page of one evaluation.

    Args:
      evaluation: Folder of a ModelEvaluation of the ModelEvaluator.
      page: File to write.
      folder: Of the site's assets; what the page needs is put there.
      title: Heading of the page.
      home: Where its link back leads, relative to the page.
    """
    view_document.write(
        page,
        title,
        _BODY,
        content(evaluation),
        name="tfma",
        scripts=assets.TFMA,
        folder=folder,
        home=home,
        # TFMA's own switch: no fonts from a server.
        first=("window.polymerSkipLoadingFontRoboto = true",),
    )


def content(evaluation: str | Path) -> dict[str, Any]:
    """What TFMA's elements show, by model.

    Returns:
      `config` of the elements, and in `models` for each model its `tasks`, its `metrics` by column
      to slice by (all examples under the empty name) and its `plots` by task.
    """
    # Loading TFMA takes seconds, which only those who ask for its views should wait.
    from tensorflow_model_analysis.api import model_eval_lib
    from tensorflow_model_analysis.metrics import weighted_example_count
    from tensorflow_model_analysis.proto.metrics_for_slice_pb2 import PlotsForSlice
    from tensorflow_model_analysis.slicer import slicer_lib
    from tensorflow_model_analysis.view import util
    from tensorflow_model_analysis.writers import eval_config_writer

    settings, *_ = eval_config_writer.load_eval_run(str(evaluation))
    measured = list(model_eval_lib.load_metrics(str(evaluation)))
    # What is not shown is not converted: plots of slices, and those of the other models, which
    # TFMA's load_eval_result would convert for each model anew.
    drawn = [
        one
        for of_slice in model_eval_lib.load_plots(str(evaluation))
        if not of_slice.slice_key.single_slice_keys
        for one in of_slice.plot_keys_and_values
    ]
    config = util.get_slicing_config(settings, weighted_example_count.WEIGHTED_EXAMPLE_COUNT_NAME)
    models: dict[str, Any] = {}
    for name in [spec.name for spec in settings.model_specs]:
        converted = (util.convert_metrics_proto_to_dict(one, model_name=name) for one in measured)
        # TFMA's word for a slice without metrics of that model is None.
        slices = [one for one in converted if one is not None]
        sliced = {column for key, _ in slices for column, _ in key}
        metrics = {
            column: util.get_slicing_metrics(slices, slicing_column=column)
            for column in ("", *sorted(sliced))
        }
        own = [one for one in drawn if one.key.model_name == name]
        plots = {}
        if own:
            plotted = util.convert_plots_proto_to_dict(
                PlotsForSlice(plot_keys_and_values=own), model_name=name
            )
            for task in sorted(plotted[1]):
                plot, how = util.get_plot_data_and_config(
                    [plotted], slicer_lib.SingleSliceSpec(), output_name=task
                )
                plots[task] = {"data": _rounded(plot), "config": how}
        models[name] = {
            "tasks": sorted(metrics[""][0]["metrics"]),
            "metrics": metrics,
            "plots": plots,
        }
    return {"config": config, "models": models}


def _rounded(tree: Any) -> Any:
    """A tree of JSON whose numbers have the digits that a plot can show."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_rounded(value) for value in tree]
    return float(f"{tree:.7g}") if isinstance(tree, float) else tree
