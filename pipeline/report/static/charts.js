// Draws each chart when it comes into view, in the colours of the scheme that the reader prefers.
"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Specifications name colours as "var:--name".
  function coloured(value) {
    if (typeof value === "string") {
      return value.startsWith("var:") ? colour(value.slice(4)) : value;
    }
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v)]));
    }
    return value;
  }

  function config() {
    const text = { labelColor: colour("--text"), titleColor: colour("--text") };
    const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
    return {
      background: "transparent",
      font,
      view: { stroke: null },
      axis: {
        ...text,
        gridColor: colour("--line"),
        domainColor: colour("--muted"),
        tickColor: colour("--muted"),
        titleFontWeight: "normal",
        labelFontSize: 11,
        titleFontSize: 12,
      },
      legend: { ...text, orient: "bottom", columns: 3, labelLimit: 180, symbolStrokeWidth: 2 },
      text: { color: colour("--text") },
      range: { category: [1, 2, 3, 4, 5, 6].map((i) => colour(`--other-${i}`)) },
    };
  }

  async function draw(figure) {
    const place = figure.querySelector(".chart");
    const spec = JSON.parse(figure.querySelector("script").textContent);
    drawn.get(figure)?.finalize();
    try {
      const result = await vegaEmbed(place, coloured(spec), {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        config: config(),
        tooltip: { theme: dark.matches ? "dark" : "light" },
      });
      drawn.set(figure, result);
      const image = place.querySelector("svg");
      if (image) {
        // The marks one by one say nothing that the description and the table do not.
        image.setAttribute("role", "img");
        image.setAttribute("aria-label", figure.dataset.text);
        for (const part of image.querySelectorAll("[role], [aria-roledescription]")) {
          part.removeAttribute("role");
          part.removeAttribute("aria-roledescription");
          part.removeAttribute("aria-label");
        }
      }
      place.dispatchEvent(new CustomEvent("drawn", { detail: result, bubbles: true }));
      // What is wider than the page begins in the middle, where the first box is.
      const frame = place.parentElement;
      frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
      figure.dataset.drawn = "";
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    }
  }

  function cell(kind, text, number) {
    const made = document.createElement(kind);
    made.textContent = text;
    if (number) made.className = "n";
    if (kind === "th") made.scope = "col";
    return made;
  }

  // The numbers of a chart, for those who cannot see it.
  function table(figure) {
    const rows = JSON.parse(figure.querySelector("script").textContent).data.values;
    const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const made = document.createElement("table");
    made.createCaption().textContent = figure.dataset.text;
    const head = made.createTHead().insertRow();
    for (const name of names) head.append(cell("th", name, typeof rows[0]?.[name] === "number"));
    const body = made.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const name of names) line.append(cell("td", row[name] ?? "–", typeof row[name] === "number"));
    }
    return made;
  }

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "300px" },
  );

  window.reportCharts = {
    watch(root) {
      for (const figure of root.querySelectorAll("figure[data-chart]")) {
        seen.observe(figure);
        const more = figure.querySelector("details");
        more?.addEventListener("toggle", () => {
          const place = more.querySelector(".scroll");
          if (more.open && !place.hasChildNodes()) place.append(table(figure));
        });
      }
    },
    draw,
  };
  // After the scripts that listen for what was drawn.
  document.addEventListener("DOMContentLoaded", () => window.reportCharts.watch(document));
  dark.addEventListener("change", () => [...drawn.keys()].forEach(draw));
  window.addEventListener("beforeprint", () =>
    document.querySelectorAll("figure[data-chart]").forEach(draw),
  );
})();
