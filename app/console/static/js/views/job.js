// A job: its progress through the stages, and what the user can do when it has ended.

import * as api from "../api.js";
import { announce, toast } from "../announcer.js";
import { chipName } from "../chips.js";
import { serverNow } from "../clock.js";
import { guardLink } from "../downloads.js";
import { h, icon, setText } from "../dom.js";
import { formatDuration, formatMoment, formatPercent, formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { remedyFor } from "../remedies.js";
import { stageTimes } from "../stages.js";
import { broadcast } from "../tabs.js";
import { pageHead, statusPill } from "./pieces.js";
import { button, copyButton, problemPanel } from "./problem.js";
import { progressBar } from "./progress.js";

const TICK_MILLISECONDS = 1000;
// 0.58 times 100 is a little less than 58.
const ROUNDING = 1e-6;
const STEP_ICONS = { done: "check", failed: "cross" };

/** Return the view of a job. `onNew` returns to the form; without it, there is no such button. */
export function jobPanel(watcher, { isUploading, onNew, head = null }) {
  const pill = h("span", {});
  const percent = h("span", { class: "big-number" });
  const bar = progressBar(t("job.progress"));
  const sentence = h("p", { class: "job-sentence" });
  const elapsed = h("span", { class: "quiet-text" });
  const steps = stepper();
  const trouble = h("p", { class: "trouble", role: "status" });
  const outcome = h("div", { class: "outcome" });
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
          h("h2", { class: "file-name", title: watcher.job.filename }, watcher.job.filename || t("job.unnamed")),
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
        h("div", { class: "job-numbers below" }, trouble, elapsed),
      ),
      outcome,
    ),
    details(watcher),
  );
  let said = null;
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
    steps.update(stageTimes(record, job, serverNow()));
    showElapsed();
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
    const key = `${job.terminal}/${job.status}/${job.library_model_id ?? ""}/${isGone}`;
    if (key !== shownOutcome) {
      shownOutcome = key;
      outcome.replaceChildren(...outcomeOf(watcher, { isUploading, onNew }));
    }
  }

  function showElapsed() {
    const { job, record } = watcher;
    const from = Date.parse(job.created_at ?? "");
    const to = job.terminal ? Date.parse(job.updated_at ?? "") || record?.endedAt : serverNow();
    const known = Number.isFinite(from) && Number.isFinite(to) && to >= from;
    setText(
      elapsed,
      known ? t(job.terminal ? "job.took" : "job.elapsed", { time: formatDuration(to - from, language()) }) : "",
    );
  }

  const leave = watcher.subscribe(update);
  const ticking = setInterval(() => {
    if (watcher.job.terminal || document.hidden) return;
    steps.update(stageTimes(watcher.record, watcher.job, serverNow()));
    showElapsed();
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

function factsOf({ parameters = {}, size }) {
  return [
    parameters.platform && chipName(parameters.platform),
    parameters.model_id !== undefined && t("job.id", { id: parameters.model_id }),
    parameters.version !== undefined && t("job.version", { version: parameters.version }),
    Number.isFinite(size) && formatSize(size, language()),
  ].filter(Boolean);
}

// -- The stages -------------------------------------------------------------------------------------------------------

function stepper() {
  const steps = ["onnx", "bie", "nef"].map((stage) => {
    const time = h("span", { class: "step-time" });
    const state = h("span", { class: "unseen" });
    const dot = h("span", { class: "step-dot" }, icon(`stage-${stage}`));
    const element = h(
      "li",
      { class: "step" },
      dot,
      h(
        "div",
        { class: "step-text" },
        h("strong", {}, t(`stage.${stage}`)),
        h("span", { class: "step-does" }, t(`stage.${stage}.short`)),
        time,
        state,
      ),
    );
    return { stage, element, time, state, use: dot.querySelector("use") };
  });
  return {
    element: h(
      "ol",
      { class: "stepper", "aria-label": t("home.way") },
      steps.map(({ element }) => element),
    ),
    update(times) {
      times.forEach(({ state, milliseconds, isRough }, index) => {
        const step = steps[index];
        step.element.className = `step ${state}`;
        if (state === "running") step.element.setAttribute("aria-current", "step");
        else step.element.removeAttribute("aria-current");
        step.use.setAttribute("href", `#i-${STEP_ICONS[state] ?? `stage-${step.stage}`}`);
        const time = milliseconds === null ? "" : formatDuration(milliseconds, language());
        const isUnseen = milliseconds === null && (state === "done" || state === "failed");
        setText(step.time, isUnseen ? t("step.unseen") : time && isRough ? t("job.roughly", { time }) : time);
        step.time.classList.toggle("missing", isUnseen);
        setText(step.state, t(`step.${state}`));
      });
    },
  };
}

// -- The outcome
// ----------------------------------------------------------------------------------------------------------

function outcomeOf(watcher, options) {
  const { job } = watcher;
  const again =
    options.onNew && button(t("job.new"), { symbol: "plus", kind: "quiet", run: options.onNew, id: "new-conversion" });
  // A job that can no longer be found never ends, so offer the way back to the form now.
  if (!job.terminal) return watcher.polling.name === "gone" && again ? [h("div", { class: "actions" }, again)] : [];
  if (job.status === "completed") return resultActions(watcher, options, again);
  return [failure(job), h("div", { class: "actions" }, again)];
}

function failure({ error, status, job_id: jobId }) {
  const code = h("code", {}, jobId);
  return h(
    "div",
    { class: "problem bad", role: "alert" },
    h("span", { class: "problem-icon" }, icon("alert")),
    h(
      "div",
      { class: "problem-body" },
      h("p", { class: "problem-title" }, t(status === "cancelled" ? "job.cancelled.title" : "job.failed.title")),
      error?.message && h("p", {}, t("job.failed.says")),
      error?.message && h("blockquote", {}, error.message),
      h("p", {}, t(status === "cancelled" ? "job.cancelled.next" : (remedyFor(error?.message) ?? "job.failed.next"))),
      h(
        "p",
        { class: "request-id" },
        `${t("job.quote")} `,
        code,
        copyButton(() => jobId, code),
      ),
    ),
  );
}

function resultActions(watcher, { isUploading }, again) {
  const { job } = watcher;
  const problemArea = h("div", { class: "problem-area", "aria-live": "polite" });
  const show = (problem) => problemArea.replaceChildren(problemPanel(problem));
  const clear = () => problemArea.replaceChildren();
  const download = h(
    "a",
    { class: "button large", href: api.downloadPath(job.job_id), id: "download" },
    icon("download"),
    h("span", {}, t("job.download")),
  );
  guardLink(download, {
    check: () => api.checkDownload(job.job_id),
    isUploading,
    onBusy(isBusy) {
      if (isBusy) clear();
      download.classList.toggle("busy", isBusy);
      download.setAttribute("aria-busy", String(isBusy));
    },
    onReady: () => announce(t("job.download.begins")),
    onProblem: show,
  });
  return [
    h("div", { class: "actions" }, download, job.library_model_id ? savedLink() : saveButton(watcher, show, clear), again),
    problemArea,
  ];
}

function savedLink() {
  return h(
    "a",
    { class: "button large quiet", href: "#/models", id: "saved" },
    icon("check"),
    h("span", {}, t("job.saved")),
  );
}

function saveButton(watcher, show, clear) {
  const label = h("span", {}, t("job.save"));
  const save = h("button", { class: "button large quiet", type: "button", id: "save" }, icon("save"), label);
  save.addEventListener("click", async () => {
    if (save.classList.contains("busy")) return;
    clear();
    save.classList.add("busy");
    setText(label, t("job.saving"));
    try {
      const { data } = await api.promote(watcher.job.job_id);
      watcher.amend({ library_model_id: data.id });
      toast(t("job.saved.said", { name: data.name }));
      broadcast("models");
      document.getElementById("saved")?.focus();
    } catch (problem) {
      show(problem);
    } finally {
      save.classList.remove("busy");
      setText(label, t("job.save"));
    }
  });
  return save;
}

// -- Job facts --------------------------------------------------------------------------------------------------

function details({ job }) {
  const code = h("code", {}, job.job_id);
  return h(
    "p",
    { class: "small-print" },
    t("job.started", { time: formatMoment(job.created_at, language()) }),
    " · ",
    t("job.number"),
    " ",
    code,
    copyButton(() => job.job_id, code),
  );
}

export function backHead() {
  const link = h("a", { class: "back", href: "#/history" }, icon("right", "flipped"), h("span", {}, t("job.back")));
  return h("div", {}, link, pageHead(t("job.heading.one"), null));
}
