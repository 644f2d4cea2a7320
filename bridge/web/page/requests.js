// Requests to the server of the page. Every failure is an Error with a message for the reader.

export const UNREACHABLE =
  "Cannot reach the server; check that `python -m bridge serve` is still running.";

export async function fetchModel() {
  const response = await send("about");
  return response.json();
}

// Resolves to what the model loses without each head and MLP, by rule: `HeatMap` in
// bridge/web/heat_map.py; null if the server does not know it.
export async function fetchHeatMap() {
  const response = await send("heads");
  return response.json();
}

// Yields the events of a text as they arrive.
export async function* streamEvents(settings, signal) {
  const response = await post("generate", settings, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let incomplete = "", hasEnd = false;
  for (;;) {
    const { value, done } = await reader.read().catch(explainFailure);
    if (done && !hasEnd) throw new Error("The server closed the connection before the text ended.");
    if (done) return;
    const lines = (incomplete + value).split("\n");
    incomplete = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      hasEnd = event.kind === "end";
      yield event;
    }
  }
}

// Resolves to the index of the first token in the window, and weights[layer][head][token].
export async function fetchAttention(ids) {
  const response = await post("attention", { tokens: ids });
  return response.json();
}

// Resolves to the index of the first token in the table, and to predictions[layer][token] and
// probabilities[layer][token].
export async function fetchLens(ids) {
  const response = await post("lens", { tokens: ids });
  return response.json();
}

// Resolves to the verdicts on the sentences of a text.
export async function fetchVerdicts(text, signal) {
  const response = await post("check", { text: text.toWellFormed() }, signal);
  return (await response.json()).sentences;
}

// Resolves to the entries of the dictionary for a word, or the nearest words.
export async function fetchEntries(text, signal) {
  const response = await post("word", { text: text.toWellFormed() }, signal);
  return response.json();
}

// Resolves to the words of a sentence, each with its analysis and its meaning.
export async function fetchGloss(text, signal) {
  const response = await post("gloss", { text: text.toWellFormed() }, signal);
  return (await response.json()).words;
}

// Returns a function that fetches something and shows it, unless it is called again meanwhile.
// Errors appear in a status line.
export function showLatest(status) {
  let controller = new AbortController();
  return async (fetchResult, show) => {
    controller.abort();
    const { signal } = (controller = new AbortController());
    try {
      const result = await fetchResult(signal);
      if (!signal.aborted) show(result);
    } catch (error) {
      if (error.name !== "AbortError") status.textContent = error.message;
    }
  };
}

function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function send(path, options) {
  const response = await fetch(path, options).catch(explainFailure);
  if (!response.ok) throw new Error(await readError(response));
  return response;
}

function explainFailure(error) {
  throw error.name === "AbortError" ? error : new Error(UNREACHABLE);
}

async function readError(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}
