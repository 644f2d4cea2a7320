// The number fields of the form: their limits, their help, and the problems of their values.

import { byId, makeButton, makeElement } from "./elements.js";

// `min` and `max` belong to the range, and `above` does not. Above 0, a value is at least `least`.
const FIELDS = {
  temperature: {
    label: "Temperature", min: 0, least: 0.001,
    help: "0 always takes the most probable token; higher values give more surprising texts.",
  },
  top_p: {
    label: "Top-p", above: 0,
    help: "Draws from the most probable tokens that together reach this share; 1 keeps all.",
  },
  max_new_tokens: {
    label: "Tokens", min: 1, isWhole: true,
    help: "The largest number of new tokens, which are words or parts of words.",
  },
  seed: {
    label: "Seed", min: 0, max: 4294967295, isWhole: true,
    help: "The same seed gives the same text; another seed gives another one.",
  },
  top_k: {
    label: "Top-k", min: 0, isWhole: true,
    help: "Draws from this many most probable tokens; 0 keeps all.",
  },
  min_p: {
    label: "Min-p", min: 0, max: 1,
    help: "Leaves out tokens less probable than this share of the best one; 0 keeps all.",
  },
  repetition_penalty: {
    label: "Repetition penalty", min: 0.001, max: 1000,
    help: "Above 1, tokens that have occurred become less probable; 1 is off.",
  },
  min_new_tokens: {
    label: "Min tokens", min: 0, isWhole: true,
    help: "The document does not end before this number of new tokens.",
  },
};
const COMMON = ["temperature", "top_p", "max_new_tokens", "seed"];

export const NUMBERS = Object.keys(FIELDS);

export function makeFields() {
  byId("common-settings").append(...COMMON.map(makeField));
  byId("rare-settings").prepend(
    ...NUMBERS.filter((name) => !COMMON.includes(name)).map(makeField),
  );
}

export function setLargest(name, max) {
  FIELDS[name].max = max;
}

function makeField(name) {
  const { label, help, isWhole } = FIELDS[name];
  const input = makeElement("input");
  input.id = input.name = name;
  input.inputMode = isWhole ? "numeric" : "decimal";
  input.autocomplete = "off";
  input.setAttribute("aria-describedby", `${name}-problem ${name}-help`);
  input.addEventListener("change", () => showProblem(name));
  input.addEventListener("input", () => clearProblem(name));
  const title = makeElement("label", "", label);
  title.htmlFor = name;
  const problem = makeElement("p", "problem"), tip = makeElement("p", "help", help);
  problem.id = `${name}-problem`;
  tip.id = `${name}-help`;
  tip.role = "tooltip";
  const line = makeElement("div", "line", input);
  if (name === "seed") line.append(makeDie());
  return makeElement("div", "field", title, line, problem, tip);
}

function makeDie() {
  const die = makeButton("⚄", () => {});
  die.id = "die";
  die.title = die.ariaLabel = "Roll a die for a new text";
  return die;
}

// Returns the number in a field, or NaN. A decimal point can be a comma, but not in a whole number,
// where it would separate thousands.
export function readNumber(name) {
  const text = byId(name).value.trim();
  const point = FIELDS[name].isWhole ? text : text.replace(",", ".");
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(point) ? Number(point) : NaN;
}

// Returns the problem of a field, such as "must be above 0", or "".
export function findProblem(name) {
  const { min, above, max, least, isWhole } = FIELDS[name], value = readNumber(name);
  if (Number.isNaN(value) || (isWhole && !Number.isInteger(value))) {
    return `must be ${describeNumber(name)}`;
  }
  if (value < min || value <= above || value > max) return `must be ${describeRange(name)}`;
  return value > 0 && value < least ? `must be 0 or at least ${least}` : "";
}

export function describeNumber(name) {
  const range = describeRange(name);
  const kind = FIELDS[name].isWhole ? "a whole number" : "a number";
  return `${kind} ${range.startsWith("at") ? "of " : ""}${range}`;
}

function describeRange(name) {
  const { min, above, max } = FIELDS[name];
  if (above !== undefined) return `above ${above}`;
  return max === undefined ? `at least ${min}` : `from ${min} to ${max}`;
}

// Shows what is wrong with the fields, moves to the first wrong one, and returns whether all are
// right.
export function checkFields() {
  const wrong = NUMBERS.filter(showProblem);
  if (!wrong.length) return true;
  byId(wrong[0]).closest("details")?.setAttribute("open", "");
  byId(wrong[0]).focus();
  return false;
}

function showProblem(name) {
  const problem = findProblem(name);
  byId(`${name}-problem`).textContent = problem && `${FIELDS[name].label} ${problem}`;
  byId(name).setAttribute("aria-invalid", problem !== "");
  return problem !== "";
}

function clearProblem(name) {
  if (!findProblem(name)) showProblem(name);
}
