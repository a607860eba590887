// Part 1 of the form: the model, facts read from it, and advice.

import { CHIPS, OPSETS } from "../../chips.js";
import { h, icon, setText } from "../../dom.js";
import { formatNumber, formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { inspectModel } from "../../model_file.js";

const MODEL_TYPES = ".onnx,.tflite";

export function modelSection(form, changed, onChosen) {
  const input = h("input", {
    type: "file",
    id: "model",
    class: "unseen",
    accept: MODEL_TYPES,
    dataset: { field: "model" },
    "aria-describedby": "model-error model-hint",
    on: {
      change: () => {
        if (input.files[0]) choose(input.files[0]);
        // Reset the input, so that the same file can be chosen again after a change.
        input.value = "";
      },
    },
  });
  const area = h("div", { class: "model-area" });
  const error = h("p", { class: "error", id: "model-error" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "model-title" },
    h("h2", { id: "model-title" }, h("span", { class: "step-number", "aria-hidden": "true" }, "1"), t("form.model")),
    input,
    area,
    error,
  );
  let shown;

  async function choose(file) {
    const isNew = file !== form.model;
    form.model = file;
    form.facts = null;
    form.lostModel = null;
    form.touched.add("model");
    changed();
    if (isNew) onChosen();
    const facts = await inspectModel(file);
    if (form.model !== file) return;
    form.facts = facts;
    changed();
  }

  function remove() {
    form.model = null;
    form.facts = null;
    changed();
    input.focus();
  }

  function update() {
    const textKey = form.touched.has("model") && form.errors.model;
    setText(error, textKey ? t(textKey) : "");
    input.setAttribute("aria-invalid", String(Boolean(textKey)));
    element.classList.toggle("wrong", Boolean(textKey));
    const state = [form.model, form.facts, form.lostModel, form.platform];
    if (shown?.every((value, index) => value === state[index])) return;
    shown = state;
    area.replaceChildren(form.model ? fileCard(form, remove) : dropZone(form));
  }

  return { element, choose, update };
}

function dropZone(form) {
  return h(
    "label",
    { class: "drop", for: "model" },
    h("span", { class: "drop-icon" }, icon("upload")),
    h("strong", {}, t("form.model.drop")),
    h("span", { class: "quiet-text", id: "model-hint" }, t("form.model.hint")),
    form.lostModel && h("span", { class: "lost" }, t("form.model.lost", { name: form.lostModel })),
  );
}

function fileCard(form, remove) {
  const { model, facts } = form;
  return h(
    "div",
    {},
    h(
      "div",
      { class: "file-card" },
      h("span", { class: "file-icon" }, icon("file")),
      h(
        "div",
        { class: "file-text" },
        h("strong", { class: "file-name", title: model.name }, model.name),
        h(
          "ul",
          { class: "facts", id: "model-hint" },
          factsOf(model, facts).map((fact) => h("li", {}, fact)),
        ),
      ),
      h(
        "div",
        { class: "file-actions" },
        h("label", { class: "button quiet small", for: "model" }, t("form.model.replace")),
        h(
          "button",
          { class: "icon-button", type: "button", "aria-label": t("form.model.remove"), on: { click: remove } },
          icon("cross"),
        ),
      ),
    ),
    adviceOn(form).map(({ text, isWarning }) =>
      h("p", { class: isWarning ? "advice warn" : "advice" }, icon(isWarning ? "alert" : "info"), h("span", {}, text)),
    ),
  );
}

function factsOf(model, facts) {
  const size = formatSize(model.size, language());
  if (!facts) return [size, t("form.model.reading")];
  if (facts.format === "unreadable") return [size];
  const format = { onnx: "ONNX", tflite: "TensorFlow Lite" }[facts.format] ?? t("form.model.unknown_format");
  return [
    size,
    format,
    facts.opset !== null && t("form.model.opset", { opset: formatNumber(facts.opset, language()) }),
    facts.producer && t("form.model.producer", { producer: facts.producer }),
  ].filter(Boolean);
}

function adviceOn({ facts, platform }) {
  if (!facts) return [];
  const advice = [];
  const warn = (text) => advice.push({ text, isWarning: true });
  const { format, claims, opset } = facts;
  if (format === "unreadable") warn(t("problem.file_changed.detail"));
  if (format === "unknown") warn(t(claims ? "form.advice.not_what_it_says" : "form.advice.unknown"));
  if (opset !== null && (opset < OPSETS.from || opset > OPSETS.to)) {
    warn(t("form.advice.opset", { opset, from: OPSETS.from, to: OPSETS.to }));
  } else if (opset > OPSETS.legacyTo && CHIPS.find((chip) => chip.id === platform)?.hasLegacy) {
    // Not a warning: it matters only to users of the legacy environment.
    advice.push({ text: t("form.advice.legacy", { opset, to: OPSETS.legacyTo }), isWarning: false });
  }
  return advice;
}
