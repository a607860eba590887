// The gateway's API by fetch. Every failure becomes a Problem. Listeners are told when the session has ended.

import { learnClock } from "./clock.js";
import { language } from "./i18n.js";
import { NETWORK, Problem, problemFrom } from "./problems.js";

const sessionListeners = new Set();

/** Call a listener whenever a response says that there is no session. */
export function onSessionEnd(listener) {
  sessionListeners.add(listener);
}

export function reportSessionEnd(problem) {
  if (problem.code !== "unauthenticated") return;
  for (const listener of sessionListeners) listener(problem);
}

/** Send a request, and return `{status, data, etag, retryAfterSeconds}`; `data` is null without a body. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const spoken = language();
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      body,
      signal,
      cache: "no-store",
      headers: { Accept: "application/json, application/problem+json", "Accept-Language": spoken, ...headers },
    });
    text = method === "HEAD" ? "" : await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ code: NETWORK });
  }
  learnClock(response.headers.get("Date"));
  if (!response.ok && response.status !== 304) {
    const problem = problemFrom({
      status: response.status,
      contentType: response.headers.get("Content-Type"),
      text,
      retryAfter: response.headers.get("Retry-After"),
      requestId: response.headers.get("X-Request-ID"),
      spoken,
    });
    reportSessionEnd(problem);
    throw problem;
  }
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return {
    status: response.status,
    data: parse(response, text),
    etag: response.headers.get("ETag"),
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : null,
  };
}

function parse(response, text) {
  if (response.status === 204 || response.status === 304 || !text) return null;
  try {
    return JSON.parse(text);
  } catch {
    throw problemFrom({ status: response.status, requestId: response.headers.get("X-Request-ID") });
  }
}

const json = { "Content-Type": "application/json" };
const id = encodeURIComponent;

export const me = () => ask("/api/me");
export const activeJob = () => ask("/api/conversion/active");
export const jobs = (wanted) => page("/api/conversion/jobs", wanted);
export const promote = (jobId) => ask(`/api/conversion/${id(jobId)}/promote-to-models`, { method: "POST" });
export const checkDownload = (jobId) => ask(`/api/conversion/${id(jobId)}/download?check=1`);
export const downloadPath = (jobId) => `/api/conversion/${id(jobId)}/download`;
export const receiptPath = (jobId) => `/api/conversion/${id(jobId)}/receipt`;
export const receipt = (jobId) => ask(receiptPath(jobId));
export const models = (wanted) => page("/api/models", wanted);
export const model = (modelId) => ask(`/api/models/${id(modelId)}`);
export const filePath = (modelId) => `/api/models/${id(modelId)}/file`;
export const removeModel = (modelId) => ask(`/api/models/${id(modelId)}`, { method: "DELETE" });
export const renameModel = (modelId, name) =>
  ask(`/api/models/${id(modelId)}`, { method: "PATCH", body: JSON.stringify({ name }), headers: json });
export const signOut = () => ask("/auth/logout", { method: "POST" });

/** Get a page of a list. `filters` are parameters of the query. */
function page(path, { cursor, limit, filters = {}, signal }) {
  return ask(`${path}?${new URLSearchParams({ ...filters, limit, ...(cursor && { cursor }) })}`, { signal });
}

/** Check whether an upload would be accepted, before sending it. */
export function checkUpload({ filename, size, parts, platform, modelId, version }) {
  const body = new URLSearchParams({ filename, size, parts, platform, model_id: modelId, version });
  return ask("/api/conversion/check", { method: "POST", body });
}

/** End one of this user's uploads. The status is 202 if it may still be running. */
export const endUpload = (uploadId) =>
  ask(`/api/conversion/upload?upload_id=${id(uploadId)}`, { method: "DELETE" });

/**
 * Get the advice about a model by its skeleton. The file's name helps to recognize files that are no model, and its size
 * tells how long such a model usually takes.
 */
export function inspect(skeleton, { name, size }, signal) {
  const body = new FormData();
  body.append("model_size", size);
  body.append("skeleton", new Blob([skeleton]), name);
  return ask("/api/conversion/inspect", { method: "POST", body, signal });
}

/** Get a job; `data` is null if it hasn't changed since the response with that ETag. */
export function job(jobId, etag, signal) {
  // `no-store` bypasses the browser's cache, so that a 304 arrives here as a 304.
  return ask(`/api/conversion/${id(jobId)}`, { headers: etag ? { "If-None-Match": etag } : {}, signal });
}
