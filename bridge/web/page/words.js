// The tab of the dictionary: entries for a word in any form or in English, and the words of a sentence.

import { byId, fadeCutSides, makeButton, makeElement, makeHeader, makeSpan, showChips } from "./elements.js";
import { listWords, onOpenEntry, trimMarks } from "./glosses.js";
import { fetchEntries, fetchGloss, showLatest } from "./requests.js";
import { selectPanel } from "./tabs.js";

const EXAMPLES = ["zaldrīzoti", "kari", "dragon", "rytsas", "Valar morghūlis.", "Sīr vali kari issi."];

const SIGNS = { "°": "inferred by analogy", "—": "not established" }; // in tables of forms

const field = byId("words-text"), status = byId("words-status");
const request = showLatest(status);

export function openWords(maxLength) {
  field.maxLength = maxLength;
  showChips("words-chips", EXAMPLES, lookUp);
  byId("words-form").addEventListener("submit", (event) => {
    event.preventDefault();
    lookUp(field.value);
  });
  lookUp(field.value || EXAMPLES[0]);
}

onOpenEntry((lemma) => {
  field.value = lemma;
  selectPanel("words");
  byId("words-tab").focus();
  lookUp(lemma);
});

function lookUp(text) {
  field.value = text;
  const isSentence = listWords(text).length > 1;
  request(
    (signal) => Promise.all([
      fetchEntries(text, signal),
      isSentence ? fetchGloss(text, signal) : [],
    ]),
    ([found, words]) => {
      const glossed = words.some((word) => word.known) ? words : [];
      byId("words-gloss").replaceChildren(makeGloss(glossed));
      byId("words-gloss").hidden = !glossed.length;
      showEntries(text, found);
      if (glossed.length) status.textContent = "Word by word; press a word for its entry.";
    },
  );
}

// Looks a word of a sentence up, and leaves the sentence as it is.
function lookUpPart(text, button) {
  for (const other of byId("words-gloss").querySelectorAll("button")) {
    other.setAttribute("aria-pressed", other === button);
  }
  request((signal) => fetchEntries(text, signal), (found) => showEntries(text, found));
}

function showEntries(text, { entries, nearest }) {
  byId("words-entries").replaceChildren(...entries.map(makeEntry));
  status.replaceChildren(...describeResult(text, entries, nearest));
}

function describeResult(text, entries, nearest) {
  if (!listWords(text).length) return ["Type a word."];
  if (entries.length > 1) return [`${entries.length} entries, the best first.`];
  if (entries.length) return ["1 entry."];
  if (!nearest.length) return [`“${text}” is not in the dictionary.`];
  const links = nearest.map((word) => makeButton(word, () => lookUp(word)));
  return [`“${text}” is not in the dictionary; the nearest: `, ...links];
}

// ---- A sentence: columns of word, analysis and meaning

function makeGloss(words) {
  const columns = words.map((word) => {
    const button = makeButton(word.text, () => lookUpPart(word.lemma || trimMarks(word.text), button));
    button.lang = "und";
    const analysis = makeSpan("analysis", word.known ? word.analysis : "not known");
    return makeElement("li", "", button, analysis, makeSpan("english", word.english));
  });
  return makeElement("ol", "columns", ...columns);
}

// ---- An entry: what a word is and means, its forms, an example

function makeEntry(entry, index) {
  const lemma = makeElement("b", "", entry.lemma);
  lemma.lang = "und";
  const summary = makeElement("summary", "", lemma, makeSpan("meaning", ` ${entry.meaning}`));
  const element = makeElement("details", "entry", summary);
  element.open = !index || entry.match === "form" || entry.match === "spelling";
  element.append(makeElement("p", "description", entry.description));
  for (const line of entry.found) element.append(makeElement("p", "found", line));
  if (entry.example) element.append(makeExample(entry.example));
  for (const table of entry.tables) element.append(makeTable(table));
  const cells = JSON.stringify(entry.tables);
  const legend = Object.entries(SIGNS).filter(([sign]) => cells.includes(sign));
  if (legend.length) {
    element.append(makeElement("p", "hint", legend.map((pair) => pair.join(" ")).join("; ")));
  }
  if (entry.sources.length) {
    element.append(makeElement("p", "hint", `Source: ${entry.sources.join("; ")}`));
  }
  return element;
}

function makeExample({ text, english, sources }) {
  const sentence = makeElement("i", "", text);
  sentence.lang = "und";
  const source = makeSpan("source", ` (${sources.join("; ")})`);
  return makeElement("p", "example", sentence, english && ` “${english}”`, source);
}

function makeTable({ title, columns, rows }) {
  const table = makeElement("table");
  if (title) table.append(makeElement("caption", "", title));
  if (columns.some(Boolean)) {
    const head = table.createTHead().insertRow();
    head.append(makeElement("td"), ...columns.map((column) => makeHeader("col", column)));
  }
  const body = table.createTBody();
  for (const [name, cells] of rows) {
    const row = body.insertRow();
    row.append(makeHeader("row", name));
    for (const cell of cells) row.insertCell().textContent = cell;
    for (const cell of row.cells) if (cell.tagName === "TD") cell.lang = "und";
  }
  const scroller = makeElement("div", "scroller", table);
  scroller.tabIndex = 0;
  scroller.role = "region";
  scroller.ariaLabel = title ? `Forms: ${title}` : "Forms";
  fadeCutSides(scroller);
  return scroller;
}
