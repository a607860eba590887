// The columns that the history and the library share. Their widths are in lists.css. On a wide page the names of the
// columns are above the list; on others they are beside the values.

import { h } from "../dom.js";
import { formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { ago, chipBadge } from "./pieces.js";

/** Return the names of the columns. Screen readers get them in each row. */
export function columnHeads(columns, { name, time, status = null }) {
  const names = [name, ...detailNames(), time, status, ""].filter((text) => text !== null);
  return h(
    "div",
    { class: `row-heads ${columns}`, "aria-hidden": "true" },
    names.map((text) => h("span", {}, text)),
  );
}

const detailNames = () => [t("list.platform"), t("list.model_id"), t("list.version"), t("list.size")];

export function detailCells({ platform, modelId, version, size }) {
  const values = [
    chipBadge(platform),
    modelId ?? "–",
    version ?? "–",
    Number.isFinite(size) ? formatSize(size, language()) : "–",
  ];
  const names = detailNames();
  return h(
    "dl",
    { class: "cells" },
    values.map((value, index) => h("div", {}, h("dt", {}, names[index]), h("dd", {}, value))),
  );
}

export function timeCell(name, moment) {
  return h("div", { class: "row-time" }, h("span", { class: "row-label" }, name), ago(moment));
}
