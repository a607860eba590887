// A failure for the user: what happened, what to do next, and the request ID.

import { h, icon, setText } from "../dom.js";
import { t } from "../i18n.js";
import { problemWords } from "../problems.js";

const COPIED_MILLISECONDS = 2000;
const RETRY_MILLISECONDS = 10_000;

/** Return a panel for a Problem. `actions` are buttons and links that help, `facts` is one more sentence. */
export function problemPanel(problem, actions = [], facts = null) {
  const { title, detail } = problemWords(problem);
  const message = problem.document?.upstream_message;
  const isWarning = problem.document?.blame === "user" && problem.retryable;
  return h(
    "div",
    { class: `problem ${isWarning ? "warn" : "bad"}`, role: "alert" },
    h("span", { class: "problem-icon" }, icon("alert")),
    h(
      "div",
      { class: "problem-body" },
      h("p", { class: "problem-title" }, title),
      message ? convertersMessage(message) : h("p", {}, detail),
      facts && h("p", { class: "problem-facts" }, facts),
      actions.length > 0 && h("div", { class: "actions" }, actions),
      requestIdLine(problem.requestId),
    ),
  );
}

/** Return the converter's message with its line breaks. */
export function convertersMessage(message) {
  // Focusable, so that keys can scroll a long message.
  return [h("p", {}, t("job.failed.says")), h("blockquote", { tabindex: "0" }, message)];
}

/** Return the request ID with a copy button, if there is one. */
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

/** Return a button that copies a text: an icon, or one with a label. Without the clipboard, it selects `shown`. */
export function copyButton(read, shown, label = "") {
  const words = label && h("span", {}, label);
  const button = h(
    "button",
    { class: words ? "button quiet small" : "icon-button", type: "button", "aria-label": words ? null : t("copy") },
    icon("copy"),
    words,
  );
  const use = button.querySelector("use");
  const show = (symbol, text) => {
    use.setAttribute("href", `#i-${symbol}`);
    if (words) setText(words, text);
    else button.setAttribute("aria-label", text);
  };
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(read());
      show("check", t("copied"));
      setTimeout(() => show("copy", label || t("copy")), COPIED_MILLISECONDS);
    } catch {
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

/**
 * Return a panel for a list or page that cannot be shown, with a retry button if a retry can help. As long as the panel is
 * on the page, it also retries by itself: `retry({isQuiet: true})`.
 */
export function failedState(problem, retry) {
  const isFinal = problem.status === 404 || problem.status === 501;
  const actions = isFinal ? [] : [button(t("retry"), { kind: "quiet", run: () => retry() })];
  const element = h("div", {}, problemPanel(problem, actions));
  // The session tells when it is back.
  if (!isFinal && problem.status !== 401) keepTrying(element, () => retry({ isQuiet: true }));
  return element;
}

function keepTrying(element, retry) {
  let isTrying = false;
  const stop = () => {
    clearInterval(timer);
    window.removeEventListener("online", tryAgain);
  };
  const tryAgain = async () => {
    if (!element.isConnected) stop();
    else if (!document.hidden && !isTrying) {
      isTrying = true;
      await retry();
      isTrying = false;
    }
  };
  const timer = setInterval(tryAgain, RETRY_MILLISECONDS);
  window.addEventListener("online", tryAgain);
}
