// Texts from the model, which runs in a worker so that the page never waits for it. Every failure
// is an Error with a message for the reader.

const COPY_ALL = "copy the whole directory that `python -m bridge export --format web` wrote.";
const MAX_STOP_STRINGS = 4, MAX_STOP_CHARACTERS = 200; // as in bridge/web/request.py

let model;         // description of the model: `describe_model` in bridge/web/app.py
let worker = null; // After a failure, the next text starts a new one.
let latest = 0;    // number of the last text

// Loads the model and returns its description, which `onDescription` gets before the rest is loaded.
export async function loadModel(onDescription) {
  const response = await fetch("model.json").catch(() => null);
  if (!response?.ok) throw new Error(`Cannot load model.json from the server; ${COPY_ALL}`);
  model = await response.json().catch(() => {
    throw new Error(`model.json is damaged; ${COPY_ALL}`);
  });
  onDescription(model);
  await startWorker();
  return model;
}

// Yields the events of a text as they are computed.
export async function* streamEvents(settings, signal) {
  checkLengths(settings);
  if (!worker) await startWorker();
  const id = ++latest;
  const reader = readMessages(signal);
  worker.postMessage({ id, settings });
  for (;;) {
    const message = await receive(reader);
    if (message.id !== id) continue; // the rest of an earlier text
    yield* message.events;
    if (message.isLast) return;
  }
}

async function startWorker() {
  worker = new Worker("worker.js", { type: "module" });
  await receive(readMessages());
}

// Returns a reader of the messages of the worker from now on.
function readMessages(signal) {
  const stream = new ReadableStream({
    start(controller) {
      worker.onmessage = ({ data }) => controller.enqueue(data);
      worker.onerror = () => controller.enqueue({ error: `Cannot start worker.js; ${COPY_ALL}` });
      signal?.addEventListener("abort", () => {
        if (worker) worker.onmessage = null;
        worker?.postMessage({ id: ++latest }); // ends the text in progress
        controller.error(signal.reason);
      }, { once: true });
    },
  });
  return stream.getReader();
}

async function receive(reader) {
  const { value: message } = await reader.read();
  if (!message.error) return message;
  worker.terminate();
  worker = null;
  throw new Error(message.error);
}

// The form limits what a reader can type, but a link can exceed the limits.
function checkLengths({ prompt, stop }) {
  const longest = Math.max(0, ...stop.map((text) => text.length));
  for (const [what, count, limit, unit] of [
    ["The prompt is too long", prompt.length, model.most_characters, "characters"],
    ["There are too many stop strings", stop.length, MAX_STOP_STRINGS, "strings"],
    ["A stop string is too long", longest, MAX_STOP_CHARACTERS, "characters"],
  ]) {
    if (count <= limit) continue;
    throw new Error(`${what}: expected at most ${limit} ${unit}, found ${count}; send fewer.`);
  }
}
