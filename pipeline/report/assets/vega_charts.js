// The charts of Google Charts' interface that TFMA draws, drawn by Vega-Lite: lines, columns,
// both combined, and bubbles.
"use strict";

(() => {
  const {events} = google.visualization;
  const COLORS = ["#1f6feb", "#d1495b", "#2e8b57", "#8a5cc2"];
  const UNNAMED = "#8c8c8c";

  /** Columns of values, each with the column of tooltips that follows it, if any. */
  function seriesOf(table, options, kind) {
    const all = [];
    for (let column = 1; column < table.getNumberOfColumns(); column++) {
      if (table.getColumnRole(column) === "tooltip") all.at(-1).tooltip = column;
      else all.push({column, name: table.getColumnLabel(column)});
    }
    return all.map((one, index) => {
      const set = options.series?.[index] ?? {};
      return {
        ...one,
        kind: {bars: "bar", scatter: "point", line: "line"}[set.type] ?? kind,
        dash: set.lineDashStyle,
        axis: set.targetAxisIndex ?? 0,
        // A series without a name is a help line, such as the diagonal of a ROC curve.
        color: one.name ? COLORS[index % COLORS.length] : UNNAMED,
      };
    });
  }

  /** Finite points of a series, as Vega's data. */
  function points(table, one) {
    const data = [];
    for (let row = 0; row < table.getNumberOfRows(); row++) {
      const y = Number(table.getValue(row, one.column));
      if (!Number.isFinite(y)) continue;
      const at = table.getFormattedValue(row, 0);
      const tooltip = one.tooltip === undefined
        ? `${at}\n${one.name}: ${table.getFormattedValue(row, one.column)}`
        : table.getFormattedValue(row, one.tooltip);
      data.push({x: table.getValue(row, 0), y, tooltip, row, column: one.column});
    }
    return data;
  }

  /** The scale and labels of an axis in Vega-Lite's words. */
  function axis(options = {}, title = "") {
    const {min, max} = options.viewWindow ?? {};
    const values = options.ticks?.map((tick) => tick.v ?? tick);
    return {
      title: options.title ?? (title || null),
      scale: min === undefined ? {zero: false} : {domain: [min, max]},
      axis: values ? {values, labels: values.length > 0, ticks: values.length > 0} : {},
    };
  }

  /** The mark of a series and where it stands. Marks are left out for screen readers: hundreds of
   * points say less than the chart's own description. */
  function layer(table, one, index, options, shared) {
    const data = {values: points(table, one)};
    const x = {field: "x", ...shared.x};
    const side = options.vAxes?.[one.axis] ?? (one.axis ? {} : options.vAxis);
    const y = {field: "y", type: "quantitative", ...axis(side)};
    if (one.axis) y.axis = {...y.axis, orient: "right"};
    if (shared.fromZero.has(one.axis)) y.scale = {zero: true};
    const tooltip = {field: "tooltip"};
    const named = one.name && options.legend?.position !== "none";
    const color = named
      ? {datum: one.name, scale: shared.colors, legend: shared.legend}
      : {value: one.color};
    const encoding = {x, y, color, tooltip};
    if (one.kind === "bar") {
      y.stack = null;
      if (shared.step) {
        // Bars of several series share the width of a bucket, whose middle is x.
        const width = shared.step / shared.bars;
        const start = index * width - shared.step / 2;
        const edges = (point) => ({x: point.x + start, end: point.x + start + width});
        data.values = data.values.map((point) => ({...point, ...edges(point)}));
        encoding.x2 = {field: "end"};
        encoding.y2 = {datum: 0};
      }
      return {data, mark: {type: "bar", aria: false, opacity: 0.75}, encoding};
    }
    const point = {aria: false, size: 50, opacity: 0};
    const mark = one.kind === "line"
      ? {type: "line", aria: false, strokeDash: one.dash ?? [], point}
      : {...point, type: index > 1 ? "square" : "circle", opacity: 1};
    return {data, mark, encoding};
  }

  /** Lines, bars and points over a common horizontal axis. */
  function seriesSpec(table, options, kind) {
    const all = seriesOf(table, options, kind);
    const xs = table.rows.map((row) => row[0].v);
    const numeric = xs.every((x) => typeof x === "number");
    const named = all.filter(({name}) => name);
    const bars = all.filter((one) => one.kind === "bar");
    const shared = {
      x: {
        ...(numeric ? {type: "quantitative"} : {type: "nominal", sort: null}),
        ...axis(options.hAxis, table.getColumnLabel(0)),
      },
      step: numeric && xs.length > 1 ? Math.abs(xs[1] - xs[0]) : numeric ? 1 : 0,
      bars: bars.length,
      fromZero: new Set(bars.map((one) => one.axis)),
      colors: {domain: named.map(({name}) => name), range: named.map(({color}) => color)},
      legend: {title: null, orient: options.legend?.position === "bottom" ? "bottom" : "top"},
    };
    if (!numeric) delete shared.x.scale;
    const layers = [0, 1].map((side) =>
      all.map((one, index) => [one, index])
        .filter(([one]) => one.axis === side)
        .map(([one, index]) => layer(table, one, index, options, shared)))
      .filter((ofSide) => ofSide.length);
    if (options.explorer && numeric) layers[0][0].params = [explorer()];
    return layers.length > 1
      ? {layer: layers.map((ofSide) => ({layer: ofSide})), resolve: {scale: {y: "independent"}}}
      : {layer: layers[0]};
  }

  /** Zooms by Ctrl and the wheel, so that a page still scrolls; moves by dragging. */
  function explorer() {
    return {
      name: "explorer",
      select: {type: "interval", zoom: "wheel![event.ctrlKey]"},
      bind: "scales",
    };
  }

  /** Bubbles: columns are a name, x, y, color and size. */
  function bubbleSpec(table, options) {
    const labels = table.columns.map(({label}) => label);
    const values = table.rows.map((cells, row) => {
      const [x, y, color, size] = cells.slice(1).map(({v}) => v);
      const shown = [x, y, color, size].map((v, i) => `${labels[i + 1]}: ${v.toPrecision(5)}`);
      return {x, y, color, size, row, column: 0, tooltip: shown.join("\n")};
    });
    const {colors, minValue, maxValue} = options.colorAxis;
    const {minSize, maxSize, ...sizes} = options.sizeAxis;
    const encoded = (field, rest) => ({field, type: "quantitative", ...rest});
    return {
      data: {values},
      mark: {type: "circle", aria: false, opacity: 1, stroke: "#444", strokeWidth: 0.5},
      params: options.explorer ? [explorer()] : [],
      encoding: {
        x: encoded("x", axis(options.hAxis, labels[1])),
        y: encoded("y", axis(options.vAxis, labels[2])),
        color: encoded("color", {
          title: labels[3].replace(/^color: /, ""),
          scale: {domain: [minValue, maxValue], range: colors, clamp: true},
        }),
        size: encoded("size", {
          legend: null,
          // Google's sizes are radii in pixels, Vega's are areas.
          scale: {
            type: "pow",
            exponent: 2,
            domain: [sizes.minValue, sizes.maxValue],
            range: [Math.PI * minSize ** 2, Math.PI * maxSize ** 2],
            clamp: true,
          },
        }),
        tooltip: {field: "tooltip"},
      },
    };
  }

  /** A chart of Google's interface for a function from table and options to a Vega-Lite spec. */
  function chartOf(toSpec) {
    return class {
      constructor(container) {
        this.container = container;
        this.selection = [];
        this.drawn = Promise.resolve();
        this.asked = 0;
      }

      draw(table, options = {}) {
        this.last = [table, options];
        const number = ++this.asked;
        // One after the other: the elements ask again at each change of size, often many times.
        this.drawn = this.drawn.then(() => number === this.asked && this.embed(table, options));
        return this.drawn;
      }

      getSelection() {
        return this.selection;
      }

      setSelection(selection) {
        this.selection = selection ?? [];
        if (this.last) this.draw(...this.last);
      }

      async embed(table, options) {
        const width = options.width || this.container.clientWidth;
        const height = options.height || this.container.clientHeight || 300;
        this.view?.finalize();
        this.container.replaceChildren();
        // A chart in a hidden tab is drawn when it is shown.
        if (!width || !table.getNumberOfRows()) return;
        const chosen = this.selection.map(({row}) => row);
        const spec = {
          ...toSpec(table, options),
          description: options.title ?? table.columns.map(({label}) => label).join(", "),
          title: options.title ?? "",
          width,
          height,
          autosize: {type: "fit", contains: "padding"},
          config: {view: {stroke: null}, axisX: {tickCount: 12}},
        };
        for (const part of spec.layer ?? []) if (chosen.length) emphasise(part, chosen);
        const {view} = await vegaEmbed(this.container, spec, {actions: false, renderer: "svg"});
        this.view = view;
        view.addEventListener("click", (_, item) => this.select(item));
        for (const [event, name] of [["mouseover", "onmouseover"], ["mouseout", "onmouseout"]]) {
          view.addEventListener(event, (_, item) => {
            if (item?.datum?.row !== undefined) events.trigger(this, name, cell(item));
          });
        }
      }

      select(item) {
        if (item?.datum?.row === undefined) return;
        const same = this.selection[0]?.row === item.datum.row;
        this.setSelection(same ? [] : [cell(item)]);
        events.trigger(this, "select");
      }
    };
  }

  const cell = ({datum: {row, column}}) => ({row, column});

  function emphasise(part, rows) {
    const test = rows.map((row) => `datum.row === ${row}`).join(" || ");
    part.encoding.opacity = {condition: {test, value: 1}, value: 0.3};
  }

  Object.assign(google.visualization, {
    LineChart: chartOf((table, options) => seriesSpec(table, options, "line")),
    ColumnChart: chartOf((table, options) => seriesSpec(table, options, "bar")),
    ComboChart: chartOf((table, options) => seriesSpec(table, options, "line")),
    BubbleChart: chartOf(bubbleSpec),
  });
})();
