// The summary of the form, with the start button.

import { chipName } from "../../chips.js";
import { h, icon, setText } from "../../dom.js";
import { formatNumber, formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";

export function summarySection() {
  const model = h("dd", {});
  const chip = h("dd", {});
  const identity = h("dd", { class: "mono" });
  const references = h("dd", {});
  const size = h("dd", {});
  const label = h("span", {});
  const start = h("button", { class: "button large wide", type: "submit", id: "start" }, icon("convert"), label);
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
    start,
    note,
  );
  return {
    element,
    update(form, isChecking) {
      setText(model, form.model?.name ?? t("summary.no_model"));
      model.classList.toggle("missing", !form.model);
      setText(chip, chipName(form.platform));
      setText(identity, `${form.modelId.trim() || "–"} · ${form.version.trim() || "–"}`);
      setText(
        references,
        form.references.length > 0 ? formatNumber(form.references.length, language()) : t("summary.none"),
      );
      setText(size, form.size > 0 ? formatSize(form.size, language()) : "–");
      setText(label, t(isChecking ? "summary.checking" : "summary.start"));
      start.classList.toggle("busy", isChecking);
      start.setAttribute("aria-disabled", String(isChecking));
      setText(note, t(isChecking ? "summary.checking.text" : "summary.note"));
    },
  };
}
