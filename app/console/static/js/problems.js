// Failures and their texts. A problem document has texts in one language; the server's error catalog has the others.
// The page has its own texts only for failures that no server reports.

import { language, t } from "./i18n.js";
import { shortName } from "./names.js";

/** No response; a response that is not the gateway's; canceled by the user; a file has changed since it was chosen. */
export const NETWORK = "network";
export const UNREACHABLE = "unreachable";
export const ABORTED = "aborted";
export const FILE_CHANGED = "file_changed";
/** nginx reports that no gateway responds. */
export const GATEWAY_UNAVAILABLE = "gateway_unavailable";
const OWN = new Set([NETWORK, UNREACHABLE, ABORTED, FILE_CHANGED]);

export class Problem extends Error {
  /** `document` is a problem document or a part of one. Only `code` is required. */
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

/** Return the Problem of a failed response: the gateway's problem document, or the response of a proxy. */
export function problemFrom({ status, contentType, text, retryAfter, requestId, spoken }) {
  const seconds = Number.parseInt(retryAfter ?? "", 10);
  const retryAfterSeconds = Number.isFinite(seconds) ? seconds : null;
  if ((contentType ?? "").startsWith("application/problem+json")) {
    try {
      const document = JSON.parse(text);
      if (typeof document.code === "string") return new Problem(document, { retryAfterSeconds, spoken });
    } catch {
      // The problem document is incomplete. Use only the status.
    }
  }
  return new Problem({ code: UNREACHABLE, status, request_id: requestId ?? "" }, { retryAfterSeconds, spoken });
}

let catalogue = null;

/** Fetch the error catalog once. Without it, texts stay in the language in which they arrived. */
export async function loadCatalogue() {
  try {
    const response = await fetch("/console/errors.json");
    if (response.ok) catalogue = (await response.json()).errors;
  } catch {
    // The catalog is needed only when the language changes. The next page load tries again.
  }
}

/** Return the title and detail of a problem in the page's language. */
export function problemWords(problem) {
  const { code, document, spoken } = problem;
  if (OWN.has(code)) return { title: t(`problem.${code}`, { name: shortName(document.name ?? "") }), detail: t(`problem.${code}.detail`) };
  const entry = catalogue?.[code];
  const translated = entry && { title: entry.title[language()], detail: entry.detail[language()] };
  const isSpoken = spoken === language() && document.title;
  if (isSpoken || !translated) return { title: document.title ?? code, detail: document.detail ?? "" };
  // Only the response knows the values for placeholders in the text.
  return { title: translated.title, detail: translated.detail.includes("{") ? document.detail : translated.detail };
}
