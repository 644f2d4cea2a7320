// Elements of the page, and how numbers look in them.

export const byId = (id) => document.getElementById(id);

export function makeSpan(className, content) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = content;
  return element;
}

export function formatPercent(fraction) {
  return fraction >= 0.001 || fraction === 0 ? `${(100 * fraction).toFixed(1)}%` : "<0.1%";
}

export function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = false;
}

export function hideError() {
  byId("error").hidden = true;
}
