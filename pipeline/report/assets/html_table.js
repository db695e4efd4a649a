// The chart `Table` of Google Charts' interface, as an HTML table: sorted by a click on a column's
// name, in pages, with rows that can be selected. Its class names are those TFMA's styles know.
"use strict";

(() => {
  const {compare, events} = google.visualization;
  const PREFIX = "google-visualization-table";
  // TFMA's styles assume those that come with Google Charts; this is what they leave open.
  const STYLE = `
    .${PREFIX} { overflow-x: auto; width: 100%; }
    .${PREFIX}-table { border-collapse: collapse; width: 100%; }
    .${PREFIX}-table td { text-align: right; white-space: nowrap; }
    .${PREFIX}-table td:first-child { text-align: left; }
    /* The colour that is inherited has too little contrast. */
    .${PREFIX}-table th button {
      background: none; border: 0; color: #1b1f24; cursor: pointer; font: inherit; padding: 4px;
    }
    .${PREFIX}-table tbody tr { cursor: pointer; }
    .${PREFIX}-div-page { align-items: center; display: flex; gap: 8px; padding: 8px; }`;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  class Table {
    constructor(container) {
      this.container = container;
      this.selection = [];
      this.sorting = null;
      this.page = 0;
    }

    draw(table, options) {
      const columns = table.columns.map(({label}) => label).join("\n");
      if (columns !== this.drawnColumns) this.sorting = null;
      this.drawnColumns = columns;
      this.table = table;
      this.options = options;
      this.selection = [];
      this.sort();
      this.render();
    }

    getSelection() {
      return this.selection;
    }

    setSelection(selection) {
      this.selection = selection ?? [];
      if (this.table) this.render();
    }

    /** Works out in which order the rows are shown. */
    sort() {
      this.order = this.table.rows.map((_, row) => row);
      if (!this.sorting) return;
      const {column, ascending} = this.sorting;
      const value = (row) => this.table.getValue(row, column);
      // Whatever has no value stays last in both directions.
      const absent = (row) => Number(value(row) === null || Number.isNaN(value(row)));
      this.order.sort((left, right) =>
        absent(left) - absent(right) ||
        (ascending ? 1 : -1) * compare(value(left), value(right)) ||
        left - right);
    }

    sortBy(column) {
      const again = this.sorting?.column === column;
      this.sorting = {column, ascending: again ? !this.sorting.ascending : true};
      this.page = 0;
      this.sort();
      this.render();
      this.container.querySelectorAll("th button")[column].focus();
      events.trigger(this, "sort", {...this.sorting, sortedIndexes: this.order});
    }

    turnTo(page) {
      this.page = page;
      this.render();
      events.trigger(this, "page", {page});
    }

    select(row) {
      this.selection = this.selection[0]?.row === row ? [] : [{row}];
      this.render();
      events.trigger(this, "select");
    }

    render() {
      const size = this.options.page === "enable" ? this.options.pageSize : this.order.length;
      const pages = Math.max(1, Math.ceil(this.order.length / size));
      this.page = Math.min(this.page, pages - 1);
      const shown = this.order.slice(this.page * size, (this.page + 1) * size);
      const table = element("table", {class: `${PREFIX}-table`},
        element("thead", {}, this.head()),
        element("tbody", {}, ...shown.map((row) => this.row(row))));
      // Wide tables are scrolled, by the keyboard too.
      const scrolled = {class: PREFIX, tabindex: "0", role: "group", "aria-label": "Table"};
      const parts = [element("style", {}, STYLE), element("div", scrolled, table)];
      if (pages > 1) parts.push(this.pager(pages));
      this.container.replaceChildren(...parts);
    }

    head() {
      const cells = this.table.columns.map(({label}, column) => {
        const button = element("button", {type: "button"}, label);
        button.addEventListener("click", () => this.sortBy(column));
        const cell = element("th", {scope: "col", class: `${PREFIX}-th`}, button);
        if (this.sorting?.column === column) {
          const direction = this.sorting.ascending ? "ascending" : "descending";
          cell.setAttribute("aria-sort", direction);
          cell.classList.add(`sort-${direction}`);
          cell.append(element("span", {class: `${PREFIX}-sortind`}));
        }
        return cell;
      });
      return element("tr", {class: `${PREFIX}-tr-head`}, ...cells);
    }

    row(row) {
      const cells = this.table.rows[row].map(({v, f}) => {
        const cell = element("td", {class: `${PREFIX}-td`});
        // Names of slices come from the data: only what TFMA made of a value is read as HTML.
        if (this.options.allowHtml && f !== undefined && f !== v) cell.innerHTML = f;
        else cell.textContent = f ?? v ?? "";
        return cell;
      });
      const made = element("tr", {tabindex: "0"}, ...cells);
      if (this.selection.some((chosen) => chosen.row === row)) {
        made.classList.add(`${PREFIX}-tr-sel`);
        made.setAttribute("aria-current", "true");
      }
      made.addEventListener("click", () => this.select(row));
      made.addEventListener("keydown", (event) => {
        if (event.key === "Enter") this.select(row);
      });
      return made;
    }

    pager(pages) {
      const turn = (text, page) => {
        const button = element("button", {type: "button"}, text);
        button.disabled = page < 0 || page >= pages;
        button.addEventListener("click", () => this.turnTo(page));
        return button;
      };
      return element("div", {class: `${PREFIX}-div-page`},
        turn("Previous", this.page - 1),
        `Page ${this.page + 1} of ${pages}`,
        turn("Next", this.page + 1));
    }
  }

  google.visualization.Table = Table;
})();
