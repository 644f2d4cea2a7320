// The lens panel: what every layer would predict after each token, up to the selected one.

import { byId, fadeCutSides, formatPercent, makeHeader, nameToken, showError } from "./elements.js";
import { fetchLens } from "./requests.js";

const HINT = "Select a token (click or tap it, or press Enter) to see what each layer would predict after it.";

const scroller = byId("lens-scroller");
let selectedToken = null; // the last token of the table that is shown or requested

export async function showLens(tokens, index) {
  const query = tokens[index];
  selectedToken = query;
  let lens;
  try {
    lens = await fetchLens(tokens.slice(0, index + 1).map((token) => token.id));
  } catch (error) {
    showError(error.message);
    return;
  }
  if (selectedToken !== query) return; // The reader has selected another token.
  const labels = tokens.map((token) => token.label);
  byId("lens-table").replaceChildren(makeHead(labels, lens), makeBody(labels, lens));
  scroller.scrollLeft = scroller.scrollWidth;
  byId("lens").textContent =
    "The most probable next token after each layer, and its probability; framed where the text " +
    "continues with it. The last layer is the model's own prediction." +
    (scroller.scrollLeft ? " Scroll the table to the left for earlier tokens." : "");
}

export function clearLens() {
  selectedToken = null;
  byId("lens-table").replaceChildren();
  byId("lens").textContent = HINT;
}

function makeHead(labels, { start, predictions }) {
  const head = document.createElement("thead"), row = head.insertRow();
  row.append(makeHeader("col", "after"));
  for (let i = 0; i < predictions[0].length; i++) row.append(makeHeader("col", nameToken(labels[start + i])));
  return head;
}

function makeBody(labels, { start, predictions, probabilities }) {
  const body = document.createElement("tbody");
  predictions.forEach((predicted, layer) => {
    const row = body.insertRow();
    row.append(makeHeader("row", layer ? `layer ${layer - 1}` : "embedding"));
    predicted.forEach((label, i) => {
      const probability = probabilities[layer][i], cell = row.insertCell();
      cell.style.setProperty("--probability", probability);
      if (label === labels[start + i + 1]) cell.className = "true";
      const share = document.createElement("small");
      share.textContent = formatPercent(probability);
      cell.append(nameToken(label), share);
    });
  });
  return body;
}

fadeCutSides(scroller);
