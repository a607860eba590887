// The gateway's API by fetch. Every failure is a Problem; an ended session is also told to whoever listens for it.

import { learnClock } from "./clock.js";
import { language } from "./i18n.js";
import { NETWORK, Problem, problemFrom } from "./problems.js";

const sessionListeners = new Set();

/** Be told whenever an answer says that there is no session any more. */
export function onSessionEnd(listener) {
  sessionListeners.add(listener);
}

export function tellSessionEnd(problem) {
  if (problem.code !== "unauthenticated") return;
  for (const listener of sessionListeners) listener(problem);
}

/** Ask, and return `{status, data, etag, retryAfterSeconds}`; `data` is null where there is no body. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const spoken = language();
  let answer;
  let text;
  try {
    answer = await fetch(path, {
      method,
      body,
      signal,
      cache: "no-store",
      headers: { Accept: "application/json, application/problem+json", "Accept-Language": spoken, ...headers },
    });
    text = method === "HEAD" ? "" : await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ code: NETWORK });
  }
  learnClock(answer.headers.get("Date"));
  if (!answer.ok && answer.status !== 304) {
    const problem = problemFrom({
      status: answer.status,
      contentType: answer.headers.get("Content-Type"),
      text,
      retryAfter: answer.headers.get("Retry-After"),
      requestId: answer.headers.get("X-Request-ID"),
      spoken,
    });
    tellSessionEnd(problem);
    throw problem;
  }
  const retryAfter = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return {
    status: answer.status,
    data: parse(answer, text),
    etag: answer.headers.get("ETag"),
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : null,
  };
}

function parse(answer, text) {
  if (answer.status === 204 || answer.status === 304 || !text) return null;
  try {
    return JSON.parse(text);
  } catch {
    throw problemFrom({ status: answer.status, requestId: answer.headers.get("X-Request-ID") });
  }
}

const json = { "Content-Type": "application/json" };
const id = encodeURIComponent;

export const me = () => ask("/api/me");
export const activeJob = () => ask("/api/conversion/active");
export const jobs = (cursor) => ask(`/api/conversion/jobs?limit=20${cursor ? `&cursor=${id(cursor)}` : ""}`);
export const promote = (jobId) => ask(`/api/conversion/${id(jobId)}/promote-to-models`, { method: "POST" });
export const checkDownload = (jobId) => ask(`/api/conversion/${id(jobId)}/download?check=1`);
export const downloadPath = (jobId) => `/api/conversion/${id(jobId)}/download`;
export const models = (cursor) => ask(`/api/models?limit=20${cursor ? `&cursor=${id(cursor)}` : ""}`);
export const model = (modelId) => ask(`/api/models/${id(modelId)}`);
export const filePath = (modelId) => `/api/models/${id(modelId)}/file`;
export const removeModel = (modelId) => ask(`/api/models/${id(modelId)}`, { method: "DELETE" });
export const renameModel = (modelId, name) =>
  ask(`/api/models/${id(modelId)}`, { method: "PATCH", body: JSON.stringify({ name }), headers: json });
export const signOut = () => ask("/auth/logout", { method: "POST" });

/** Would this upload be taken now? Asked before a byte of it moves. */
export function checkUpload({ filename, size, parts, platform, modelId, version }) {
  const body = new URLSearchParams({ filename, size, parts, platform, model_id: modelId, version });
  return ask("/api/conversion/check", { method: "POST", body });
}

/** A job; `data` is null where it has not changed since the answer with that ETag. */
export function job(jobId, etag, signal) {
  // The browser's own cache stays out of it (`no-store`), so that a 304 arrives here as a 304.
  return ask(`/api/conversion/${id(jobId)}`, { headers: etag ? { "If-None-Match": etag } : {}, signal });
}
