// Failures as values, and their words. A problem document says what happened in the language that it was asked for in;
// for other languages there is the server's catalogue. Only what no server could say has texts of the page's own.

import { language, t } from "./i18n.js";

/** No answer came; an answer came that was not the gateway's; the person gave up; a file is not as it was chosen. */
export const NETWORK = "network";
export const UNREACHABLE = "unreachable";
export const ABORTED = "aborted";
export const FILE_CHANGED = "file_changed";
const OWN = new Set([NETWORK, UNREACHABLE, ABORTED, FILE_CHANGED]);

export class Problem extends Error {
  /** `document` is a problem document or a part of one; `code` is the only member that must be there. */
  constructor(document, { retryAfterSeconds = null, spoken = null } = {}) {
    super(document.code);
    this.name = "Problem";
    this.code = document.code;
    this.status = document.status ?? 0;
    this.document = document;
    this.requestId = document.request_id ?? "";
    this.retryable = document.retryable ?? OWN.has(document.code);
    this.retryAfterSeconds = retryAfterSeconds;
    this.spoken = spoken;
  }
}

/** Read the answer of a failed request: the gateway's problem document, or what some proxy in between has said. */
export function problemFrom({ status, contentType, text, retryAfter, requestId, spoken }) {
  const seconds = Number.parseInt(retryAfter ?? "", 10);
  const retryAfterSeconds = Number.isFinite(seconds) ? seconds : null;
  if ((contentType ?? "").startsWith("application/problem+json")) {
    try {
      const document = JSON.parse(text);
      if (typeof document.code === "string") return new Problem(document, { retryAfterSeconds, spoken });
    } catch {
      // A problem document that was cut off says no more than its status.
    }
  }
  return new Problem({ code: UNREACHABLE, status, request_id: requestId ?? "" }, { retryAfterSeconds, spoken });
}

let catalogue = null;

/** Fetch the catalogue, once; the browser keeps it. Without it, texts stay in the language in which they came. */
export async function loadCatalogue() {
  try {
    const answer = await fetch("/console/errors.json");
    if (answer.ok) catalogue = (await answer.json()).errors;
  } catch {
    // It is only needed when the language changes; the next visit tries again.
  }
}

/** Title and detail of a problem in the page's language. */
export function problemWords(problem) {
  const { code, document, spoken } = problem;
  if (OWN.has(code)) return { title: t(`problem.${code}`, document), detail: t(`problem.${code}.detail`) };
  const entry = catalogue?.[code];
  const translated = entry && { title: entry.title[language()], detail: entry.detail[language()] };
  const isSpoken = spoken === language() && document.title;
  if (isSpoken || !translated) return { title: document.title ?? code, detail: document.detail ?? "" };
  // What fills a gap in the text is known only to the answer itself.
  return { title: translated.title, detail: translated.detail.includes("{") ? document.detail : translated.detail };
}
