// The page: asks the server for a text, and shows what comes as it comes. No framework, nothing from elsewhere.

const at = (id) => document.getElementById(id);
const form = at("form"), text = at("text");
const MOST_BARS = 64; // in the picture of a head
const NUMBERS = ["temperature", "top_k", "top_p", "seed", "max_new_tokens"];

let about;            // what the server says of the model
let running = null;   // the AbortController of the text that is being written
let tokens = [];      // the events of the text's tokens, each with its element
let judgedTo = 0;     // up to which token sentences have been judged
let following = true; // show the newest token, until the reader points at one
let asked = {};       // the settings of the text
let chosen = null;    // the token whose attention is shown, or asked for

// ---- settings: in the form, in the address, in the request

function settings() {
  const values = { prompt: form.elements.prompt.value.toWellFormed(), judged: form.elements.judged.checked };
  for (const name of NUMBERS) values[name] = Number(form.elements[name].value);
  return values;
}

function fill(values) {
  for (const name of ["prompt", ...NUMBERS]) if (name in values) form.elements[name].value = values[name];
  if ("judged" in values) form.elements.judged.checked = String(values.judged) === "true";
}

async function open() {
  const response = await fetch("about").catch(() => null);
  if (!response?.ok) return fail("The server cannot be reached. Is `python -m bridge serve` still running?");
  about = await response.json();
  at("name").textContent = about.name;
  document.title = `${about.name} · valyrian-gpt`;
  const count = (n) => n.toLocaleString("en");
  at("model").textContent = `${about.layers} blocks, ${about.heads} heads, ${about.width} wide, context ${about.context}, ` +
    `vocabulary ${count(about.vocabulary)}: ${count(about.parameters)} parameters`;
  form.elements.max_new_tokens.max = about.most_tokens;
  form.elements.prompt.maxLength = about.most_characters;
  fill(about.settings);
  const link = Object.fromEntries(new URLSearchParams(location.search));
  fill(link);
  at("go").disabled = false;
  if (Object.keys(link).length && form.reportValidity()) generate();
}

// ---- a text, from the first event to the last

async function generate() {
  running?.abort();
  const mine = running = new AbortController();
  clear();
  asked = settings();
  history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
  at("stop").disabled = at("link").disabled = false;
  at("status").textContent = "Writing …";
  const began = performance.now();
  let ended = null;
  try {
    const response = await fetch("generate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked),
      signal: mine.signal,
    });
    if (!response.ok) throw new Error(await problem(response));
    for await (const event of events(response.body)) {
      if (mine !== running) return;
      show(event);
      if (event.kind === "end") ended = event;
    }
    if (!ended) throw new Error("The text broke off: the server ended it.");
    const written = tokens.filter((token) => token.kind === "token").length;
    const seconds = (performance.now() - began) / 1000;
    at("status").textContent = `${written} tokens in ${seconds.toFixed(1)} s; ` +
      { document: "the model ended the document.", length: "as many as were asked for.", server: "the server ended it." }[ended.why];
  } catch (error) {
    if (mine !== running) return;
    at("status").textContent = error.name === "AbortError" ? "Stopped." : "";
    if (error.name !== "AbortError") fail(error instanceof TypeError ? "The server cannot be reached." : error.message);
  } finally {
    if (mine === running) {
      running = null;
      at("stop").disabled = true;
    }
  }
}

async function problem(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answers ${response.status} ${response.statusText}.`;
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

function clear() {
  tokens = [];
  judgedTo = 0;
  following = true;
  for (const id of ["text", "sentences", "choices"]) at(id).replaceChildren();
  at("error").hidden = true;
  at("token").textContent = at("kept").textContent = "";
  lookAway();
}

function fail(message) {
  at("error").textContent = message;
  at("error").hidden = false;
}

function show(event) {
  if (event.kind === "sentence") return judge(event);
  if (event.kind === "end") {
    if (tokens.length) tokens.at(-1).element.textContent += event.text;
    return;
  }
  const element = document.createElement("span");
  element.className = `piece ${event.kind}`;
  element.textContent = event.text;
  element.dataset.label = event.label;
  element.title = event.kind === "token" ? `${event.label}: ${percent(event.probability)}` : `${event.label}: prompt`;
  element.tabIndex = tokens.length ? -1 : 0;
  element.setAttribute("role", "button");
  tokens.push({ ...event, element });
  text.append(element);
  if (following) describe(tokens.at(-1));
}

function judge(sentence) {
  const verdict = sentence.grammatical ? "right" : "wrong";
  for (const token of tokens.slice(judgedTo, sentence.end)) token.element.classList.add(verdict);
  judgedTo = sentence.end;
  const item = document.createElement("li");
  item.className = verdict;
  item.append(part("mark", sentence.grammatical ? "✓" : "✗"), sentence.text);
  item.firstChild.setAttribute("role", "img");
  item.firstChild.setAttribute("aria-label", sentence.grammatical ? "grammatical:" : "not grammatical:");
  if (sentence.reason) item.append(part("reason", ` — ${sentence.reason}`));
  at("sentences").append(item);
}

// ---- a token: what it was drawn from

function describe(token) {
  const prompt = token.kind === "prompt";
  at("token").textContent = prompt
    ? `“${token.label}” (token ${token.id}) stands in the prompt.`
    : `“${token.label}” (token ${token.id}) has probability ${percent(token.probability)}.`;
  at("kept").textContent = prompt ? "" : `${token.kept} of ${about.vocabulary} tokens could be drawn` +
    (asked.temperature === 0 ? ": at temperature 0 the most probable one." : `, this one with chance ${percent(token.chance)}.`);
  const most = prompt ? 1 : token.choices[0][2];
  const items = [];
  for (const [id, label, probability, kept] of prompt ? [] : token.choices) {
    const item = document.createElement("li");
    item.className = (kept ? "kept" : "dropped") + (id === token.id ? " drawn" : "");
    const bar = part("bar", "");
    bar.style.width = `${(100 * probability) / most}%`;
    item.append(part("name", label), bar, part("share", percent(probability)));
    if (!kept && !items.at(-1)?.classList.contains("dropped")) {
      const cut = document.createElement("li");
      cut.className = "cut";
      cut.textContent = "below this line nothing is drawn";
      items.push(cut);
    }
    items.push(item);
  }
  at("choices").replaceChildren(...items);
}

function part(name, content) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = content;
  return element;
}

function percent(share) {
  return share >= 0.001 || share === 0 ? `${(100 * share).toFixed(1)}%` : "<0.1%";
}

// ---- attention: where a token looks

async function look(index) {
  const ids = tokens.slice(0, index + 1).map((token) => token.id);
  const from = chosen = tokens[index];
  for (const token of tokens) token.element.classList.toggle("chosen", token === from);
  const response = await fetch("attention", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ tokens: ids }),
  }).catch(() => null);
  if (!response) return fail("The server cannot be reached.");
  if (!response.ok) return fail(await problem(response));
  const found = await response.json();
  if (chosen !== from) return; // the reader has gone on
  const heads = found.weights.flat();
  const mean = heads[0].map((_, key) => heads.reduce((sum, head) => sum + head[key], 0) / heads.length);
  const rows = [["mean", [["all heads", mean]]]];
  found.weights.forEach((layer, l) => rows.push([`layer ${l}`, layer.map((head, h) => [`layer ${l}, head ${h}`, head])]));
  at("heads").replaceChildren(...rows.map(([name, row]) => {
    const line = document.createElement("div");
    line.className = "layer";
    line.append(part("", name), ...row.map(([title, weights]) => headButton(title, weights, from, found.start)));
    return line;
  }));
  at("heads").querySelector("button").click();
}

function headButton(title, weights, from, start) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = title;
  button.setAttribute("aria-label", title);
  const most = Math.max(...weights);
  const group = Math.ceil(weights.length / MOST_BARS);
  for (let i = 0; i < weights.length; i += group) {
    const bar = document.createElement("i");
    bar.style.height = `${(100 * Math.max(...weights.slice(i, i + group))) / most}%`;
    button.append(bar);
  }
  button.addEventListener("click", () => {
    for (const other of at("heads").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
    text.classList.add("looking");
    tokens.forEach((token, i) => token.element.style.setProperty("--weight", (weights[i - start] ?? 0) / most));
    const order = weights.map((weight, i) => [weight, tokens[start + i].label]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    at("looking").textContent = `From “${from.label}”, ${title}: looks at ` +
      order.map(([weight, label]) => `“${label}” ${percent(weight)}`).join(", ") + ". Escape ends this.";
  });
  return button;
}

function lookAway() {
  chosen = null;
  text.classList.remove("looking");
  for (const token of tokens) token.element.classList.remove("chosen");
  at("heads").replaceChildren();
  at("looking").textContent = "Choose a token (click, or Enter) to see where each head looks from it.";
}

// ---- what the reader does

const indexOf = (element) => tokens.findIndex((token) => token.element === element);

function point(event) {
  const index = indexOf(event.target);
  if (index < 0) return;
  following = false;
  for (const token of tokens) token.element.tabIndex = token.element === event.target ? 0 : -1;
  describe(tokens[index]);
}

function walk(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return; // those belong to the browser
  const index = indexOf(event.target);
  if (event.key === "Escape") lookAway();
  if (index < 0) return;
  const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tokens.length - 1 }[event.key];
  if (to !== undefined) tokens[to]?.element.focus();
  else if (event.key === "Enter" || event.key === " ") look(index);
  else return;
  event.preventDefault();
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    at("status").textContent = "The link is copied: it gives the same text again.";
  } catch {
    at("status").textContent = location.href;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
at("stop").addEventListener("click", () => running?.abort());
at("link").addEventListener("click", copyLink);
text.addEventListener("pointerover", point);
text.addEventListener("focusin", point);
text.addEventListener("click", (event) => indexOf(event.target) >= 0 && look(indexOf(event.target)));
document.addEventListener("keydown", walk);
at("go").disabled = true;
open();
