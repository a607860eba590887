// The summary of the form, with the start button.

import { chipName } from "../../chips.js";
import { h, icon, setText } from "../../dom.js";
import { formatNumber, formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { nodeCounts, verdictBadge } from "../advice.js";
import { cutName } from "../pieces.js";
import { button } from "../problem.js";
import { usualTime } from "../usual.js";

/** Return the summary. `showCurl` shows the same conversion as curl commands. */
export function summarySection(showCurl) {
  const model = h("dd", {});
  const chip = h("dd", {});
  const identity = h("dd", { class: "mono" });
  const references = h("dd", {});
  const size = h("dd", {});
  const label = h("span", {});
  let shownModel;
  const advice = adviceArea();
  const start = h(
    "button",
    { class: "button large wide", type: "submit", id: "start", "aria-describedby": "summary-advice" },
    icon("convert"),
    label,
  );
  const note = h("p", { class: "quiet-text center" });
  const row = (name, value) => h("div", {}, h("dt", {}, t(name)), value);
  const element = h(
    "aside",
    { class: "panel summary", "aria-labelledby": "summary-title" },
    h("h2", { id: "summary-title" }, t("summary.title")),
    h(
      "dl",
      {},
      row("form.model", model),
      row("form.chip", chip),
      row("summary.identity", identity),
      row("form.references", references),
      row("summary.size", size),
    ),
    advice.element,
    start,
    note,
    button(t("curl.open"), { symbol: "copy", kind: "plain small", run: showCurl, id: "curl" }),
  );
  return {
    element,
    update(form, isChecking) {
      if (form.model !== shownModel) {
        shownModel = form.model;
        model.replaceChildren(form.model ? cutName(form.model.name) : t("summary.no_model"));
        model.classList.toggle("missing", !form.model);
      }
      setText(chip, chipName(form.platform));
      setText(identity, `${form.modelId.trim() || "–"} · ${form.version.trim() || "–"}`);
      setText(
        references,
        form.references.length > 0 ? formatNumber(form.references.length, language()) : t("summary.none"),
      );
      setText(size, form.size > 0 ? formatSize(form.size, language()) : "–");
      advice.update(form);
      setText(label, t(isChecking ? "summary.checking" : "summary.start"));
      start.classList.toggle("busy", isChecking);
      start.setAttribute("aria-disabled", String(isChecking));
      setText(note, t(isChecking ? "summary.checking.text" : "summary.note"));
    },
  };
}

/** What to know about the model on the chosen chip. It never keeps anybody from starting. */
function adviceArea() {
  const element = h("div", { class: "summary-advice", id: "summary-advice", hidden: true });
  let shown;

  function update({ model, inspection, chipAdvice, platform }) {
    const state = [model, inspection, platform];
    if (shown?.every((value, index) => value === state[index])) return;
    shown = state;
    element.hidden = !model || Boolean(inspection && !chipAdvice);
    element.replaceChildren(...(chipAdvice ? adviceOf(chipAdvice, inspection.advice.recommended, platform) : []));
  }

  return { element, update };
}

function adviceOf(chip, recommended, platform) {
  const isOther = recommended !== null && recommended !== platform;
  const notes = [
    isOther && t("job.advice.better", { chip: chipName(recommended) }),
    usualTime(chip.usual_time),
  ].filter(Boolean);
  return [
    h("p", {}, verdictBadge(chip.verdict)),
    h("p", { class: "worst" }, chip.findings[0]?.text ?? nodeCounts(chip)),
    h("p", { class: "quiet-text" }, notes.join(" · ")),
  ];
}
