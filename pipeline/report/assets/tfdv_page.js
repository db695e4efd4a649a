// The page of TFDV's statistics: gives Facets the chosen overlay. The data stand in the page as
// JSON, see tfdv_view.py.
"use strict";

(() => {
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
