// The tab that writes: requests a text with the settings of the form and shows it as it arrives.

import { byId, countThings, hideError, makeButton, showChips, showError } from "./elements.js";
import { checkFields, findProblem, readNumber } from "./fields.js";
import { fillForm, fillFromLink, makeLink, readForm } from "./settings.js";
import { closeInspection, countNewTokens, listenToReader, showEvent, startText } from "./text.js";

const form = byId("form");
const EXAMPLES = ["Valar morghūlis", "Sīr vali", "Zaldrīzes", "Skorī", ""];
const FIRST_SEED = 9; // writes several sentences after the first example
const MAX_SEED = 2 ** 32 - 1;
const END_REASONS = {
  document: "the document ended.",
  length: "the requested length was reached.",
  stop: "a stop string was reached.",
  server: "the server stopped the text.",
  "not finite": "the logits are not finite: the weights overflow float32.",
};

let model;               // description of the model: `describe_model` in bridge/web/app.py
let streamEvents;        // function that yields the events of the text of some settings
let linkMark;            // the character before the settings in a link: "?" or "#"
let generation = null;   // AbortController of the text in progress
let textSettings = null; // settings of the text on the page

export function openWrite(description, stream, inspector, mark) {
  [model, streamEvents, linkMark] = [description, stream, mark];
  showName();
  form.elements.prompt.maxLength = model.most_characters;
  byId("prompts").hidden = !model.has_grammar;
  showChips("prompts", EXAMPLES, (prompt) => {
    fillForm({ prompt });
    submit();
  });
  listenToReader(inspector);
  listenToButtons();
  byId("generate").disabled = false;
  if (linkMark === "#") addEventListener("hashchange", openLink);
  openLink();
}

function showName() {
  const format = (count) => count.toLocaleString("en");
  const name = model.has_grammar ? "High Valyrian" : model.name;
  const run = model.has_grammar ? `${model.name}: ` : "";
  byId("name").textContent = name;
  document.title = `${name} · valyrian-gpt`;
  document.body.classList.toggle("other-language", !model.has_grammar);
  byId("model").textContent =
    `${run}${format(model.parameters)} parameters, blocks ${model.layers}, heads ${model.heads}, ` +
    `width ${model.width}, context ${model.context}, vocabulary ${format(model.vocabulary)}`;
}

const readLink = () => (linkMark === "#" ? location.hash : location.search).slice(1);

// Generates the text that the address asks for, or an example, so that the page never opens empty.
function openLink() {
  const example = model.has_grammar ? { prompt: EXAMPLES[0], seed: FIRST_SEED } : {};
  fillForm({ ...model.settings, check: model.has_grammar, ...example });
  const link = readLink(), problem = fillFromLink(link);
  if (problem) showError(problem);
  else if (link) submit();
  else generate();
}

// Generates the text that the form asks for, and puts the settings into the page's address.
function submit() {
  if (!checkFields()) return;
  const link = linkMark + makeLink(readForm());
  history.replaceState(null, "", linkMark === "#" ? link : link + location.hash);
  generate();
  scrollToText();
}

function takeSeed(seed) {
  fillForm({ seed });
  submit();
}

async function generate() {
  generation?.abort();
  const controller = generation = new AbortController();
  const settings = readForm();
  const isRepeated = JSON.stringify(settings) === JSON.stringify(textSettings);
  hideError();
  closeInspection();
  byId("interrupt").disabled = byId("copy").disabled = false;
  byId("status").textContent = "Generating …";
  const startTime = performance.now();
  let end = null, hasStarted = false;
  try {
    for await (const event of streamEvents(settings, controller.signal)) {
      if (controller !== generation) return;
      // Until the first event, the earlier text stays, so that an error loses nothing.
      if (!hasStarted) startText((textSettings = settings), model.vocabulary);
      hasStarted = true;
      showEvent(event);
      if (event.kind === "end") end = event;
    }
    const time = formatTime(performance.now() - startTime);
    byId("status").textContent =
      `${countThings(countNewTokens(), "token")} in ${time}; ${END_REASONS[end.why]}` +
      (settings.grammatical ? describeRedraws(end) : "") +
      (isRepeated ? " The same seed gives the same text: press Another for a new one." : "");
    offerComposedLetters(settings.prompt);
  } catch (error) {
    if (controller !== generation) return;
    const isStopped = error.name === "AbortError";
    byId("status").textContent = isStopped ? "Stopped." : "";
    if (!isStopped) showError(error.message);
  } finally {
    if (controller === generation) {
      generation = null;
      byId("interrupt").disabled = true;
    }
  }
}

function formatTime(milliseconds) {
  if (milliseconds < 100) return `${Math.ceil(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

// The model was trained on composed letters, and decomposed ones are another text for it.
function offerComposedLetters(prompt) {
  const composed = prompt.normalize("NFC");
  if (!model.has_grammar || composed === prompt) return;
  const compose = makeButton("Use composed letters", () => {
    fillForm({ prompt: composed });
    submit();
  });
  const note = " The accents of the prompt are separate characters, which the model does not know. ";
  byId("status").append(note, compose);
}

function describeRedraws({ sentences, first_right, right }) {
  const were = first_right === 1 ? "was" : "were";
  return ` ${first_right} of ${countThings(sentences, "sentence")} ${were} right when first drawn` +
    (right > first_right ? `, ${right} after redrawing.` : ".");
}

// Brings the text into view where the form fills the window, as on a phone.
function scrollToText() {
  const { top } = byId("text").getBoundingClientRect();
  if (top > 0.6 * innerHeight) byId("text-section").scrollIntoView();
}

async function copyLink() {
  const link = new URL(linkMark + makeLink(textSettings ?? readForm()), location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    byId("status").textContent = "Link copied. It generates the same text again.";
  } catch {
    byId("status").textContent = link;
  }
}

function listenToButtons() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  byId("another").addEventListener("click", () => {
    const seed = findProblem("seed") ? 0 : readNumber("seed");
    takeSeed(seed < MAX_SEED ? seed + 1 : 0);
  });
  byId("die").addEventListener("click", () => {
    takeSeed(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
  });
  byId("interrupt").addEventListener("click", () => generation?.abort());
  byId("copy").addEventListener("click", copyLink);
}
