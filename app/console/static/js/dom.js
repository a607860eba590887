// Create elements. Text is always inserted as text and never as markup, so names of files and models are harmless.

const SVG = "http://www.w3.org/2000/svg";

/** Create an element from attributes, `on` (listeners) and `dataset`. Children are elements, texts or nothing. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Create a decorative icon from the page's sprite. Its meaning must be in a text or label beside it. */
export function icon(name, extra = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon ${extra}`.trim());
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Set a text if it differs, because a live region would announce the same text again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Focus an element without adding it to the Tab order. */
export function focusOn(element) {
  if (!element) return;
  if (!element.matches("a[href], button, input, [tabindex]")) element.setAttribute("tabindex", "-1");
  element.focus({ preventScroll: false });
}
