// The form of a conversion: model, chip, identity, reference images, and a summary that starts it.

import { h } from "../dom.js";
import { language, t } from "../i18n.js";
import { FILE_CHANGED } from "../problems.js";
import { takeDrops } from "./form/drops.js";
import { earlierPanel } from "./form/earlier.js";
import { modelSection } from "./form/model.js";
import { chipSection } from "./form/chips.js";
import { identitySection } from "./form/identity.js";
import { referenceSection } from "./form/references.js";
import { summarySection } from "./form/summary.js";
import { pageHead } from "./pieces.js";
import { button, problemPanel } from "./problem.js";

const IMAGE = /\.(png|jpe?g|bmp|gif|webp|tiff?|npy|bin)$/i;

export function conversionForm({ conversion, session }) {
  const { form } = conversion;
  const problemArea = h("div", { class: "problem-area" });
  const model = modelSection(conversion, changed, chosenAgain);
  const chips = chipSection(form, changed);
  const identity = identitySection(form, changed);
  const references = referenceSection(form, changed, chosenAgain);
  const summary = summarySection();
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
  const stopDropping = takeDrops(element, (files) => {
    const images = files.filter((file) => IMAGE.test(file.name));
    const others = files.filter((file) => !images.includes(file));
    if (others[0]) model.choose(others[0]);
    if (images.length > 0) references.add(images);
  });

  let shownProblem = null;

  function changed() {
    form.store();
    update();
  }

  /** Choosing the file again solves the problem that a file has changed. */
  function chosenAgain() {
    if (conversion.problem?.code === FILE_CHANGED) conversion.dismissProblem();
  }

  function update() {
    const isChecking = conversion.phase === "checking";
    earlier.update();
    model.update();
    chips.update();
    identity.update();
    references.update();
    summary.update(form, isChecking);
    if (conversion.problem !== shownProblem) {
      shownProblem = conversion.problem;
      if (shownProblem?.code === "unauthenticated") {
        // The session notice already explains this, and offers to sign in.
        document.querySelector("#session-notice a")?.focus();
        return;
      }
      problemArea.replaceChildren(...(shownProblem ? [problemPanel(shownProblem, helpFor(shownProblem))] : []));
      if (shownProblem) problemArea.scrollIntoView({ block: "nearest" });
    }
  }

  function submit(event) {
    event.preventDefault();
    send();
  }

  function send() {
    if (session.state === "other") {
      // The conversion would belong to a different account. The session notice explains this.
      document.querySelector("#session-notice button")?.focus();
      return;
    }
    for (const field of ["model", "platform", "modelId", "version"]) form.touched.add(field);
    update();
    const [first] = Object.keys(form.errors);
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
  if (form.field) requestAnimationFrame(() => focusOnField(form));
  // The sentences of an earlier inspection may be in another language.
  if (form.model && form.inspection?.language !== language()) model.choose(form.model);
  return {
    element,
    update,
    destroy() {
      stopDropping();
      model.stop();
    },
    focus: () => (problemArea.querySelector("button") ?? model.element.querySelector("input, button")).focus(),
  };
}

/** Focus the field that the user should look at first, after the focus that the change of view has set. */
function focusOnField(form) {
  const field = document.querySelector(`[data-field="${form.field}"]:is(:not([type=radio]), :checked)`);
  form.field = null;
  field?.focus();
}
