// Small elements that several views use.

import { chipName } from "../chips.js";
import { h, icon } from "../dom.js";
import { formatAgo, formatMoment } from "../format.js";
import { language, t } from "../i18n.js";
import { splitName } from "../names.js";

const STATUS_ICONS = { queued: "clock", running: "convert", completed: "check", failed: "cross", cancelled: "minus" };

export function statusPill(status) {
  const known = status in STATUS_ICONS ? status : "running";
  return h("span", { class: `pill ${known}` }, icon(STATUS_ICONS[known]), h("span", {}, t(`status.${known}`)));
}

/**
 * Return a name on one line, cut in the middle if it doesn't fit. Copying it gives the whole name, which is also what
 * screen readers say and what the pointer shows.
 */
export function cutName(name) {
  const { start, end, endWidth } = splitName(name);
  if (!end) return h("span", { class: "name", title: name }, name);
  const element = h(
    "span",
    { class: "name cut", title: name },
    h("span", { class: "unseen" }, name),
    h("span", { class: "name-start", "aria-hidden": "true" }, start),
    h("span", { class: "name-end", "aria-hidden": "true" }, end),
  );
  element.style.setProperty("--end", `${endWidth}em`);
  return element;
}

export function chipBadge(platform) {
  return h("span", { class: "badge" }, icon("chip"), chipName(platform));
}

/** Return a relative time, with the exact time as a tooltip. */
export function ago(moment, now = Date.now()) {
  if (!moment) return h("span", {}, "–");
  const full = formatMoment(moment, language());
  return h("time", { datetime: moment, title: full }, formatAgo(moment, now, language()));
}

export function pageHead(title, text, ...more) {
  return h("header", { class: "page-head" }, h("div", {}, h("h1", {}, title), text && h("p", {}, text)), ...more);
}

export function emptyState({ symbol, title, text, action }) {
  return h(
    "div",
    { class: "panel empty" },
    h("div", { class: "medal" }, icon(symbol)),
    h("h2", {}, title),
    h("p", {}, text),
    action,
  );
}

/** Return placeholders for rows that are loading, so that the layout doesn't jump. `head` is above the rows, or null. */
export function skeletonRows(count, head = null) {
  const row = () => h("li", { class: "row" }, h("div", { class: "bone" }), h("div", { class: "bone short" }));
  const rows = h("ul", {}, Array.from({ length: count }, row));
  return h("div", { class: "panel table skeleton", "aria-hidden": "true" }, head, rows);
}
