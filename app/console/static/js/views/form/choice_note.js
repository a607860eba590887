// What was not taken of a choice, and why.

import { h, icon } from "../../dom.js";
import { t } from "../../i18n.js";

/** A note names so many files at once, and folds more. */
const MOST_OPEN = 5;

/** Return the note. `ignored` has `{path, reason}`, and `duplicates` maps images to earlier ones with the same content. */
export function choiceNote({ ignored = [], duplicates = new Map() }, close) {
  const names = ignored.map(({ path, reason }) => [path, t(`choice.reason.${reason}`)]);
  const others = [...duplicates].map(([{ path }, other]) => [path, t("choice.duplicate", { name: other.path })]);
  if (names.length + others.length === 0) return null;
  return h(
    "div",
    { class: "choice-note" },
    icon("info"),
    h(
      "div",
      {},
      names.length > 0 && folded(t("choice.ignored", { n: names.length }), names),
      ignored.some(({ reason }) => reason === "external") && h("p", {}, t("choice.external")),
      others.length > 0 && folded(t("choice.duplicates", { n: others.length }), others),
    ),
    h("button", { class: "icon-button", type: "button", "aria-label": t("dialog.close"), on: { click: close } }, icon("cross")),
  );
}

/** Return a summary with the rows. A long list is made when it is opened, because a folder can have any number of files. */
function folded(summary, rows) {
  const isShort = rows.length <= MOST_OPEN;
  const list = h("ul", {});
  const fill = () =>
    list.replaceChildren(...rows.map(([name, reason]) => h("li", {}, h("span", { class: "choice-name" }, name), ` · ${reason}`)));
  if (isShort) fill();
  return h("details", { open: isShort, on: { toggle: fill } }, h("summary", {}, summary), list);
}
