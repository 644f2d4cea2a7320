// The generated text: a box for each token, and what a reader points at. A letter whose bytes are in
// several tokens is one box, that of the last of them.

import { clearAttention, showAttention } from "./attention.js";
import { clearDistribution, showDistribution } from "./distribution.js";
import { byId, formatPercent, makeRoving, makeSpan, nameToken } from "./elements.js";
import { describeWord, findWord, forgetWord } from "./glosses.js";
import { clearLens, showLens } from "./lens.js";
import { findFaults, makeVerdict } from "./verdicts.js";

const BOX = ".text-token:not(.bytes)";

const box = byId("text");
let text = {};           // settings of the text, size of the vocabulary, whether it has words
let tokens = [];         // events of the text's tokens, each with its element
let checkedCount = 0;    // tokens in sentences that have a verdict
let showsNewest = true;  // until the reader points at a token

export function startText(settings, vocabulary, hasWords) {
  text = { settings, vocabulary, hasWords };
  tokens = [];
  checkedCount = 0;
  showsNewest = true;
  for (const id of ["text", "sentences"]) byId(id).replaceChildren();
  clearDistribution();
  closeInspection();
  hideWord();
}

export const countNewTokens = () => tokens.filter((token) => token.kind === "token").length;

export function showEvent(event) {
  if (event.kind === "sentence") showVerdict(event);
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
  if (showsNewest) showToken(tokens.length - 1);
}

function showVerdict(sentence) {
  const checked = tokens.slice(checkedCount, sentence.end);
  let end = joinText(tokens.slice(0, checkedCount)).length;
  const begin = box.textContent.indexOf(sentence.text, end); // spaces can be before it
  const faults = findFaults(sentence);
  for (const { element } of checked) {
    const start = end - begin;
    end += element.textContent.length;
    element.classList.add(sentence.verdict);
    if (!faults.some((fault) => start < fault.end && fault.start < end - begin)) continue;
    element.classList.add("fault");
    element.title += `\n${sentence.reason.replaceAll("`", "")}`;
  }
  checkedCount = sentence.end;
  byId("sentences").append(makeVerdict(sentence));
}

const joinText = (some) => some.map((token) => token.element.textContent).join("");

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
  if (text.hasWords) showWord(index);
}

function showWord(index) {
  const before = joinText(tokens.slice(0, index));
  const content = tokens[index].element.textContent;
  const offset = before.length + content.length - content.trimStart().length;
  const word = findWord(box.textContent, offset);
  if (!word) return hideWord();
  describeWord(...word, byId("word"));
}

function hideWord() {
  forgetWord();
  byId("word").hidden = true;
}

function inspectToken(index) {
  showAttention(tokens, index);
  showLens(tokens, index);
}

export function closeInspection() {
  clearAttention();
  clearLens();
}

export function listenToReader() {
  makeRoving(box, BOX);
  box.addEventListener("pointerover", onPoint);
  box.addEventListener("focusin", onPoint);
  box.addEventListener("click", (event) => {
    const index = findToken(event.target);
    if (index >= 0) inspectToken(index);
  });
  box.addEventListener("keydown", (event) => {
    const index = findToken(event.target);
    if (index < 0 || (event.key !== "Enter" && event.key !== " ")) return;
    inspectToken(index);
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeInspection();
  });
}
