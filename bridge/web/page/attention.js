// The attention panel: the attention of one token to itself and all earlier ones, in every head.

import { byId, formatPercent, makeSpan, nameToken, showError } from "./elements.js";
import { fetchAttention } from "./requests.js";

const HINT = "Select a token (click or tap it, or press Enter) to see its attention in each head.";
const MAX_BARS = 64; // in the bar chart of a head
const MAX_LISTED = 3; // tokens in the summary of a head

let selectedToken = null; // the token whose attention is shown or requested

export async function showAttention(tokens, index) {
  const query = tokens[index];
  selectToken(query);
  let attention;
  try {
    attention = await fetchAttention(tokens.slice(0, index + 1).map((token) => token.id));
  } catch (error) {
    showError(error.message);
    return;
  }
  if (selectedToken !== query) return; // The reader has selected another token.
  const rows = groupHeads(attention.weights).map(([name, heads]) => {
    const row = document.createElement("div");
    row.className = "layer";
    row.append(makeSpan("", name));
    for (const head of heads) row.append(makeHeadButton(head, query, tokens, attention.start));
    return row;
  });
  byId("heads").replaceChildren(...rows);
  byId("heads").querySelector("button").click();
}

export function clearAttention() {
  selectToken(null);
  byId("text").classList.remove("has-attention");
  byId("heads").replaceChildren();
  byId("attention").textContent = HINT;
}

function selectToken(token) {
  selectedToken?.element.classList.remove("selected");
  selectedToken = token;
  token?.element.classList.add("selected");
}

// Returns rows of heads, each with a title and its weights: the mean of all heads, then the layers.
function groupHeads(layers) {
  const all = layers.flat();
  const sum = (key) => all.reduce((total, weights) => total + weights[key], 0);
  const mean = all[0].map((_, key) => sum(key) / all.length);
  const rows = layers.map((heads, layer) => [
    `layer ${layer}`,
    heads.map((weights, head) => ({ title: `layer ${layer}, head ${head}`, weights })),
  ]);
  return [["mean", [{ title: "all heads", weights: mean }]], ...rows];
}

function makeHeadButton({ title, weights }, query, tokens, start) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = title;
  button.setAttribute("aria-label", title);
  button.append(...makeBars(weights));
  button.addEventListener("click", () => {
    for (const other of byId("heads").querySelectorAll("button")) {
      other.setAttribute("aria-pressed", other === button);
    }
    highlightTokens(weights, tokens, start);
    byId("attention").textContent = `Attention of “${nameToken(query.label)}” in ${title}: ` +
      `${listLargest(weights, tokens, start)}. Press Escape to close.`;
  });
  return button;
}

function makeBars(weights) {
  const largest = Math.max(...weights);
  const groupSize = Math.ceil(weights.length / MAX_BARS);
  const bars = [];
  for (let i = 0; i < weights.length; i += groupSize) {
    const bar = document.createElement("i");
    bar.style.height = `${(100 * Math.max(...weights.slice(i, i + groupSize))) / largest}%`;
    bars.push(bar);
  }
  return bars;
}

function highlightTokens(weights, tokens, start) {
  const largest = Math.max(...weights);
  byId("text").classList.add("has-attention");
  tokens.forEach((token, i) => {
    token.element.style.setProperty("--weight", (weights[i - start] ?? 0) / largest);
  });
}

function listLargest(weights, tokens, start) {
  const pairs = weights.map((weight, i) => [weight, tokens[start + i].label]);
  pairs.sort((a, b) => b[0] - a[0]);
  return pairs
    .slice(0, MAX_LISTED)
    .map(([weight, label]) => `“${nameToken(label)}” ${formatPercent(weight)}`)
    .join(", ");
}
