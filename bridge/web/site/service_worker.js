// Keeps the files of the page, so that it opens without the server from the second time on.
//
// A new version of the files gets its own cache, and is used once no page of the old version is open.

importScripts("files.js"); // FILES and VERSION, which the export writes

const PREFIX = `valyrian-gpt ${registration.scope} `; // other sites can have the same origin
const CACHE = PREFIX + VERSION;

addEventListener("install", (event) => event.waitUntil(fillCache()));
addEventListener("activate", (event) => event.waitUntil(removeOldCaches()));
addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

async function fillCache() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
}

async function removeOldCaches() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const page = request.mode === "navigate" ? "./" : request;
  return (await cache.match(page, { ignoreSearch: true })) ?? fetch(request);
}
