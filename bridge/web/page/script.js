// The page: opens the tabs that the model has. No framework.

import { byId, showError } from "./elements.js";
import { openCheck } from "./check.js";
import { makeFields, setLargest } from "./fields.js";
import { UNREACHABLE, fetchModel } from "./requests.js";
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
  showName(model);
  setLargest("max_new_tokens", model.most_tokens);
  if (model.has_grammar) {
    onFirstShown("check", () => openCheck(model.most_characters));
    onFirstShown("words", () => openWords(model.most_characters));
    showTabs();
  } else {
    hideTabs();
  }
  openWrite(model);
}

function showName(model) {
  const format = (count) => count.toLocaleString("en");
  const name = model.has_grammar ? "High Valyrian" : model.name;
  const run = model.has_grammar ? `${model.name}: ` : "";
  byId("name").textContent = name;
  document.title = `${name} · valyrian-gpt`;
  document.body.classList.toggle("other-language", !model.has_grammar);
  byId("model").textContent =
    `${run}${format(model.parameters)} parameters, blocks ${model.layers}, heads ${model.heads}, ` +
    `width ${model.width}, context ${model.context}, vocabulary ${format(model.vocabulary)}`;
}

makeFields();
byId("generate").disabled = true;
openPage();
