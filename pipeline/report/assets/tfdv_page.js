// The page of TFDV's statistics: gives Facets the chosen overlay. The data stand in the page as
// JSON, see tfdv_view.py.
"use strict";

(() => {
  // Charts take most of the time until the page can be used, and few of them are seen at first.
  const chart = customElements.get("facets-overview-chart").prototype;
  const draw = chart._renderChart;
  const waiting = new WeakMap();
  const seen = new IntersectionObserver((entries) => {
    for (const {target, isIntersecting} of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      draw.apply(target, waiting.get(target));
    }
  });
  chart._renderChart = function (...drawing) {
    waiting.set(this, drawing);
    // The class with which it is as high as when it is drawn: lists measure their rows before.
    for (const place of [this.$.chart, this.$.xaxis]) place.classList.add("plottable");
    // What is observed anew is reported even if it stands where it stood.
    seen.unobserve(this);
    seen.observe(this);
  };

  const overlays = JSON.parse(document.getElementById("tfdv-data").textContent);
  const select = document.getElementById("tfdv-overlay");
  select.replaceChildren(...overlays.map(({title}, index) => new Option(title, index)));

  function show() {
    const facets = document.createElement("facets-overview");
    document.getElementById("tfdv-view").replaceChildren(facets);
    facets.protoInput = overlays[select.value].proto;
  }

  select.addEventListener("change", show);
  show();
})();
