// Making elements. Text always goes in as text, never as markup, so that no name of a file or model can do anything.

const SVG = "http://www.w3.org/2000/svg";

/** An element: properties by attribute name, `on` for listeners, `dataset`; children are elements, texts or nothing. */
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

/** An icon of the page's sprite. It is for the eye only: what it means stands beside it or in a label. */
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

/** Change a text only if it is another one: a live region would read the same sentence again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Move the focus to where something new begins, without making it a stop of the Tab key. */
export function focusOn(element) {
  if (!element) return;
  if (!element.matches("a[href], button, input, [tabindex]")) element.setAttribute("tabindex", "-1");
  element.focus({ preventScroll: false });
}
