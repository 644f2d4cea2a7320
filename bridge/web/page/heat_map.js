// The heat map: by how much the accuracy on each rule of the grammar changes without a head or MLP.

import { byId, fadeCutSides, formatPercent, makeElement, makeHeader, makeRoving, showError } from "./elements.js";
import { fetchHeatMap } from "./requests.js";

const RANGE = 0.25; // larger changes share a colour, as in the figure of `inspect`
const LEADING_COLUMNS = 2; // the rule, and the accuracy of the whole model
const CELL = "td[tabindex]";

const table = byId("heat-map-table");

export async function showHeatMap() {
  let map;
  try {
    map = await fetchHeatMap();
  } catch (error) {
    showError(error.message);
    return;
  }
  if (!map) return; // The page says how to compute it.
  byId("heat-map-hint").hidden = true;
  byId("heat-map").hidden = false;
  table.replaceChildren(makeHead(map), makeBody(map));
  table.querySelector(CELL).tabIndex = 0;
  makeRoving(table, CELL, map.components.length);
  fadeCutSides(byId("heat-map-scroller"));
  const describe = ({ target }) => {
    const cell = target.closest(CELL);
    if (!cell) return;
    const row = cell.parentElement.sectionRowIndex;
    byId("heat-map-cell").textContent = describeCell(map, row, cell.cellIndex - LEADING_COLUMNS);
  };
  table.addEventListener("pointerover", describe);
  table.addEventListener("focusin", describe);
}

function makeHead({ components }) {
  const head = makeElement("thead"), row = head.insertRow();
  row.append(...["rule", "whole model", ...components].map((name) => makeHeader("col", name)));
  return head;
}

function makeBody(map) {
  const body = makeElement("tbody");
  map.rules.forEach((rule, i) => {
    const row = body.insertRow();
    row.append(makeHeader("row", rule), makeElement("td", "", formatPercent(map.accuracy[i])));
    row.append(...map.changes[i].map(makeCell));
  });
  return body;
}

function makeCell(change) {
  const points = Math.round(100 * change);
  const sign = points < 0 ? "−" : points > 0 ? "+" : "";
  const className = points < 0 ? "fall" : points > 0 ? "rise" : "";
  const cell = makeElement("td", className, `${sign}${Math.abs(points)}`);
  cell.style.setProperty("--share", Math.min(Math.abs(change) / RANGE, 1));
  cell.tabIndex = -1;
  return cell;
}

function describeCell({ rules, components, accuracy, changes, nats_lost }, i, j) {
  const component = components[j].startsWith("MLP") ? components[j] : `head ${components[j]}`;
  const nats = nats_lost[i][j];
  return (
    `Without ${component}, rule “${rules[i]}”: ${formatPercent(accuracy[i] + changes[i][j])} of the pairs ` +
    `are right instead of ${formatPercent(accuracy[i])}; the margin ${nats < 0 ? "grows" : "falls"} ` +
    `by ${Math.abs(nats).toFixed(2)} nats.`
  );
}
