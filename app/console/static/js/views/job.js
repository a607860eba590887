// A job: its progress through the stages, and what the user can do when it has ended.

import { announce } from "../announcer.js";
import { chipName } from "../chips.js";
import { serverNow } from "../clock.js";
import { callsOfJob } from "../curl.js";
import { focusOn, h, icon, setText } from "../dom.js";
import { formatDuration, formatMoment, formatPercent, formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { stageTimes } from "../stages.js";
import { showCurl } from "./curl.js";
import { advicePanel } from "./job/advice.js";
import { outcomeOf } from "./job/outcome.js";
import { stepper } from "./job/stepper.js";
import { linkBack } from "./list.js";
import { cutName, pageHead, statusPill } from "./pieces.js";
import { copyButton } from "./problem.js";
import { progressBar } from "./progress.js";
import { receiptLink } from "./receipt.js";
import { isLongerThanUsual, longerThanUsual, usualTime } from "./usual.js";

const TICK_MILLISECONDS = 1000;
// 0.58 times 100 is a little less than 58.
const ROUNDING = 1e-6;

/** Return the view of a job. `onNew` returns to the form; without it, there is no such button. */
export function jobPanel(watcher, { conversion, onNew, head = null }) {
  const isUploading = () => conversion.isUploading;
  const pill = h("span", {});
  const percent = h("span", { class: "big-number" });
  const bar = progressBar(t("job.progress"));
  const sentence = h("p", { class: "job-sentence" });
  const elapsed = h("span", {});
  const usual = h("span", {});
  const steps = stepper();
  const trouble = h("p", { class: "trouble", role: "status" });
  const outcome = h("div", { class: "outcome" });
  const advice = advicePanel();
  const problemArea = h("div", { class: "problem-area", "aria-live": "polite" });
  const heading = h("h1", {});
  const lead = h("p", {});
  const element = h(
    "div",
    { class: "page narrow" },
    head ?? h("header", { class: "page-head" }, h("div", {}, heading, lead)),
    h(
      "section",
      { class: "panel job", "aria-label": t("job.label") },
      h(
        "div",
        { class: "job-head" },
        h("span", { class: "file-icon" }, icon("file")),
        h(
          "div",
          { class: "file-text" },
          h("h2", { class: "file-name" }, cutName(watcher.job.filename || t("job.unnamed"))),
          h(
            "ul",
            { class: "facts" },
            factsOf(watcher.job).map((fact) => h("li", {}, fact)),
          ),
        ),
        pill,
      ),
      steps.element,
      h(
        "div",
        { class: "job-progress" },
        h("div", { class: "job-numbers" }, sentence, percent),
        bar.element,
        h("div", { class: "job-numbers below" }, trouble, h("p", { class: "job-times quiet-text" }, elapsed, usual)),
      ),
      outcome,
    ),
    advice.element,
    details(watcher, { conversion, isUploading, problemArea }),
    problemArea,
  );
  let said = null;
  let isLate = false;
  let shownOutcome = null;

  function update() {
    const { job, record, polling } = watcher;
    const hasResult = job.status === "completed";
    pill.replaceChildren(statusPill(job.status));
    element.dataset.status = job.status;
    setText(heading, t(`job.heading.${headingOf(job)}`));
    setText(lead, t(`job.lead.${headingOf(job)}`));
    const share = hasResult ? 1 : job.progress === null || job.progress === undefined ? null : job.progress / 100;
    const shown = share === null ? "" : formatPercent(Math.floor(share * 100 + ROUNDING) / 100, language());
    bar.update(job.terminal ? (share ?? 0) : job.status === "queued" ? null : share, shown || t("status.running"));
    setText(percent, job.status === "queued" ? "" : shown);
    showTimes();
    advice.update(job);
    const words = sentenceOf(job);
    setText(sentence, words);
    if (words !== said) {
      // The first sentence is part of the page. Announce only later ones.
      if (said !== null) announce(words);
      said = words;
    }
    setText(trouble, troubleOf(polling));
    trouble.classList.toggle("shown", Boolean(troubleOf(polling)));
    const isGone = polling.name === "gone";
    const key = [headingOf(job), job.library_model_id, isGone, job.explanation?.text].join("/");
    if (key !== shownOutcome) {
      shownOutcome = key;
      const hadFocus = outcome.contains(document.activeElement);
      outcome.replaceChildren(...outcomeOf(watcher, { conversion, isUploading, onNew }).filter(Boolean));
      if (hadFocus) focusOn(element.querySelector("h1"));
    }
  }

  function showTimes() {
    const { job, record } = watcher;
    const now = serverNow();
    steps.update(stageTimes(record, job, now), job.terminal ? null : job.usual_time?.stages);
    const from = Date.parse(job.created_at ?? "");
    const to = job.terminal ? Date.parse(job.updated_at ?? "") || record?.endedAt : now;
    const known = Number.isFinite(from) && Number.isFinite(to) && to >= from;
    setText(
      elapsed,
      known ? t(job.terminal ? "job.took" : "job.elapsed", { time: formatDuration(to - from, language()) }) : "",
    );
    showUsual(job, known ? (to - from) / 1000 : 0);
  }

  function showUsual({ terminal, usual_time: known }, seconds) {
    const wasLate = isLate;
    isLate = !terminal && isLongerThanUsual(known, seconds);
    setText(usual, isLate ? longerThanUsual(known) : usualTime(known));
    if (isLate && !wasLate) announce(t("usual.longer.said"));
  }

  const leave = watcher.subscribe(update);
  const ticking = setInterval(() => {
    if (watcher.job.terminal || document.hidden) return;
    showTimes();
  }, TICK_MILLISECONDS);
  update();
  return {
    element,
    update,
    destroy() {
      leave();
      clearInterval(ticking);
    },
  };
}

const headingOf = (job) => (job.terminal ? job.status : "running");

function sentenceOf(job) {
  if (job.terminal) return t(`job.sentence.${job.status}`);
  if (job.status === "queued") return t("job.sentence.queued");
  return job.stage ? t(`stage.${job.stage}.now`) : t("job.sentence.running");
}

function troubleOf({ name }) {
  if (name === "reconnecting") return t("job.reconnecting");
  if (name === "signed-out") return t("job.signed_out");
  if (name === "gone") return t("job.gone");
  return "";
}

function factsOf({ parameters = {}, size, reference_images: images }) {
  return [
    parameters.platform && chipName(parameters.platform),
    parameters.model_id !== undefined && t("job.id", { id: parameters.model_id }),
    parameters.version !== undefined && t("job.version", { version: parameters.version }),
    Number.isFinite(size) && formatSize(size, language()),
    images && (images.count > 0 ? t("job.references", { n: images.count }) : t("job.references.none")),
  ].filter(Boolean);
}

function details(watcher, { conversion, isUploading, problemArea }) {
  const { job } = watcher;
  const code = h("code", {}, job.job_id);
  const showCalls = () => {
    const files = conversion.filesOf(job.job_id);
    const missing = files ? 0 : (job.reference_images?.count ?? 0);
    showCurl((place) => callsOfJob(place, watcher.job, files), missing);
  };
  const link = h("button", { class: "link", type: "button", on: { click: showCalls } }, icon("copy"), h("span", {}, t("curl.open")));
  return h(
    "ul",
    { class: "small-print spread" },
    h("li", {}, t("job.started", { time: formatMoment(job.created_at, language()) })),
    h("li", {}, t("job.number"), " ", code, copyButton(() => job.job_id, code)),
    h("li", {}, receiptLink(job.job_id, { isUploading, problemArea })),
    h("li", {}, link),
  );
}

export function backHead() {
  const link = linkBack("history", icon("right", "flipped"), h("span", {}, t("job.back")));
  return h("div", {}, link, pageHead(t("job.heading.one"), null));
}
