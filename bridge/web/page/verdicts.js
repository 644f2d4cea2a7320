// Sentences with their verdicts: the words that a reason is about are marked, and pointing at a word
// shows its analysis.

import { byId, makeElement, makeRoving, makeSpan } from "./elements.js";
import { describeWord, listWords } from "./glosses.js";

const VERDICTS = {
  right: { symbol: "✓", label: "right:" },
  mistake: { symbol: "✗", label: "a mistake:" },
  beyond: { symbol: "?", label: "beyond the grammar:" },
};
const QUOTED = /`([^`]*)`/;

// Returns an item of a list for a sentence with its verdict, reason and notes.
export function makeVerdict(sentence) {
  const { symbol, label } = VERDICTS[sentence.verdict];
  const mark = makeSpan("mark", symbol);
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", label);
  const gloss = makeElement("p", "gloss");
  gloss.setAttribute("aria-live", "polite");
  gloss.hidden = true;
  const line = makeElement("p", "line", mark, makeWords(sentence, gloss));
  const item = makeElement("li", sentence.verdict, line, gloss);
  if (sentence.reason) item.append(makeElement("p", "reason", ...quoteWords(sentence.reason)));
  for (const note of sentence.notes) item.append(makeNote(note));
  return item;
}

// Lets the arrow keys move between the words of a list of sentences.
export function makeWordsReachable(id) {
  makeRoving(byId(id), ".word");
}

function makeWords(sentence, gloss) {
  const { text } = sentence;
  const classes = classifyWords(sentence);
  const line = makeSpan("sentence", "");
  line.lang = "und";
  let end = 0;
  listWords(text).forEach(({ 0: word, index: start }, index) => {
    const className = classes.get(normalize(word)) ?? "";
    const button = makeElement("span", `word ${className}`, word);
    button.setAttribute("role", "button");
    button.tabIndex = index ? -1 : 0;
    if (className === "fault") button.title = sentence.reason.replaceAll("`", "");
    const describe = () => describeWord(text, index, gloss);
    for (const type of ["pointerover", "focusin", "click"]) button.addEventListener(type, describe);
    line.append(text.slice(end, start), button);
    end = start + word.length;
  });
  line.append(text.slice(end));
  return line;
}

// Returns the positions of the words at fault in a sentence.
export function findFaults(sentence) {
  const classes = classifyWords(sentence);
  return listWords(sentence.text)
    .filter(([word]) => classes.get(normalize(word)) === "fault")
    .map(({ 0: word, index }) => ({ start: index, end: index + word.length }));
}

// Returns the words that a reason is about. A statement on a mistake begins with the word at fault,
// and names the word that it should agree with.
function classifyWords({ verdict, reason }) {
  const classes = new Map();
  for (const statement of reason.split(". Or ")) {
    const quoted = statement.split(QUOTED).filter((_, i) => i % 2);
    quoted.flatMap((words) => words.split(" ")).map(normalize).forEach((word, i) => {
      const isFault = i === 0 || verdict === "beyond";
      if (isFault || !classes.has(word)) classes.set(word, isFault ? "fault" : "related");
    });
  }
  return classes;
}

const normalize = (word) => word.normalize("NFC").toLowerCase();

// Notes on all words of a sentence can be long, so they are folded.
function makeNote(note) {
  const [kind, ...rest] = note.split(": ");
  if (kind !== "words") return makeElement("p", "note", ...quoteWords(note));
  const items = rest.join(": ").split("; ").map((word) => makeElement("li", "", ...quoteWords(word)));
  const list = makeElement("ul", "", ...items);
  return makeElement("details", "note", makeElement("summary", "", "What each word is"), list);
}

// Returns the parts of a message; each quoted word becomes an element.
export function quoteWords(message) {
  return message.split(QUOTED).map((part, i) => {
    if (i % 2 === 0) return part;
    const word = makeElement("b", "quoted", part);
    word.lang = "und";
    return word;
  });
}
