// The thread of the model. It answers {id, settings} with messages {id, events, isLast} or {error};
// a message with another id ends the text in progress.

import { loadRunner } from "./runner.js";

const INTERVAL = 15; // milliseconds between two messages, about a frame of the page

let latest; // id of the last request
const runner = load();
runner.then(() => postMessage({ events: [] }), reportError);

addEventListener("message", async ({ data: { id, settings } }) => {
  latest = id;
  if (!settings) return;
  try {
    await sendEvents(id, (await runner).generate(settings));
  } catch (error) {
    reportError(error);
  }
});

async function load() {
  const [code, model] = await Promise.all([fetchBytes("runner.wasm"), fetchBytes("model.gguf")]);
  const module = await WebAssembly.compile(code).catch(() => {
    throw new Error(
      "This browser cannot run the model: expected WebAssembly with SIMD, as Chrome 111, " +
        "Firefox 119, Safari 16.4 and later versions have; update it",
    );
  });
  return loadRunner(module, model).catch((error) => {
    if (isFailure(error)) throw error;
    throw new Error(`Cannot load model.gguf: ${error.message}; export the page again`);
  });
}

async function fetchBytes(name) {
  const response = await fetch(name).catch(() => null);
  if (!response?.ok) throw new Error(`Cannot load ${name} from the server; reload the page`);
  return new Uint8Array(await response.arrayBuffer());
}

async function sendEvents(id, generated) {
  let events = [], due = performance.now() + INTERVAL;
  for (const event of generated) {
    events.push(event);
    if (performance.now() < due) continue;
    postMessage({ id, events });
    await receiveMessages();
    if (id !== latest) return;
    events = [];
    due = performance.now() + INTERVAL;
  }
  postMessage({ id, events, isLast: true });
}

// Lets the browser handle the messages that have arrived; setTimeout would wait for 4 ms.
function receiveMessages() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = resolve;
    port2.postMessage(null);
  });
}

// Returns whether the runner stopped without a message, as it does when memory runs out.
const isFailure = (error) =>
  error instanceof WebAssembly.RuntimeError || error instanceof RangeError;

function reportError(error) {
  const tooLarge = "The model needs more memory than this browser has; use a smaller one";
  postMessage({ error: `${isFailure(error) ? tooLarge : error.message}.` });
}
