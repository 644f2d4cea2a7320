// The page: loads the model and opens the form. Scripts that are not in this directory come from the
// page of the server (bridge/web/page).

import { byId, showError } from "./elements.js";
import { makeFields, setLargest } from "./fields.js";
import { loadModel, streamEvents } from "./generation.js";
import { openWrite } from "./write.js";

const status = byId("status");

async function openPage() {
  try {
    const model = await loadModel(({ bytes }) => {
      status.textContent = `Loading the model (${(bytes / 1e6).toFixed(1)} MB) …`;
    });
    setLargest("max_new_tokens", model.most_tokens);
    openWrite(model, streamEvents, {}, "#");
  } catch (error) {
    status.textContent = "";
    showError(error.message);
  }
  keepForOffline();
}

// A browser can refuse to keep a page, for example without HTTPS; the page works anyway.
function keepForOffline() {
  const options = { updateViaCache: "none" };
  navigator.serviceWorker?.register("service_worker.js", options).catch(console.warn);
}

makeFields();
openPage();
