// The panel of the next token: the distribution that a token was drawn from.

import { byId, formatPercent, makeButton, makeElement, makeSpan, nameToken } from "./elements.js";

export function clearDistribution() {
  byId("token").textContent = byId("distribution").textContent = "";
  byId("choices").replaceChildren();
  byId("bytes").hidden = true;
}

// Shows the distribution of a token. A letter can consist of several tokens, and all but the last are
// then only bytes; each of them gets a button.
export function showDistribution(token, letter, text) {
  clearDistribution();
  const name = `“${nameToken(token.label)}” (token ${token.id})`;
  if (letter.length > 1) showBytes(token, letter, text);
  if (token.kind === "prompt") {
    byId("token").textContent = `${name} is part of the prompt.`;
    return;
  }
  byId("token").textContent = `${name} has probability ${formatPercent(token.probability)}.`;
  byId("distribution").textContent = text.settings.temperature === 0
    ? "At temperature 0, only the most probable token can be drawn."
    : `${token.kept} of ${text.vocabulary} tokens can be drawn; among them, ` +
      `this one has probability ${formatPercent(token.chance)}.`;
  byId("choices").replaceChildren(...makeChoices(token));
}

function showBytes(token, letter, text) {
  const buttons = letter.map((part) => {
    const button = makeButton(nameToken(part.label), () => {
      showDistribution(part, letter, text);
      byId("bytes").querySelector("[aria-pressed=true]").focus();
    });
    button.setAttribute("aria-pressed", part === token);
    return button;
  });
  byId("bytes").replaceChildren(`“${letter.at(-1).element.textContent}” has several tokens: `, ...buttons);
  byId("bytes").hidden = false;
}

function makeChoices(token) {
  const largest = token.choices[0][2];
  const items = [];
  let hasCut = false;
  for (const [id, label, probability, isKept] of token.choices) {
    if (!isKept && !hasCut) {
      items.push(makeElement("li", "cut", "Tokens below this line cannot be drawn."));
      hasCut = true;
    }
    const bar = makeSpan("bar", "");
    bar.style.width = `${(100 * probability) / largest}%`;
    const className = (isKept ? "kept" : "dropped") + (id === token.id ? " drawn" : "");
    const share = makeSpan("share", formatPercent(probability));
    items.push(makeElement("li", className, makeSpan("name", nameToken(label)), bar, share));
  }
  return items;
}
