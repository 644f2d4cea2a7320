// The tabs of the page: one panel is shown, and the address names it.

import { byId, makeRoving } from "./elements.js";

const tabs = byId("tabs");
const listeners = {}; // functions to call when a panel is first shown

const listTabs = () => [...tabs.querySelectorAll("[role=tab]")];

export function onFirstShown(panel, open) {
  listeners[panel] = open;
}

export function showTabs() {
  tabs.hidden = false;
  makeRoving(tabs, "[role=tab]");
  for (const tab of listTabs()) {
    tab.addEventListener("click", () => selectPanel(tab.getAttribute("aria-controls")));
    // The arrow keys select the tab that they move to, as the ARIA pattern for tabs recommends.
    tab.addEventListener("focus", () => selectPanel(tab.getAttribute("aria-controls")));
  }
  window.addEventListener("hashchange", selectFromAddress);
  selectFromAddress();
}

export function hideTabs() {
  byId("write").removeAttribute("role");
  byId("write").removeAttribute("aria-labelledby");
}

export function selectPanel(panel) {
  for (const tab of listTabs()) {
    const id = tab.getAttribute("aria-controls"), isSelected = id === panel;
    tab.setAttribute("aria-selected", isSelected);
    tab.tabIndex = isSelected ? 0 : -1;
    byId(id).hidden = !isSelected;
  }
  const hash = panel === "write" ? "" : `#${panel}`;
  if (location.hash !== hash) history.replaceState(null, "", location.pathname + location.search + hash);
  listeners[panel]?.();
  delete listeners[panel];
}

function selectFromAddress() {
  const panels = listTabs().map((tab) => tab.getAttribute("aria-controls"));
  const panel = location.hash.slice(1);
  selectPanel(panels.includes(panel) ? panel : "write");
}
