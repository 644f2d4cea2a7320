// Makes the elements of the page, and formats the numbers in them.

export const byId = (id) => document.getElementById(id);

export function makeElement(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

export const makeSpan = (className, content) => makeElement("span", className, content);

export function makeHeader(scope, content) {
  const header = makeElement("th", "", content);
  header.scope = scope;
  return header;
}

export function makeButton(label, onClick) {
  const button = makeElement("button", "", label);
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
}

export const countThings = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export function formatPercent(fraction) {
  return fraction >= 0.001 || fraction === 0 ? `${(100 * fraction).toFixed(1)}%` : "<0.1%";
}

// Returns the name of a token on the page.
export const nameToken = (label) => (label === "<|endoftext|>" ? "end" : label);

export function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = false;
}

export function hideError() {
  byId("error").hidden = true;
}

// Fades the edges of a scroller on the sides where its content continues.
export function fadeCutSides(scroller) {
  const mark = () => {
    const rest = scroller.scrollWidth - scroller.clientWidth - scroller.scrollLeft;
    scroller.classList.toggle("cut-left", scroller.scrollLeft > 1);
    scroller.classList.toggle("cut-right", rest > 1);
  };
  const observer = new ResizeObserver(mark);
  for (const element of [scroller, ...scroller.children]) observer.observe(element);
  scroller.addEventListener("scroll", mark);
}

// Fills a group with a button for each example, which passes it to `onChoose`.
export function showChips(id, examples, onChoose) {
  byId(id).replaceChildren(
    ...examples.map((example) => {
      const chip = makeButton(example || "a new document", () => onChoose(example));
      if (example) chip.lang = "und";
      return chip;
    }),
  );
}

// Lets the arrow keys, Home and End move between elements of a container, so that only one of them
// is in the tab order. If they form a grid, `columns` is their number in a row.
export function makeRoving(container, selector, columns) {
  const list = () => [...container.querySelectorAll(selector)];
  container.addEventListener("focusin", ({ target }) => {
    if (!target.matches(selector)) return;
    for (const element of list()) element.tabIndex = element === target ? 0 : -1;
  });
  container.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !event.target.matches(selector)) return;
    const elements = list(), index = elements.indexOf(event.target), last = elements.length - 1;
    const targets = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: last };
    if (columns) Object.assign(targets, { ArrowDown: index + columns, ArrowUp: index - columns });
    if (!(event.key in targets)) return;
    elements[targets[event.key]]?.focus();
    event.preventDefault();
  });
}
