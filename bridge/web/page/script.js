// The page: sends the settings to the server and shows the text as it arrives. No framework.

import { clearAttention, showAttention } from "./attention.js";
import { byId, formatPercent, hideError, makeSpan, showError } from "./elements.js";
import { clearLens, showLens } from "./lens.js";
import { UNREACHABLE, fetchModel, streamEvents } from "./requests.js";
import { fillForm, fillFromLink, makeLink, readForm } from "./settings.js";

const form = byId("form"), text = byId("text");
const END_REASONS = {
  document: "the document ended.",
  length: "the requested length was reached.",
  stop: "a stop string was reached.",
  server: "the server stopped the text.",
  "not finite": "the logits are not finite: the weights overflow float32.",
};
const VERDICTS = {
  right: { symbol: "✓", label: "right:" },
  mistake: { symbol: "✗", label: "a mistake:" },
  beyond: { symbol: "?", label: "beyond the grammar:" },
};

let model;               // the server's description of the model
let generation = null;   // AbortController of the text in progress
let textSettings = {};   // settings of the text on the page
let tokens = [];         // events of the text's tokens, each with its element
let checkedCount = 0;    // tokens in sentences that have a verdict
let showsNewest = true;  // until the reader points at a token

async function openPage() {
  try {
    model = await fetchModel();
  } catch {
    showError(UNREACHABLE);
    return;
  }
  const format = (count) => count.toLocaleString("en");
  byId("name").textContent = model.name;
  document.title = `${model.name} · valyrian-gpt`;
  byId("model").textContent =
    `${format(model.parameters)} parameters: blocks ${model.layers}, heads ${model.heads}, ` +
    `width ${model.width}, context ${model.context}, vocabulary ${format(model.vocabulary)}`;
  form.elements.max_new_tokens.max = model.most_tokens;
  form.elements.prompt.maxLength = model.most_characters;
  byId("check").hidden = byId("sentences").hidden = !model.has_grammar;
  fillForm({ ...model.settings, check: model.has_grammar });
  const problem = fillFromLink(location.search);
  byId("generate").disabled = false;
  if (problem) showError(problem);
  else if (location.search.length > 1 && form.reportValidity()) generate();
}

// ---- A text, from the first event to the last

async function generate() {
  generation?.abort();
  const controller = generation = new AbortController();
  clearText();
  textSettings = readForm();
  history.replaceState(null, "", makeLink(textSettings));
  byId("interrupt").disabled = byId("copy").disabled = false;
  byId("status").textContent = "Generating …";
  const startTime = performance.now();
  let end = null;
  try {
    for await (const event of streamEvents(textSettings, controller.signal)) {
      if (controller !== generation) return;
      showEvent(event);
      if (event.kind === "end") end = event;
    }
    if (!end) throw new Error("The server closed the connection before the text ended.");
    const count = tokens.filter((token) => token.kind === "token").length;
    const seconds = ((performance.now() - startTime) / 1000).toFixed(1);
    byId("status").textContent = `${count} tokens in ${seconds} s; ${END_REASONS[end.why]}`;
  } catch (error) {
    if (controller !== generation) return;
    const isStopped = error.name === "AbortError";
    byId("status").textContent = isStopped ? "Stopped." : "";
    // A TypeError means that the connection failed while the text arrived.
    if (!isStopped) showError(error instanceof TypeError ? UNREACHABLE : error.message);
  } finally {
    if (controller === generation) {
      generation = null;
      byId("interrupt").disabled = true;
    }
  }
}

function clearText() {
  tokens = [];
  checkedCount = 0;
  showsNewest = true;
  for (const id of ["text", "sentences", "choices"]) byId(id).replaceChildren();
  byId("token").textContent = byId("distribution").textContent = "";
  hideError();
  closeInspection();
}

function showEvent(event) {
  if (event.kind === "sentence") showVerdict(event);
  else if (event.kind !== "end") addToken(event);
  else if (tokens.length) tokens.at(-1).element.textContent += event.text;
}

function addToken(event) {
  const isPrompt = event.kind === "prompt";
  const element = makeSpan(`text-token ${event.kind}`, event.text);
  element.dataset.label = event.label;
  element.title = `${event.label}: ${isPrompt ? "prompt" : formatPercent(event.probability)}`;
  element.tabIndex = tokens.length ? -1 : 0;
  element.setAttribute("role", "button");
  tokens.push({ ...event, element });
  text.append(element);
  if (showsNewest) showDistribution(tokens.at(-1));
}

function showVerdict(sentence) {
  const { symbol, label } = VERDICTS[sentence.verdict];
  for (const token of tokens.slice(checkedCount, sentence.end)) {
    token.element.classList.add(sentence.verdict);
  }
  checkedCount = sentence.end;
  const item = document.createElement("li");
  item.className = sentence.verdict;
  const mark = makeSpan("mark", symbol);
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", label);
  item.append(mark, sentence.text);
  for (const text of [sentence.reason, ...sentence.notes].filter(Boolean)) {
    item.append(makeSpan("reason", ` — ${text}`));
  }
  byId("sentences").append(item);
}

// ---- The distribution that a token was drawn from

function showDistribution(token) {
  const name = `“${token.label}” (token ${token.id})`;
  if (token.kind === "prompt") {
    byId("token").textContent = `${name} is part of the prompt.`;
    byId("distribution").textContent = "";
    byId("choices").replaceChildren();
    return;
  }
  byId("token").textContent = `${name} has probability ${formatPercent(token.probability)}.`;
  byId("distribution").textContent = textSettings.temperature === 0
    ? "At temperature 0, only the most probable token can be drawn."
    : `${token.kept} of ${model.vocabulary} tokens can be drawn; among them, ` +
      `this one has probability ${formatPercent(token.chance)}.`;
  byId("choices").replaceChildren(...makeChoices(token));
}

function makeChoices(token) {
  const largest = token.choices[0][2];
  const items = [];
  let hasCut = false;
  for (const [id, label, probability, isKept] of token.choices) {
    if (!isKept && !hasCut) {
      items.push(makeCut());
      hasCut = true;
    }
    const item = document.createElement("li");
    item.className = (isKept ? "kept" : "dropped") + (id === token.id ? " drawn" : "");
    const bar = makeSpan("bar", "");
    bar.style.width = `${(100 * probability) / largest}%`;
    item.append(makeSpan("name", label), bar, makeSpan("share", formatPercent(probability)));
    items.push(item);
  }
  return items;
}

function makeCut() {
  const cut = document.createElement("li");
  cut.className = "cut";
  cut.textContent = "Tokens below this line cannot be drawn.";
  return cut;
}

// ---- The reader's input

function findToken(element) {
  return tokens.findIndex((token) => token.element === element);
}

function onPoint(event) {
  const index = findToken(event.target);
  if (index < 0) return;
  showsNewest = false;
  for (const token of tokens) token.element.tabIndex = token.element === event.target ? 0 : -1;
  showDistribution(tokens[index]);
}

function onClick(event) {
  const index = findToken(event.target);
  if (index >= 0) inspectToken(index);
}

function inspectToken(index) {
  showAttention(tokens, index);
  showLens(tokens, index);
}

function closeInspection() {
  clearAttention();
  clearLens();
}

function onKeyDown(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return; // shortcuts of the browser
  if (event.key === "Escape") closeInspection();
  const index = findToken(event.target);
  if (index < 0) return;
  const targets = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tokens.length - 1 };
  if (event.key in targets) tokens[targets[event.key]]?.element.focus();
  else if (event.key === "Enter" || event.key === " ") inspectToken(index);
  else return;
  event.preventDefault();
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    byId("status").textContent = "Link copied. It generates the same text again.";
  } catch {
    byId("status").textContent = location.href;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
byId("interrupt").addEventListener("click", () => generation?.abort());
byId("copy").addEventListener("click", copyLink);
text.addEventListener("pointerover", onPoint);
text.addEventListener("focusin", onPoint);
text.addEventListener("click", onClick);
document.addEventListener("keydown", onKeyDown);
byId("generate").disabled = true;
openPage();
