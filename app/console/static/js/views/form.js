// The form of a conversion: model, chip, identity, reference images, and a summary that starts it.

import { callsOfUpload } from "../curl.js";
import { chooseOne } from "../dialogs.js";
import { h } from "../dom.js";
import { formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { FILE_CHANGED } from "../problems.js";
import { sortFiles } from "../references/kinds.js";
import { walk } from "../references/walk.js";
import { showCurl } from "./curl.js";
import { takeDrops } from "./form/drops.js";
import { earlierPanel } from "./form/earlier.js";
import { modelSection } from "./form/model.js";
import { chipSection } from "./form/chips.js";
import { identitySection } from "./form/identity.js";
import { referenceSection } from "./form/references.js";
import { summarySection } from "./form/summary.js";
import { progressOf, stopButton } from "./other_upload.js";
import { pageHead } from "./pieces.js";
import { button, problemPanel } from "./problem.js";

export function conversionForm({ conversion, session, imageSets }) {
  const { form } = conversion;
  const problemArea = h("div", { class: "problem-area" });
  const model = modelSection(conversion, changed);
  const chips = chipSection(form, changed);
  const identity = identitySection(conversion, changed);
  const references = referenceSection(form, imageSets, changed, imagesChosen);
  const summary = summarySection(() => showCurl((place) => callsOfUpload(place, wishOf(form))));
  const earlier = earlierPanel(form, changed);
  const element = h(
    "div",
    { class: "page" },
    pageHead(t("convert.title"), t("convert.lead")),
    problemArea,
    h(
      "form",
      { class: "split", novalidate: true, "aria-label": t("convert.title"), on: { submit } },
      h("div", { class: "column" }, earlier.element, model.element, chips.element, identity.element, references.element),
      summary.element,
    ),
  );
  const stopDropping = takeDrops(element, takeDropped);

  let shownProblem = null;
  let shownModel = null;
  let isGone = false;

  /** Take the one model in what was dropped, or ask which, and all images. Name everything that was ignored. */
  async function takeDropped(entries) {
    const { files, unreadable } = await references.whileReading(() => walk(entries));
    const { models, images, ignored } = sortFiles(files);
    // A single file that is not in a folder is meant as the model, whatever its name is. The inspection says what it is.
    const isMeant = files.length === 1 && ignored[0]?.reason === "other" && !files[0].path.includes("/");
    const candidates = isMeant ? files : models;
    const chosen = candidates.length > 1 ? await askWhich(candidates) : candidates[0];
    if (chosen) model.choose(chosen.file, chosen.path);
    const rest = [
      ...(isMeant ? [] : ignored),
      ...models.filter((one) => one !== chosen).map(({ path }) => ({ path, reason: "model" })),
      ...unreadable.map((path) => ({ path, reason: "unreadable" })),
      ...(files.length + unreadable.length === 0 ? entries.map(({ name }) => ({ path: name, reason: "empty" })) : []),
    ];
    model.tell(images.length > 0 ? [] : rest);
    if (images.length > 0) references.add(images, rest);
  }

  function changed() {
    form.store();
    // Reading dropped files may have taken longer than this view was shown.
    if (isGone) conversion.emit();
    else update();
  }

  /** Choosing images again solves the problem that one has changed. */
  function imagesChosen() {
    const { problem } = conversion;
    if (problem?.code === FILE_CHANGED && !problem.document.isModel) conversion.dismissProblem();
    // Reading the files may have taken longer than this view was shown.
    else conversion.emit();
  }

  function update() {
    const isChecking = conversion.phase === "checking";
    earlier.update();
    model.update();
    chips.update();
    identity.update();
    references.update();
    summary.update(form, isChecking);
    if (isOfOtherModel(conversion.problem)) conversion.dismissProblem();
    if (conversion.problem !== shownProblem) {
      shownProblem = conversion.problem;
      shownModel = form.model;
      const hadFocus = problemArea.contains(document.activeElement);
      if (shownProblem?.code === "unauthenticated") {
        // The session notice already explains this, and offers to sign in.
        document.querySelector("#session-notice a")?.focus();
        return;
      }
      const { upload } = shownProblem?.document ?? {};
      problemArea.replaceChildren(...(shownProblem ? [problemPanel(shownProblem, helpFor(shownProblem), progressOf(upload))] : []));
      if (shownProblem) problemArea.scrollIntoView({ block: "nearest" });
      else if (hadFocus) document.getElementById("start").focus({ preventScroll: true });
    }
  }

  /** Whether the problem is about a model that is no longer in the form. */
  function isOfOtherModel(problem) {
    const isOfModel = problem?.code === FILE_CHANGED ? problem.document.isModel : problem?.document.blame === "user" && !problem.retryable;
    return Boolean(isOfModel) && problem === shownProblem && form.model !== shownModel;
  }

  function submit(event) {
    event.preventDefault();
    send();
  }

  /** Start, and end another upload first if there is an ID of one. */
  function send(stopping = null) {
    if (session.state === "other") {
      // The conversion would belong to a different account. The session notice explains this.
      document.querySelector("#session-notice button")?.focus();
      return;
    }
    for (const field of ["model", "platform", "modelId", "version"]) form.touched.add(field);
    update();
    const [first] = Object.keys(form.errors);
    if (first) element.querySelector(`[data-field="${first}"]`)?.focus();
    else conversion.start(stopping);
  }

  function helpFor(problem) {
    if (problem.code === FILE_CHANGED) {
      const [symbol, text, input] = problem.document.isModel
        ? ["file", "form.model.choose_again", "model"]
        : ["image", "form.references.add", "references"];
      return [button(t(text), { symbol, run: () => document.getElementById(input).click() })];
    }
    if (problem.code === "converter_rejected") {
      const choose = () => document.getElementById("model").click();
      return [button(t("form.model.replace"), { symbol: "file", kind: "quiet", run: choose })];
    }
    const job = problem.document?.active_job;
    if (job) {
      return [button(t("convert.show_running"), { symbol: "right", run: () => conversion.follow(job) })];
    }
    if (problem.code === "upload_outcome_unknown" || problem.code === "active_job_conflict") {
      return [button(t("convert.look"), { symbol: "history", run: () => conversion.look() })];
    }
    if (problem.code === "unauthenticated" || !problem.retryable || !form.model) return [];
    const { upload } = problem.document;
    return [button(t("retry"), { kind: "quiet", run: () => send() }), upload && stopButton(upload, send)].filter(Boolean);
  }

  update();
  if (form.field) requestAnimationFrame(() => focusOnField(form));
  // The sentences of an earlier inspection may be in another language.
  if (form.model && form.inspection?.language !== language()) model.choose(form.model);
  return {
    element,
    update,
    destroy() {
      isGone = true;
      stopDropping();
      model.destroy();
    },
    focus: () => (problemArea.querySelector("button") ?? model.element.querySelector("input, button")).focus(),
  };
}

/** Return what the form says, for `callsOfUpload`. */
function wishOf({ model, expected, modelId, version, platform, references, size }) {
  const name = model?.name ?? expected?.name ?? "model.onnx";
  return { model: name, modelId: modelId.trim(), version: version.trim(), platform, references, size: model ? size : 0 };
}

/** Ask which of several models to convert. Resolves to it, or to null. */
function askWhich(models) {
  const options = models.map((found) => ({ name: found.path, detail: formatSize(found.file.size, language()), found }));
  return chooseOne({ title: t("choice.which"), text: t("choice.which.text"), options }).then((option) => option?.found ?? null);
}

/** Focus the field that the user should look at first, after the focus that the change of view has set. */
function focusOnField(form) {
  const field = document.querySelector(`[data-field="${form.field}"]:is(:not([type=radio]), :checked)`);
  form.field = null;
  field?.focus();
}
