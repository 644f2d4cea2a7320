// Converts the settings of a text between the form, its link and a request.

import { byId } from "./elements.js";
import { NUMBERS, describeNumber, findProblem, readNumber } from "./fields.js";

const form = byId("form");
// Only the page of the server has these switches.
const SWITCHES = ["check", "grammatical"].filter((name) => name in form.elements);

export function readForm() {
  const { prompt, stop } = form.elements;
  const settings = { prompt: prompt.value.toWellFormed() };
  for (const name of NUMBERS) settings[name] = readNumber(name);
  settings.stop = stop.value.toWellFormed().split("\n").filter(Boolean).map(unescapeLine);
  for (const name of SWITCHES) settings[name] = form.elements[name].checked;
  return settings;
}

export function fillForm(settings) {
  for (const name of ["prompt", ...NUMBERS]) {
    if (name in settings) form.elements[name].value = settings[name];
  }
  if ("stop" in settings) form.elements.stop.value = settings.stop.map(escapeLine).join("\n");
  for (const name of SWITCHES) {
    if (name in settings) form.elements[name].checked = settings[name];
  }
}

export function makeLink(settings) {
  const link = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) {
    for (const each of [value].flat()) link.append(name, each);
  }
  return link.toString();
}

// Fills the form from the address; returns what is wrong with the address in one line, or "". A
// wrong value leaves its field unchanged.
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
  if (SWITCHES.includes(name)) {
    if (text !== "true" && text !== "false") return `${found}, expected true or false`;
    fillForm({ [name]: text === "true" });
    return "";
  }
  if (!NUMBERS.includes(name)) return `an unknown setting, ${found}`;
  const field = form.elements[name], previous = field.value;
  field.value = text;
  if (!findProblem(name)) return "";
  field.value = previous;
  return `${found}, expected ${describeNumber(name)}`;
}

// A stop string is a line, so a line break in it is written \n, and a backslash \\.
const escapeLine = (text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
const unescapeLine = (line) => line.replace(/\\([n\\])/g, (_, c) => (c === "n" ? "\n" : "\\"));
