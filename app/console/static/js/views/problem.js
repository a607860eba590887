// A failure in words: what happened, what to do next, and the number to quote.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { problemWords } from "../problems.js";

const COPIED_MILLISECONDS = 2000;

/** A panel for a Problem. `actions` are elements: buttons and links that help. */
export function problemPanel(problem, actions = []) {
  const { title, detail } = problemWords(problem);
  const isWarning = problem.document?.blame === "user" && problem.retryable;
  return h(
    "div",
    { class: `problem ${isWarning ? "warn" : "bad"}`, role: "alert" },
    h("span", { class: "problem-icon" }, icon("alert")),
    h(
      "div",
      { class: "problem-body" },
      h("p", { class: "problem-title" }, title),
      h("p", {}, detail),
      actions.length > 0 && h("div", { class: "actions" }, actions),
      requestIdLine(problem.requestId),
    ),
  );
}

/** The request id, to be copied; nothing where there is none. */
export function requestIdLine(requestId) {
  if (!requestId) return null;
  const code = h("code", {}, requestId);
  return h(
    "p",
    { class: "request-id" },
    `${t("problem.request_id")} `,
    code,
    copyButton(() => requestId, code),
  );
}

export function copyButton(read, shown) {
  const button = h("button", { class: "icon-button", type: "button", "aria-label": t("copy") }, icon("copy"));
  const use = button.querySelector("use");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(read());
      use.setAttribute("href", "#i-check");
      button.setAttribute("aria-label", t("copied"));
      setTimeout(() => {
        use.setAttribute("href", "#i-copy");
        button.setAttribute("aria-label", t("copy"));
      }, COPIED_MILLISECONDS);
    } catch {
      // Where the clipboard is forbidden, the text is at least selected.
      getSelection()?.selectAllChildren(shown);
    }
  });
  return button;
}

export function button(text, { symbol, kind = "", run, ...more }) {
  return h(
    "button",
    { class: `button ${kind}`.trim(), type: "button", on: { click: run }, ...more },
    symbol && icon(symbol),
    h("span", {}, text),
  );
}

/** Where a list or a page cannot be shown: the failure, and another try where one can help. */
export function failedState(problem, retry) {
  const isFinal = problem.status === 404 || problem.status === 501;
  const actions = isFinal ? [] : [button(t("retry"), { kind: "quiet", run: retry })];
  return h("div", { class: "panel" }, problemPanel(problem, actions));
}
