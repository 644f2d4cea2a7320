// The tab that checks the text that a reader types.

import { byId, countThings, showChips } from "./elements.js";
import { fetchVerdicts, showLatest } from "./requests.js";
import { makeVerdict, makeWordsReachable } from "./verdicts.js";

const EXAMPLES = [
  "Valar morghūlis. Valar dohaeris.",
  "Sīr vali kara issi.",
  "Zaldrizes buzdari iksos daor.",
  "Ñuha jorrāeliarza, skoriot iksā?",
];
const FIRST = "Sīr vali kari issi. Ābra zaldrīzī ūndan. Valar morghulis! Ñuha blorpa issa.";
const DELAY = 250; // milliseconds between the last key and the check

const field = byId("check-text"), status = byId("check-status"), list = byId("check-sentences");
const request = showLatest(status);
let timer = 0;

export function openCheck(maxLength) {
  field.maxLength = maxLength;
  showChips("check-chips", EXAMPLES, (example) => {
    field.value = example;
    check();
  });
  makeWordsReachable("check-sentences");
  field.addEventListener("input", () => {
    list.ariaBusy = true;
    clearTimeout(timer);
    timer = setTimeout(check, DELAY);
  });
  field.value ||= FIRST;
  check();
}

function check() {
  clearTimeout(timer);
  list.ariaBusy = true;
  request((signal) => fetchVerdicts(field.value, signal), (sentences) => {
    list.ariaBusy = false;
    list.replaceChildren(...sentences.map(makeVerdict));
    status.textContent = countVerdicts(sentences);
  });
}

function countVerdicts(sentences) {
  if (!sentences.length) return "Type a sentence.";
  const counts = Object.groupBy(sentences, ({ verdict }) => verdict);
  const count = (verdict) => counts[verdict]?.length ?? 0;
  const listed = [
    [count("right"), "right"],
    [count("mistake"), count("mistake") === 1 ? "with a mistake" : "with mistakes"],
    [count("beyond"), "beyond the grammar"],
  ];
  const parts = listed.filter(([n]) => n).map(([n, name]) => `${n} ${name}`);
  return `${countThings(sentences.length, "sentence")}: ${parts.join(", ")}.`;
}
