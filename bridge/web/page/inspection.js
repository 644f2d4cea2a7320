// What the server knows about a text, beyond its tokens: verdicts on sentences, words, attention and
// layers. This is the inspector of text.js.

import { clearAttention, showAttention } from "./attention.js";
import { byId } from "./elements.js";
import { describeWord, findWord, forgetWord } from "./glosses.js";
import { clearLens, showLens } from "./lens.js";
import { findFaults, makeVerdict, makeWordsReachable } from "./verdicts.js";

export function makeInspector(hasGrammar) {
  byId("sentences").hidden = byId("language-settings").hidden = !hasGrammar;
  makeWordsReachable("sentences");
  let checkedCount = 0; // tokens in sentences that have a verdict
  return {
    start() {
      checkedCount = 0;
      byId("sentences").replaceChildren();
      closePanels();
      hideWord();
    },
    addSentence(sentence, tokens) {
      markTokens(sentence, tokens, checkedCount);
      checkedCount = sentence.end;
      byId("sentences").append(makeVerdict(sentence));
    },
    point(tokens, index) {
      if (hasGrammar) showWord(tokens, index);
    },
    inspect(tokens, index) {
      showAttention(tokens, index);
      showLens(tokens, index);
    },
    close: closePanels,
  };
}

function closePanels() {
  clearAttention();
  clearLens();
}

// Marks the tokens of a sentence with its verdict, and those at fault with its reason.
function markTokens(sentence, tokens, start) {
  let end = joinText(tokens.slice(0, start)).length;
  const begin = byId("text").textContent.indexOf(sentence.text, end); // after spaces, if any
  const faults = findFaults(sentence);
  for (const { element } of tokens.slice(start, sentence.end)) {
    const first = end - begin;
    end += element.textContent.length;
    element.classList.add(sentence.verdict);
    if (!faults.some((fault) => first < fault.end && fault.start < end - begin)) continue;
    element.classList.add("fault");
    element.title += `\n${sentence.reason.replaceAll("`", "")}`;
  }
}

const joinText = (some) => some.map((token) => token.element.textContent).join("");

function showWord(tokens, index) {
  const before = joinText(tokens.slice(0, index));
  const content = tokens[index].element.textContent;
  const offset = before.length + content.length - content.trimStart().length;
  const word = findWord(byId("text").textContent, offset);
  if (!word) return hideWord();
  describeWord(...word, byId("word"));
}

function hideWord() {
  forgetWord();
  byId("word").hidden = true;
}
