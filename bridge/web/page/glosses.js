// What each word of a sentence is: analyses from the server, fetched when a reader points at a word.

import { makeButton } from "./elements.js";
import { fetchGloss } from "./requests.js";

const WORD = /[\p{L}\p{M}]+|\p{N}+/gu;
const SENTENCE = /[^.!?…\n]+[.!?…]*/g;
const DELAY = 120; // milliseconds of pointing at a word before it is looked up
const MAX_CACHED = 500;

const cache = new Map(); // sentence -> promise of its words
let timer = 0;
let openEntry = () => {}; // function that opens an entry of the dictionary

export function onOpenEntry(open) {
  openEntry = open;
}

export const listWords = (text) => [...text.matchAll(WORD)];

// Shows the analysis of a word in a line, unless the reader points at another word first.
export function describeWord(sentence, index, line) {
  clearTimeout(timer);
  const request = (timer = setTimeout(async () => {
    const content = await glossWord(sentence, index).catch((error) => [error.message]);
    if (request !== timer) return;
    line.replaceChildren(...content);
    line.hidden = !content.length;
  }, cache.has(sentence) ? 0 : DELAY));
}

export function forgetWord() {
  clearTimeout(timer);
  timer = 0;
}

// Returns the sentence at an offset of a text and the index of the word in it, or null.
export function findWord(text, offset) {
  for (const { 0: sentence, index: start } of text.matchAll(SENTENCE)) {
    if (offset >= start + sentence.length) continue;
    const words = listWords(sentence);
    const index = words.findIndex((word) => offset < start + word.index + word[0].length);
    return index < 0 || offset < start + words[index].index ? null : [sentence.trim(), index];
  }
  return null;
}

async function glossWord(sentence, index) {
  if (!cache.has(sentence)) {
    if (cache.size >= MAX_CACHED) cache.clear();
    const request = fetchGloss(sentence);
    request.catch(() => cache.delete(sentence));
    cache.set(sentence, request);
  }
  let end = 0;
  for (const word of await cache.get(sentence)) {
    end += listWords(word.text).length; // A set phrase is one word here.
    if (index < end) return formatGloss(word);
  }
  return [];
}

// Returns the line about a word, and a button for its entry.
function formatGloss(word) {
  const text = trimMarks(word.text);
  if (!word.known) return [`${text}: not a known word${listNearest(word)}`];
  const line = `${text}: ${word.analysis}, “${word.english}”`;
  return word.lemma ? [line, makeButton("entry", () => openEntry(word.lemma))] : [line];
}

export const trimMarks = (text) => text.replace(/[.,!?…;:]+$/, "");

const listNearest = ({ nearest }) => (nearest.length ? `; the nearest: ${nearest.join(", ")}` : "");
