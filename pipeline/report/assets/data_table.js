// Data of charts: the part of the interface of Google Charts' tables of data, and of its events,
// that the elements of TensorFlow Model Analysis (TFMA) use. Google Charts itself can only be
// loaded from a server. Load this first, then html_table.js and vega_charts.js, then TFMA.
"use strict";

window.google = {charts: {load: () => Promise.resolve()}, visualization: {}};

(() => {
  const unpacked = (cell) =>
    cell !== null && typeof cell === "object" && "v" in cell ? cell : {v: cell};

  /** Columns ({label, role}) and rows of cells ({v: value, f: text or HTML to show}). */
  class DataTable {
    constructor(columns = [], rows = []) {
      this.columns = columns;
      this.rows = rows;
    }

    getNumberOfColumns() {
      return this.columns.length;
    }

    getNumberOfRows() {
      return this.rows.length;
    }

    getColumnLabel(column) {
      return this.columns[column].label;
    }

    getColumnRole(column) {
      return this.columns[column].role;
    }

    getValue(row, column) {
      return this.rows[row][column].v;
    }

    getFormattedValue(row, column) {
      const {v, f} = this.rows[row][column];
      return f ?? String(v ?? "");
    }

    /** Sorts by columns in order of priority, in place: [{column, desc}, ...]. */
    sort(keys) {
      this.rows.sort((left, right) => {
        for (const {column, desc} of keys) {
          const order = compare(left[column].v, right[column].v);
          if (order) return desc ? -order : order;
        }
        return 0;
      });
    }
  }

  /** Some columns of a table. A column of text made from another one is not needed by any chart
   * here: numbers that are written onto bars are left to tooltips. */
  class DataView extends DataTable {
    constructor(table) {
      super(table.columns, table.rows);
    }

    setColumns(chosen) {
      const kept = chosen.filter((column) => typeof column === "number");
      this.columns = kept.map((column) => this.columns[column]);
      this.rows = this.rows.map((row) => kept.map((column) => row[column]));
    }
  }

  /** Order of two values of a column; what is no number or text (NaN, null) comes last. */
  function compare(left, right) {
    const missing = (value) => value === null || value === undefined || Number.isNaN(value);
    if (missing(left) || missing(right)) return missing(left) - missing(right);
    if (typeof left === "number" && typeof right === "number") return left - right;
    return String(left).localeCompare(String(right), undefined, {numeric: true});
  }

  /** A table from arrays, of which the first holds the columns: names or {label, role}. */
  function arrayToDataTable(arrays) {
    const [header, ...rows] = arrays;
    const columns = header.map((column) =>
      typeof column === "object" ? {label: "", ...column} : {label: String(column)});
    return new DataTable(columns, rows.map((row) => row.map(unpacked)));
  }

  const listeners = new WeakMap();
  const events = {
    addListener(source, name, handler) {
      const ofSource = listeners.get(source) ?? new Map();
      listeners.set(source, ofSource);
      ofSource.set(name, [...(ofSource.get(name) ?? []), handler]);
    },

    addOneTimeListener(source, name, handler) {
      const once = (detail) => {
        const ofSource = listeners.get(source);
        ofSource.set(name, ofSource.get(name).filter((other) => other !== once));
        handler(detail);
      };
      events.addListener(source, name, once);
    },

    trigger(source, name, detail = {}) {
      for (const handler of listeners.get(source)?.get(name) ?? []) handler(detail);
    },
  };

  /** Draws the kind of chart that is asked for; tells `ready` after each drawing. */
  class ChartWrapper {
    constructor({container}) {
      this.container = container;
      this.chart = null;
    }

    setChartType(type) {
      this.type = type;
    }

    setDataTable(table) {
      this.table = table;
    }

    setOptions(options) {
      this.options = options;
    }

    /** The chart that was drawn last; null before. */
    getChart() {
      return this.chart;
    }

    async draw() {
      if (!this.table) return;
      if (this.drawnType !== this.type) {
        this.chart = new google.visualization[this.type](this.container);
        this.drawnType = this.type;
        const pass = (detail) => events.trigger(this, "select", detail);
        events.addListener(this.chart, "select", pass);
      }
      await this.chart.draw(this.table, this.options);
      events.trigger(this, "ready");
    }
  }

  Object.assign(google.visualization, {
    DataTable, DataView, ChartWrapper, arrayToDataTable, events, compare,
  });
})();
