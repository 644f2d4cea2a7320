// The settings of a text: in the form, in the link, in the request.

import { byId } from "./elements.js";

const form = byId("form");
const NUMBERS = [
  "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "max_new_tokens",
  "min_new_tokens",
];

export function readForm() {
  const { prompt, stop, check } = form.elements;
  const settings = { prompt: prompt.value.toWellFormed() };
  for (const name of NUMBERS) settings[name] = Number(form.elements[name].value);
  settings.stop = stop.value.toWellFormed().split("\n").filter(Boolean).map(unescapeLine);
  settings.check = check.checked;
  return settings;
}

export function fillForm(settings) {
  for (const name of ["prompt", ...NUMBERS]) {
    if (name in settings) form.elements[name].value = settings[name];
  }
  if ("stop" in settings) form.elements.stop.value = settings.stop.map(escapeLine).join("\n");
  if ("check" in settings) form.elements.check.checked = settings.check;
}

export function makeLink(settings) {
  const link = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) {
    for (const each of [value].flat()) link.append(name, each);
  }
  return `?${link}`;
}

// Fills the form from the address; returns what is wrong with it, as one line. A wrong value
// leaves its field as it is.
export function fillFromLink(address) {
  const link = new URLSearchParams(address);
  const problems = [];
  for (const name of new Set(link.keys())) {
    const problem = fillField(name, link.getAll(name));
    if (problem) problems.push(problem);
  }
  if (!problems.length) return "";
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  return `The link has ${problems[0]}${more}. Correct the settings, then press Generate.`;
}

function fillField(name, values) {
  const text = values.at(-1);
  const found = `${name} = “${text.slice(0, 100)}”`;
  if (name === "prompt" || name === "stop") {
    fillForm({ [name]: name === "stop" ? values.filter(Boolean) : text });
    return "";
  }
  if (name === "check") {
    if (text !== "true" && text !== "false") return `${found}, expected true or false`;
    fillForm({ check: text === "true" });
    return "";
  }
  if (!NUMBERS.includes(name)) return `an unknown setting, ${found}`;
  const field = form.elements[name];
  const previous = field.value;
  field.value = text; // empty if it is not a number
  if (field.value !== "" && field.checkValidity()) return "";
  field.value = previous;
  return `${found}, expected ${describeNumber(field)}`;
}

function describeNumber({ min, max, step }) {
  const kind = step === "1" ? "a whole number" : "a number";
  return `${kind} ${max ? `from ${min} to ${max}` : `of at least ${min}`}`;
}

// A stop string is a line, so a line break in it is written \n, and a backslash \\.
const escapeLine = (text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
const unescapeLine = (line) => line.replace(/\\([n\\])/g, (_, c) => (c === "n" ? "\n" : "\\"));
