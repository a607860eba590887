// The form of a conversion: model, chip, identity, reference images, and a summary that starts it.

import { CHIPS, OPSETS, chipName } from "../chips.js";
import { h, icon, setText } from "../dom.js";
import { formatNumber, formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { inspectModel } from "../model_file.js";
import { FILE_CHANGED } from "../problems.js";
import { pageHead } from "./pieces.js";
import { button, problemPanel } from "./problem.js";

const MODEL_TYPES = ".onnx,.tflite";
const IMAGE = /\.(png|jpe?g|bmp|gif|webp|tiff?|npy|bin)$/i;
const SHOWN_REFERENCES = 5;

export function conversionForm({ conversion, session }) {
  const { form } = conversion;
  const problemPlace = h("div", { class: "problem-place" });
  const model = modelSection(form, changed, chosenAgain);
  const chips = chipSection(form, changed);
  const identity = identitySection(form, changed);
  const references = referenceSection(form, changed, chosenAgain);
  const summary = summarySection();
  const element = h(
    "div",
    { class: "page" },
    pageHead(t("convert.title"), t("convert.lead")),
    problemPlace,
    h(
      "form",
      { class: "split", novalidate: true, "aria-label": t("convert.title"), on: { submit } },
      h("div", { class: "column" }, model.element, chips.element, identity.element, references.element),
      summary.element,
    ),
  );
  const stopDropping = takeDrops(element, (files) => {
    const images = files.filter((file) => IMAGE.test(file.name));
    const others = files.filter((file) => !images.includes(file));
    if (others[0]) model.choose(others[0]);
    if (images.length > 0) references.add(images);
  });

  let shownProblem = null;

  function changed() {
    form.keep();
    update();
  }

  /** A file that had changed on disk was what the problem was about; it has been answered. */
  function chosenAgain() {
    if (conversion.problem?.code === FILE_CHANGED) conversion.dismissProblem();
  }

  function update() {
    const isChecking = conversion.phase === "checking";
    model.update();
    identity.update();
    references.update();
    summary.update(form, isChecking);
    if (conversion.problem !== shownProblem) {
      shownProblem = conversion.problem;
      if (shownProblem?.code === "unauthenticated") {
        // The notice says it already, with the way out; nothing is wrong with the form.
        document.querySelector("#session-notice a")?.focus();
        return;
      }
      problemPlace.replaceChildren(...(shownProblem ? [problemPanel(shownProblem, helpFor(shownProblem))] : []));
      if (shownProblem) problemPlace.scrollIntoView({ block: "nearest" });
    }
  }

  function submit(event) {
    event.preventDefault();
    send();
  }

  function send() {
    if (session.state === "other") {
      // The conversion would be somebody else's; the notice says so, and leads on.
      document.querySelector("#session-notice button")?.focus();
      return;
    }
    for (const field of ["model", "platform", "modelId", "version"]) form.touched.add(field);
    update();
    const [first] = Object.keys(form.mistakes);
    if (first) element.querySelector(`[data-field="${first}"]`)?.focus();
    else conversion.start();
  }

  function helpFor(problem) {
    if (problem.code === FILE_CHANGED) {
      const [symbol, text, input] = problem.document.isModel
        ? ["file", "form.model.choose_again", "model"]
        : ["image", "form.references.add", "references"];
      return [button(t(text), { symbol, run: () => document.getElementById(input).click() })];
    }
    const job = problem.document?.active_job;
    if (job) {
      return [button(t("convert.show_running"), { symbol: "right", run: () => conversion.follow(job) })];
    }
    if (problem.code === "upload_outcome_unknown" || problem.code === "active_job_conflict") {
      return [button(t("convert.look"), { symbol: "history", run: () => conversion.look() })];
    }
    if (problem.code === "unauthenticated" || !problem.retryable || !form.model) return [];
    return [button(t("retry"), { kind: "quiet", run: send })];
  }

  update();
  if (form.model && !form.facts) model.choose(form.model);
  return {
    element,
    update,
    destroy: stopDropping,
    focus: () => (problemPlace.querySelector("button") ?? model.element.querySelector("input, button")).focus(),
  };
}

// -- The model --------------------------------------------------------------------------------------------------------

function modelSection(form, changed, onChosen) {
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
        // The same file, changed on disk, can be chosen again.
        input.value = "";
      },
    },
  });
  const place = h("div", { class: "model-place" });
  const error = h("p", { class: "error", id: "model-error" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "model-title" },
    h("h2", { id: "model-title" }, h("span", { class: "step-number", "aria-hidden": "true" }, "1"), t("form.model")),
    input,
    place,
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
    const mistake = form.touched.has("model") && form.mistakes.model;
    setText(error, mistake ? t(mistake) : "");
    input.setAttribute("aria-invalid", String(Boolean(mistake)));
    element.classList.toggle("wrong", Boolean(mistake));
    const state = [form.model, form.facts, form.lostModel, form.platform];
    if (shown?.every((value, index) => value === state[index])) return;
    shown = state;
    place.replaceChildren(form.model ? fileCard(form, remove) : dropZone(form));
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
    // No fault: only those who use the older environment have to know.
    advice.push({ text: t("form.advice.legacy", { opset, to: OPSETS.legacyTo }), isWarning: false });
  }
  return advice;
}

// -- The chip ---------------------------------------------------------------------------------------------------------

function chipSection(form, changed) {
  const element = h(
    "fieldset",
    { class: "panel", "aria-describedby": "chips-hint" },
    h("legend", {}, h("span", { class: "step-number", "aria-hidden": "true" }, "2"), t("form.chip")),
    h("p", { class: "quiet-text", id: "chips-hint" }, t("form.chip.text")),
    h(
      "div",
      { class: "chips" },
      CHIPS.map(({ id }) =>
        h(
          "label",
          { class: "chip" },
          h("input", {
            type: "radio",
            name: "platform",
            value: id,
            checked: form.platform === id,
            dataset: { field: "platform" },
            "aria-describedby": `chip-${id}`,
            on: {
              change: () => {
                form.platform = id;
                changed();
              },
            },
          }),
          h("span", { class: "chip-mark", "aria-hidden": "true" }, icon("check")),
          h(
            "span",
            { class: "chip-text" },
            h("strong", {}, chipName(id)),
            h("span", { id: `chip-${id}` }, t(`chip.${id}`)),
          ),
        ),
      ),
    ),
  );
  return { element };
}

// -- Model id and version ---------------------------------------------------------------------------------------------

function identitySection(form, changed) {
  const id = textField(form, "modelId", {
    label: t("form.id"),
    hint: t("form.id.hint"),
    inputmode: "numeric",
    maxlength: 9,
    changed,
  });
  const version = textField(form, "version", {
    label: t("form.version"),
    hint: t("form.version.hint"),
    maxlength: 4,
    changed,
  });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "identity-title" },
    h(
      "h2",
      { id: "identity-title" },
      h("span", { class: "step-number", "aria-hidden": "true" }, "3"),
      t("form.identity"),
    ),
    h("p", { class: "quiet-text" }, t("form.identity.text")),
    h("div", { class: "fields" }, id.element, version.element),
  );
  return {
    element,
    update() {
      id.update();
      version.update();
    },
  };
}

function textField(form, name, { label, hint, changed, ...attributes }) {
  const input = h("input", {
    id: name,
    class: "input",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    value: form[name],
    dataset: { field: name },
    "aria-describedby": `${name}-error ${name}-hint`,
    on: {
      input: () => {
        form[name] = input.value;
        changed();
      },
      blur: () => {
        form.touched.add(name);
        changed();
      },
    },
    ...attributes,
  });
  const hintText = h("p", { class: "hint", id: `${name}-hint` }, hint);
  const error = h("p", { class: "error", id: `${name}-error` });
  return {
    element: h("div", { class: "field" }, h("label", { for: name }, label), input, error, hintText),
    update() {
      // Nobody is told off for a number of which only the first digits stand there.
      const mistake = form.touched.has(name) && form.mistakes[name];
      setText(error, mistake ? t(mistake) : "");
      hintText.hidden = Boolean(mistake);
      input.setAttribute("aria-invalid", String(Boolean(mistake)));
    },
  };
}

// -- Reference images -------------------------------------------------------------------------------------------------

function referenceSection(form, changed, onChosen) {
  const input = h("input", {
    type: "file",
    id: "references",
    class: "unseen",
    multiple: true,
    accept: "image/*,.npy,.bin",
    on: {
      change: () => {
        add([...input.files]);
        input.value = "";
      },
    },
  });
  const list = h("div", { class: "references" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "references-title" },
    h(
      "h2",
      { id: "references-title" },
      h("span", { class: "step-number", "aria-hidden": "true" }, "4"),
      t("form.references"),
      h("span", { class: "optional" }, t("form.optional")),
    ),
    h("p", { class: "quiet-text", id: "references-hint" }, t("form.references.text")),
    input,
    list,
  );
  let shown = null;

  function add(files) {
    // Chosen twice, it is meant once: as it is now, and not as it was when it was chosen first.
    const named = new Map([...form.references, ...files].map((file) => [`${file.name}/${file.size}`, file]));
    form.references = [...named.values()];
    changed();
    onChosen();
  }

  function clear() {
    form.references = [];
    changed();
    input.focus();
  }

  function update() {
    if (shown === form.references) return;
    shown = form.references;
    const size = shown.reduce((sum, file) => sum + file.size, 0);
    const rest = shown.length - SHOWN_REFERENCES;
    list.replaceChildren(
      ...(shown.length > 0
        ? [
            h(
              "p",
              { class: "reference-count" },
              h("strong", {}, t("form.references.count", { n: shown.length })),
              ` · ${formatSize(size, language())}`,
            ),
            h(
              "ul",
              { class: "reference-names" },
              shown.slice(0, SHOWN_REFERENCES).map((file) => h("li", {}, icon("image"), h("span", {}, file.name))),
              rest > 0 && h("li", {}, h("span", {}, t("form.references.more", { n: rest }))),
            ),
          ]
        : []),
      h(
        "div",
        { class: "actions" },
        h(
          "label",
          { class: "button quiet small", for: "references" },
          icon("plus"),
          h("span", {}, t("form.references.add")),
        ),
        shown.length > 0 && button(t("form.references.clear"), { kind: "plain small", run: clear }),
      ),
    );
  }

  return { element, add, update };
}

// -- The summary ------------------------------------------------------------------------------------------------------

function summarySection() {
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

// -- Dropping ---------------------------------------------------------------------------------------------------------

/** The whole page takes files: nobody has to hit the frame, and a miss does not open the file instead. */
function takeDrops(element, onFiles) {
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = () => element.classList.toggle("dropping", depth > 0);
  const listeners = {
    dragenter: (event) => {
      if (!hasFiles(event)) return;
      depth += 1;
      show();
    },
    dragleave: (event) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      show();
    },
    dragover: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    },
    drop: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      show();
      onFiles([...event.dataTransfer.files]);
    },
  };
  for (const [name, listener] of Object.entries(listeners)) window.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) window.removeEventListener(name, listener);
  };
}
