// The three stages of a job, with the time that each took.

import { h, icon, setText } from "../../dom.js";
import { formatDuration } from "../../format.js";
import { language, t } from "../../i18n.js";
import { usualStageTime } from "../usual.js";

const STEP_ICONS = { done: "check", failed: "cross" };

export function stepper() {
  const steps = ["onnx", "bie", "nef"].map((stage) => {
    const time = h("span", { class: "step-time" });
    const usual = h("span", { class: "step-usual" });
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
        h("span", { class: "step-times" }, time, usual),
        state,
      ),
    );
    return { stage, element, time, usual, state, use: dot.querySelector("use") };
  });
  return {
    element: h(
      "ol",
      { class: "stepper", "aria-label": t("home.way") },
      steps.map(({ element }) => element),
    ),
    /** Show the times of `stageTimes`, and the usual times by stage. */
    update(times, usual = null) {
      times.forEach(({ stage, state, milliseconds, isRough }, index) => {
        const step = steps[index];
        step.element.className = `step ${state}`;
        if (state === "running") step.element.setAttribute("aria-current", "step");
        else step.element.removeAttribute("aria-current");
        step.use.setAttribute("href", `#i-${STEP_ICONS[state] ?? `stage-${step.stage}`}`);
        const time = milliseconds === null ? "" : formatDuration(milliseconds, language());
        const isUnseen = milliseconds === null && (state === "done" || state === "failed");
        setText(step.time, isUnseen ? t("step.unseen") : time && isRough ? t("job.roughly", { time }) : time);
        step.time.classList.toggle("missing", isUnseen);
        const isAhead = state === "pending" || state === "running";
        setText(step.usual, isAhead ? usualStageTime(usual?.[stage]) : "");
        setText(step.state, t(`step.${state}`));
      });
    },
  };
}
