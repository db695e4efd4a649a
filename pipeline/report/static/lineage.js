// The lineage page: choose a pushed model, click a box, read what is known of it.
"use strict";
(() => {
  const panel = document.getElementById("properties");
  const choice = document.getElementById("model");
  const sections = [...document.querySelectorAll("section[data-model]")];

  const nodes = JSON.parse(document.getElementById("nodes")?.textContent ?? "{}");

  function show(id) {
    const node = nodes[id];
    if (!node) return;
    panel.querySelector("caption").textContent = `${node.kind}: ${node.title}`;
    const body = panel.querySelector("tbody");
    body.replaceChildren();
    for (const [name, value] of Object.entries(node.properties)) {
      const row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      const cell = row.insertCell();
      cell.className = "words";
      cell.textContent = value;
    }
    panel.hidden = false;
  }

  function choose() {
    for (const section of sections) section.hidden = section.dataset.model !== choice.value;
    panel.hidden = true;
  }

  for (const section of sections) {
    section.addEventListener("drawn", (event) => {
      event.detail.view.addEventListener("click", (_, item) => {
        if (item?.datum?.id) show(item.datum.id);
      });
    });
    section.addEventListener("click", (event) => {
      const id = event.target.dataset?.node;
      if (!id) return;
      show(id);
      panel.scrollIntoView({ block: "nearest" });
    });
  }
  choice?.addEventListener("change", choose);
  if (choice) choose();
})();
