// The page of TFMA's views of one evaluation: fills their elements with the chosen model, slices
// and task. The data stand in the page as JSON, see tfma_view.py.
"use strict";

(() => {
  // The only method of TFMA's elements that reaches into what Google Charts would have drawn.
  customElements.get("tfma-metrics-histogram").prototype.highlightHistogramBuckets_ =
    function (buckets) {
      this.chart_.setSelection(buckets.map((bucket) => ({row: bucket % this.numBuckets})));
    };

  const content = JSON.parse(document.getElementById("tfma-data").textContent);
  const control = (name) => document.getElementById(`tfma-${name}`);

  function offer(select, names) {
    const before = select.value;
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value)));
    if (names.some(([value]) => value === before)) select.value = before;
  }

  /** A fresh element each time: TFMA's own keep choices that other data may not have. */
  function show(place, tag, properties) {
    const element = document.createElement(tag);
    Object.assign(element, properties);
    place.replaceChildren(element);
  }

  function showMetrics() {
    const model = content.models[control("model").value];
    const task = control("task").value;
    const rows = model.metrics[control("slices").value] ?? [];
    const wanted = control("filter").value.trim().toLowerCase();
    const data = rows
      .filter(({slice}) => slice.toLowerCase().includes(wanted))
      .map(({slice, metrics}) => ({slice, metrics: {[task]: metrics[task]}}));
    control("count").textContent = `${data.length} of ${rows.length} slices`;
    const place = control("metrics");
    if (data.length) show(place, "tfma-nb-slicing-metrics", {data, config: content.config});
    else place.replaceChildren("No slice has this text in its name.");
  }

  function showPlot() {
    const model = content.models[control("model").value];
    const plot = model.plots[control("task").value];
    if (plot) show(control("plot"), "tfma-nb-plot", plot);
    else control("plot").replaceChildren("This evaluation has no plots.");
  }

  function showModel() {
    const model = content.models[control("model").value];
    offer(control("task"), model.tasks.map((task) => [task, task]));
    offer(control("slices"), Object.keys(model.metrics).map((column) =>
      [column, column ? `by ${column}` : "all examples"]));
    showMetrics();
    showPlot();
  }

  offer(control("model"), Object.keys(content.models).map((name) => [name, name]));
  control("model").addEventListener("change", showModel);
  control("slices").addEventListener("change", showMetrics);
  control("filter").addEventListener("input", showMetrics);
  control("task").addEventListener("change", () => {
    showMetrics();
    showPlot();
  });
  showModel();
})();
