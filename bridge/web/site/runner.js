// The model: the C++ runner of bridge/cpp/native as WebAssembly, and the events of its texts, which
// are those of the server (bridge/web/session.py).

// In the order in which `start` of wasm.cpp reads them.
const NUMBERS = [
  "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
  "min_new_tokens", "seed",
];
const END_OF_TEXT = "<|endoftext|>";
const REASONS = [null, "document", "length", "stop"]; // by the number that `step` returns
const HIDDEN = /[\p{C}\p{Z}\\]/u; // characters that a label shows as escapes; a space is ␣

// The C++ library can write to files, but a page has none: every call reports a bad descriptor.
const reportNoFile = () => 8;
const WASI = { fd_close: reportNoFile, fd_seek: reportNoFile, fd_write: reportNoFile };

// Compiles the runner and loads a model, the bytes of a GGUF file.
export async function loadRunner(module, model) {
  const instance = await WebAssembly.instantiate(module, {
    page: { fail: (message) => { throw new Error(readString(instance.exports, message)); } },
    wasi_snapshot_preview1: { ...WASI, proc_exit: () => { throw new Error("it has ended"); } },
  });
  instance.exports._initialize();
  return new Runner(instance.exports, model);
}

function readString({ memory }, start) {
  const bytes = new Uint8Array(memory.buffer, start);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

class Runner {
  constructor(exports, model) {
    this.exports = exports;
    this.labels = new Map();
    this.endOfText = this.withMemory(model, (start) => exports.load(start, model.length));
  }

  // Yields the events of a text: its prompt, its tokens, and the end.
  *generate(settings) {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const decode = (bytes) => decoder.decode(bytes, { stream: true });
    for (const id of this.start(settings)) {
      const bytes = id === this.endOfText ? [] : this.readBytes(id);
      yield { kind: "prompt", id, label: this.label(id), text: decode(Uint8Array.from(bytes)) };
    }
    // A token waits here while a stop string could still begin in it.
    const waiting = [];
    let sent = 0, end = 0;
    while (!end) {
      end = this.exports.step(1);
      const event = this.readToken();
      if (REASONS[end] !== "document") waiting.push({ event, bytes: this.readBytes(event.id) });
      const isCut = REASONS[end] === "stop";
      const free = end && !isCut ? Infinity : event.released;
      while (waiting.length && sent + waiting[0].bytes.length <= free) {
        const { event, bytes } = waiting.shift();
        sent += bytes.length;
        yield { ...event, text: decode(bytes) };
      }
      if (isCut && free > sent) {
        yield { ...waiting[0].event, text: decode(waiting[0].bytes.subarray(0, free - sent)) };
      }
    }
    yield { kind: "end", text: decoder.decode(), why: REASONS[end] };
  }

  // Begins a text; returns the token ids of its prompt.
  start({ prompt, stop, ...settings }) {
    const encoder = new TextEncoder();
    const text = encoder.encode(prompt), stops = stop.map((each) => encoder.encode(each));
    const numbers = Float64Array.from(NUMBERS, (name) => settings[name]);
    const sizes = Uint32Array.from(stops, (bytes) => bytes.length);
    const joined = encoder.encode(stop.join(""));
    const count = this.withMemory(text, (promptAt) => this.withMemory(numbers, (numbersAt) =>
      this.withMemory(joined, (stopAt) => this.withMemory(sizes, (sizesAt) =>
        this.exports.start(promptAt, text.length, numbersAt, stopAt, sizesAt, stops.length)))));
    return new Int32Array(this.exports.memory.buffer, this.exports.tokens(), count).slice();
  }

  // Draws the next token and returns its id, without its distribution.
  drawToken() {
    this.exports.step(0);
    return new DataView(this.exports.memory.buffer).getInt32(this.exports.token(), true);
  }

  // Copies an array into the memory of the runner, and calls a function with its address.
  withMemory(array, use) {
    const { allocate, release, memory } = this.exports;
    const start = allocate(array.byteLength);
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    new Uint8Array(memory.buffer).set(bytes, start);
    const result = use(start);
    release(start);
    return result;
  }

  // Reads the token that was drawn last: `Drawn` in wasm.cpp.
  readToken() {
    const { memory, token } = this.exports;
    const whole = new Int32Array(memory.buffer, token()), real = new Float32Array(memory.buffer, token());
    const [id, released, kept, count] = whole;
    const choices = [];
    for (let i = 6; i < 6 + 3 * count; i += 3) {
      choices.push([whole[i], this.label(whole[i]), real[i + 1], whole[i + 2] === 1]);
    }
    const label = this.label(id);
    return { kind: "token", id, label, released, kept, probability: real[4], chance: real[5], choices };
  }

  // Returns a copy of the bytes of a token.
  readBytes(id) {
    const { memory, token_bytes, token_size } = this.exports;
    return new Uint8Array(memory.buffer, token_bytes(id), token_size(id)).slice();
  }

  // Returns a token as visible characters, like `token_label` of the tokenizer.
  label(id) {
    if (!this.labels.has(id)) {
      const label = id === this.endOfText ? END_OF_TEXT : makeVisible(this.readBytes(id));
      this.labels.set(id, label);
    }
    return this.labels.get(id);
  }
}

function makeVisible(bytes) {
  let label = "";
  for (let i = 0, size; i < bytes.length; i += size) {
    size = [4, 3, 2, 1].find((n) => isCharacter(bytes.subarray(i, i + n))) ?? 1;
    const part = bytes.subarray(i, i + size);
    const character = new TextDecoder("utf-8", { ignoreBOM: true }).decode(part);
    const isShown = isCharacter(part) && !HIDDEN.test(character);
    label += character === " " ? "␣" : isShown ? character : escapeBytes(part);
  }
  return label;
}

function isCharacter(bytes) {
  try {
    return [...new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)].length === 1;
  } catch {
    return false;
  }
}

// Returns bytes as Python writes them.
function escapeBytes(bytes) {
  const names = { 9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\" };
  const escape = (byte) => names[byte] ?? `\\x${byte.toString(16).padStart(2, "0")}`;
  return [...bytes].map(escape).join("");
}
