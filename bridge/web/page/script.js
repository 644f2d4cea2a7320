// The page: opens the tabs that the model has. No framework.

import { byId, showError } from "./elements.js";
import { openCheck } from "./check.js";
import { makeFields, setLargest } from "./fields.js";
import { showHeatMap } from "./heat_map.js";
import { makeInspector } from "./inspection.js";
import { UNREACHABLE, fetchModel, streamEvents } from "./requests.js";
import { hideTabs, onFirstShown, showTabs } from "./tabs.js";
import { openWords } from "./words.js";
import { openWrite } from "./write.js";

async function openPage() {
  let model;
  try {
    model = await fetchModel();
  } catch {
    showError(UNREACHABLE);
    return;
  }
  setLargest("max_new_tokens", model.most_tokens);
  if (model.has_grammar) {
    onFirstShown("check", () => openCheck(model.most_characters));
    onFirstShown("words", () => openWords(model.most_characters));
    showTabs();
    showHeatMap();
  } else {
    hideTabs();
  }
  openWrite(model, streamEvents, makeInspector(model.has_grammar), "?");
}

makeFields();
byId("generate").disabled = true;
openPage();
