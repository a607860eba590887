// Part 2 of the form: the chip, and how the model fits each one.

import { CHIPS, chipName } from "../../chips.js";
import { h, icon } from "../../dom.js";
import { t } from "../../i18n.js";
import { copyAdviceButton, findingsList, nodeBar, nodeCounts, verdictBadge } from "../advice.js";
import { usualTime } from "../usual.js";

export function chipSection(form, changed) {
  const rows = CHIPS.map((id) => chipRow(id, form, changed));
  const table = h(
    "table",
    { class: "chips" },
    h("caption", { class: "unseen" }, t("form.chip.table")),
    h(
      "tbody",
      {},
      rows.map((row) => row.elements),
    ),
  );
  const element = h(
    "fieldset",
    { class: "panel", "aria-describedby": "chips-hint" },
    h("legend", {}, h("span", { class: "step-number", "aria-hidden": "true" }, "2"), t("form.chip")),
    h("p", { class: "quiet-text", id: "chips-hint" }, t("form.chip.text")),
    table,
  );
  let shown;

  function update() {
    const state = [form.model, form.inspection];
    if (shown?.every((value, index) => value === state[index])) return;
    shown = state;
    const isReading = Boolean(form.model) && !form.inspection;
    // The rows reserve the space of the advice from the moment at which the model is chosen.
    table.classList.toggle("with-advice", isReading || Boolean(form.inspection?.advice));
    table.setAttribute("aria-busy", String(isReading));
    for (const row of rows) row.show(form.inspection?.advice ?? null, isReading);
  }

  return { element, update };
}

function chipRow(id, form, changed) {
  const input = h("input", {
    type: "radio",
    name: "platform",
    id: `platform-${id}`,
    value: id,
    checked: form.platform === id,
    dataset: { field: "platform" },
    "aria-label": chipName(id),
    "aria-describedby": `chip-${id}`,
    on: {
      change: () => {
        form.platform = id;
        changed();
      },
    },
  });
  const cell = h("td", {});
  const details = h("td", { colspan: 2 });
  const detailsRow = h("tr", { class: "chip-details", id: `chip-details-${id}`, hidden: true }, details);
  const name = h(
    "label",
    { class: "chip-name" },
    input,
    h("span", { class: "chip-mark", "aria-hidden": "true" }, icon("check")),
    h("strong", {}, chipName(id)),
  );
  const row = h("tr", { class: "chip" }, h("th", { scope: "row" }, name), cell);

  function show(advice, isReading) {
    const chip = advice?.chips[id];
    detailsRow.hidden = true;
    details.replaceChildren(...(chip ? detailsOf(id, chip, form.model.name) : []));
    if (chip) cell.replaceChildren(summaryOf(id, chip, advice.recommended === id), disclosure(id, detailsRow));
    else if (isReading) cell.replaceChildren(h("div", { class: "bone" }), h("div", { class: "bone short" }));
    else cell.replaceChildren(h("label", { id: `chip-${id}`, for: input.id }, t(`chip.${id}`)));
  }

  return { elements: [row, detailsRow], show };
}

function summaryOf(id, chip, isRecommended) {
  const usual = usualTime(chip.usual_time);
  return h(
    "div",
    { class: "chip-advice", id: `chip-${id}` },
    h(
      "p",
      { class: "chip-head" },
      verdictBadge(chip.verdict),
      isRecommended && h("span", { class: "recommended" }, t("form.chip.recommended")),
      usual && h("span", { class: "quiet-text" }, usual),
    ),
    nodeBar(chip),
    h("p", { class: "quiet-text" }, nodeCounts(chip)),
    h("p", { class: "worst" }, chip.findings[0]?.text ?? t("form.chip.no_findings")),
  );
}

/** Return a button that covers the whole cell, and opens the findings below the row. */
function disclosure(id, row) {
  const button = h(
    "button",
    {
      class: "icon-button disclosure",
      type: "button",
      "aria-expanded": "false",
      "aria-controls": row.id,
      "aria-label": t("form.chip.details", { chip: chipName(id) }),
      on: {
        click: () => {
          row.hidden = !row.hidden;
          button.setAttribute("aria-expanded", String(!row.hidden));
        },
      },
    },
    icon("right"),
  );
  return button;
}

function detailsOf(id, chip, filename) {
  const findings =
    chip.findings.length > 0
      ? findingsList(chip.findings)
      : h("p", { class: "quiet-text" }, t("form.chip.no_findings"));
  const title = t("job.advice.of", { name: filename, chip: chipName(id) });
  return [findings, h("div", { class: "actions" }, copyAdviceButton(title, chip, findings))];
}
