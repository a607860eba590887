// Part 1 of the form: the model, and what it is.

import { announce } from "../../announcer.js";
import { chipName } from "../../chips.js";
import { h, icon, setText } from "../../dom.js";
import { formatNumber, formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { inspectModel } from "../../inspection.js";
import { hasPicker, pickModel } from "../../model_handles.js";
import { shortName } from "../../names.js";
import { verdictName } from "../advice.js";
import { reopenArea } from "./reopen.js";
import { cutName } from "../pieces.js";
import { button } from "../problem.js";
import { choiceNote } from "./choice_note.js";
import { errorValues } from "./references.js";

const MODEL_TYPES = ".onnx,.tflite";
const SHOWN_TENSORS = 4;
const SHOWN_OPERATORS = 8;
const FORMATS = { onnx: "ONNX", tflite: "TensorFlow Lite", hdf5: "HDF5", pytorch: "PyTorch" };

export function modelSection({ form, handles }, changed) {
  const input = h("input", {
    type: "file",
    id: "model",
    class: "unseen",
    accept: MODEL_TYPES,
    dataset: { field: "model" },
    "aria-describedby": "model-error model-hint",
    on: {
      click: (event) => {
        if (!hasPicker()) return;
        event.preventDefault();
        pick();
      },
      change: () => {
        if (input.files[0]) choose(input.files[0]);
        // Reset the input, so that the same file can be chosen again after a change.
        input.value = "";
      },
    },
  });
  const area = h("div", { class: "model-area" });
  const reopen = reopenArea(form, handles, choose);
  const error = h("p", { class: "error", id: "model-error" });
  const note = h("div", {});
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "model-title" },
    h("h2", { id: "model-title" }, h("span", { class: "step-number", "aria-hidden": "true" }, "1"), t("form.model")),
    input,
    area,
    reopen.element,
    error,
    note,
  );
  let shown;
  let reading = new AbortController();

  async function pick() {
    const file = await pickModel();
    if (file) choose(file);
  }

  /** `path` begins with the name of the folder that was dropped. */
  async function choose(file, path) {
    const isNew = file !== form.model;
    stop();
    if (isNew) handles.remember(file, path);
    const { signal } = (reading = new AbortController());
    form.choose(file);
    note.replaceChildren();
    changed();
    try {
      const inspection = await inspectModel(file, signal);
      // The last step may have been over before the abort.
      if (signal.aborted) return;
      form.inspection = inspection;
      changed();
      announce(spoken(form));
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  function stop() {
    reading.abort();
  }

  function remove() {
    stop();
    form.removeModel();
    note.replaceChildren();
    changed();
    input.focus();
  }

  /** The network is back: check the model if that was not possible before. */
  function inspectAgain() {
    if (form.model && form.inspection?.isRetryable) choose(form.model);
  }

  function update() {
    const textKey = form.touched.has("model") && form.errors.model;
    setText(error, textKey ? t(textKey, errorValues(form)) : "");
    input.setAttribute("aria-invalid", String(Boolean(textKey)));
    element.classList.toggle("wrong", Boolean(textKey));
    reopen.update();
    const state = [form.model, form.inspection, form.expected];
    if (shown?.every((value, index) => value === state[index])) return;
    shown = state;
    area.replaceChildren(form.model ? fileCard(form, { remove, inspect: inspectAgain }) : dropZone(form));
  }

  /** Name files that were dropped and not taken. */
  function tell(ignored) {
    note.replaceChildren(...[choiceNote({ ignored }, closeNote)].filter(Boolean));
    if (ignored.length > 0) announce(t("choice.ignored", { n: ignored.length }));
  }

  function closeNote() {
    note.replaceChildren();
    input.focus();
  }

  window.addEventListener("online", inspectAgain);
  return {
    element,
    choose,
    tell,
    update,
    destroy() {
      stop();
      window.removeEventListener("online", inspectAgain);
    },
  };
}

function dropZone(form) {
  return h(
    "label",
    { class: "drop", for: "model" },
    h("span", { class: "drop-icon" }, icon("upload")),
    h("strong", {}, t("form.model.drop")),
    h("span", { class: "quiet-text", id: "model-hint" }, t("form.model.hint")),
    form.expected && h("span", { class: "lost" }, t("form.model.again", { name: shortName(form.expected.name) })),
  );
}

function fileCard(form, { remove, inspect }) {
  const { model, inspection } = form;
  return h(
    "div",
    {},
    h(
      "div",
      { class: "file-card", "aria-busy": String(!inspection) },
      h("span", { class: "file-icon" }, icon("file")),
      h(
        "div",
        { class: "file-text" },
        h("strong", { class: "file-name" }, cutName(model.name)),
        h(
          "ul",
          { class: "facts", id: "model-hint" },
          factsOf(model, inspection).map((fact) => h("li", {}, fact)),
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
    // About an empty file, the section has an error.
    model.size > 0 && (inspection?.reason ? reasonOf(inspection, inspect) : structure(inspection?.advice ?? null)),
  );
}

/** Return why there is no advice, with a button if another try can help. */
function reasonOf({ reason, isRetryable }, inspect) {
  const again = isRetryable && button(t("retry"), { kind: "quiet small", run: inspect });
  return h("div", { class: "advice warn" }, icon("alert"), h("span", {}, reason), again);
}

function factsOf(model, inspection) {
  const size = formatSize(model.size, language());
  if (model.size === 0) return [size];
  if (!inspection) return [size, t("form.model.reading")];
  const { format, advice } = inspection;
  return [
    size,
    FORMATS[format] ?? t("form.model.unknown_format"),
    Number.isInteger(advice?.opset) && t("form.model.opset", { opset: formatNumber(advice.opset, language()) }),
  ].filter(Boolean);
}

/** Return what the model consists of. Without advice, the list reserves its space. */
function structure(advice) {
  const row = (name, text) => h("div", {}, h("dt", {}, t(name)), h("dd", { title: text }, text));
  const compact = { notation: "compact", maximumFractionDigits: 1 };
  return h(
    "dl",
    { class: "structure" },
    row("form.model.inputs", advice && shortened(advice.inputs.map(tensor), SHOWN_TENSORS)),
    row("form.model.outputs", advice && shortened(advice.outputs.map(tensor), SHOWN_TENSORS)),
    row("form.model.operators", advice && shortened(operators(advice.operators), SHOWN_OPERATORS)),
    row("form.model.parameters", advice && (advice.parameters === null ? "–" : formatNumber(advice.parameters, language(), compact))),
    row("form.model.producer", advice && (advice.producer || "–")),
  );
}

/** Return `images float32 1×3×?×640`. */
function tensor({ name, element_type: type, shape }) {
  const sizes = shape?.map((size) => (size === null ? "?" : String(size))).join("×");
  return [name || t("advice.unnamed"), type, sizes].filter(Boolean).join(" ");
}

function operators(counts) {
  const sorted = Object.entries(counts).sort(([, one], [, other]) => other - one);
  return sorted.map(([name, count]) => `${name} ${formatNumber(count, language())}`);
}

function shortened(items, shown) {
  if (items.length === 0) return t("form.model.none");
  const more = items.length - shown;
  return [
    ...items.slice(0, shown),
    ...(more > 0 ? [t("advice.more", { count: formatNumber(more, language()) })] : []),
  ].join(" · ");
}

/** Return what screen readers say after the inspection. */
function spoken({ inspection: { advice, reason }, chipAdvice, platform }) {
  if (reason) return reason;
  const best = advice.recommended;
  return [
    chipAdvice && `${chipName(platform)}${t("advice.colon")}${verdictName(chipAdvice.verdict)}`,
    best && t("form.chip.recommends", { chip: chipName(best) }),
  ]
    .filter(Boolean)
    .join(t("advice.separator"));
}
