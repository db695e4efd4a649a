// Names, roles and colours that the elements of TFMA and Facets lack for readers who use a screen
// reader, only the keyboard, or need contrast. Load this before their scripts: whatever their
// shadow roots come to hold is repaired right after it was put there.
"use strict";

(() => {
  const style = new CSSStyleSheet();
  // Red on white, with the contrast that text needs.
  style.replaceSync(".data-error { color: #b3261e; }");

  let lists = 0;

  function set(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  }

  /** The label that is shown beside an element. */
  function labelBeside(element) {
    const around = element.parentElement;
    return around?.querySelector("label")?.textContent.trim() ||
      around?.querySelector("[label]")?.getAttribute("label") || "";
  }

  function repairMenu(menu) {
    const name = menu.getAttribute("label");
    const list = menu.querySelector("paper-listbox");
    list.id ||= `choices-${++lists}`;
    set(list, {"aria-label": name});
    set(menu, {role: "combobox", "aria-label": name, "aria-controls": list.id});
    const tell = () => set(menu, {"aria-expanded": Boolean(menu.opened)});
    menu.addEventListener("opened-changed", tell);
    tell();
  }

  function repairList(list) {
    // It is scrolled, by the keyboard too; the arrow keys are not for rows that take no focus.
    set(list, {tabindex: "0", role: "group"});
    list.addEventListener("keydown", (event) => {
      if (event.target === list) event.stopImmediatePropagation();
    }, {capture: true});
    const title = list.getRootNode().querySelector(".table-name");
    if (!title) return set(list, {"aria-label": "Raw data"});
    title.id = "title";
    set(list, {"aria-labelledby": title.id});
  }

  const named = (element) => set(element, {"aria-label": labelBeside(element)});

  /** What is done once with each element that a selector matches. */
  const REPAIRS = {
    "paper-dropdown-menu": repairMenu,
    // Parts of such a menu; the menu itself has the role.
    "span[role=button]:empty, input[role=button]": (part) => part.removeAttribute("role"),
    "paper-slider": named,
    "input[slot=input]": named,
    "paper-icon-button": (button) =>
      set(button, {"aria-label": button.textContent.trim() || button.getAttribute("icon")}),
    "iron-list[as]": repairList,
    // The page's own headings are h1 and h2.
    "h4": (heading) => set(heading, {"aria-level": "3"}),
  };
  const all = Object.keys(REPAIRS).join();
  const repaired = new WeakSet();

  const changes = new MutationObserver((records) => {
    for (const root of new Set(records.map(({target}) => target.getRootNode()))) {
      for (const element of root.querySelectorAll(all)) {
        if (repaired.has(element)) continue;
        repaired.add(element);
        for (const [selector, repair] of Object.entries(REPAIRS)) {
          if (element.matches(selector)) repair(element);
        }
      }
    }
  });

  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (options) {
    const root = attach.call(this, options);
    root.adoptedStyleSheets.push(style);
    changes.observe(root, {childList: true, subtree: true});
    return root;
  };
})();
