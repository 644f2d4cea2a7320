// The generated text: a box for each token, and the reader's input. A letter whose bytes are in
// several tokens has one box, that of its last token.
//
// A page can show more about the text, through an `inspector` with any of these functions:
//   start()                     a new text begins
//   addSentence(event, tokens)  the verdict on a sentence arrived
//   point(tokens, index)        the reader points at a token
//   inspect(tokens, index)      the reader clicks it or presses Enter
//   close()                     the reader presses Escape or requests another text

import { clearDistribution, showDistribution } from "./distribution.js";
import { byId, formatPercent, makeRoving, makeSpan, nameToken } from "./elements.js";

const BOX = ".text-token:not(.bytes)";

const box = byId("text");
let inspector = {};
let text = {};           // settings of the text, and the size of the vocabulary
let tokens = [];         // events of the text's tokens, each with its element
let showsNewest = true;  // until the reader points at a token
let frame = 0;           // the animation frame that will show the newest token; 0: none

export function startText(settings, vocabulary) {
  text = { settings, vocabulary };
  tokens = [];
  showsNewest = true;
  box.replaceChildren();
  clearDistribution();
  inspector.start?.();
}

export const countNewTokens = () => tokens.filter((token) => token.kind === "token").length;

export function showEvent(event) {
  if (event.kind === "sentence") inspector.addSentence?.(event, tokens);
  else if (event.kind !== "end") addToken(event);
  else if (event.text && tokens.length) {
    tokens.at(-1).element.textContent += event.text;
    tokens.at(-1).element.classList.remove("bytes");
  }
}

function addToken(event) {
  const isPrompt = event.kind === "prompt";
  const element = makeSpan(`text-token ${event.kind}`, event.text);
  const label = nameToken(event.label);
  // A token without text ends in the middle of a letter, or ends the document.
  if (!event.text && label === event.label) element.classList.add("bytes");
  element.dataset.label = label;
  element.title = `${label}: ${isPrompt ? "prompt" : formatPercent(event.probability)}`;
  element.tabIndex = box.querySelector(BOX) ? -1 : 0;
  element.setAttribute("role", "button");
  tokens.push({ ...event, element });
  box.append(element);
  if (showsNewest) frame ||= requestAnimationFrame(showNewestToken);
}

// Once a frame, because tokens can arrive faster than the screen changes.
function showNewestToken() {
  frame = 0;
  if (showsNewest && tokens.length) showToken(tokens.length - 1);
}

function showToken(index) {
  showDistribution(tokens[index], listLetter(index), text);
}

// Returns the tokens of the letter that ends in this one: itself, and those before it without text.
function listLetter(index) {
  let start = index;
  while (tokens[start - 1]?.element.classList.contains("bytes")) start--;
  return tokens.slice(start, index + 1);
}

// ---- The reader's input

const findToken = (element) => tokens.findIndex((token) => token.element === element);

function onPoint(event) {
  const index = findToken(event.target);
  if (index < 0) return;
  showsNewest = false;
  showToken(index);
  inspector.point?.(tokens, index);
}

export const closeInspection = () => inspector.close?.();

export function listenToReader(pageInspector) {
  inspector = pageInspector;
  makeRoving(box, BOX);
  box.addEventListener("pointerover", onPoint);
  box.addEventListener("focusin", onPoint);
  box.addEventListener("click", (event) => {
    const index = findToken(event.target);
    if (index >= 0) inspector.inspect?.(tokens, index);
  });
  box.addEventListener("keydown", (event) => {
    const index = findToken(event.target);
    if (index < 0 || (event.key !== "Enter" && event.key !== " ")) return;
    inspector.inspect?.(tokens, index);
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeInspection();
  });
}
