// One upload, by XMLHttpRequest, because fetch does not report upload progress.

import { language } from "./i18n.js";
import { ABORTED, NETWORK, Problem, problemFrom } from "./problems.js";
import { uploadNames } from "./references/images.js";
import { SpeedMeter } from "./speed.js";

/** The parts of an upload that are not images: the four that `uploadBody` adds, and the gateway's `user_id`. */
export const OTHER_PARTS = 5;

/** Return the multipart body. Small parts come first, so that the upload can be refused early. */
export function uploadBody({ model, references, platform, modelId, version }) {
  const body = new FormData();
  body.append("model_id", modelId);
  body.append("version", version);
  body.append("platform", platform);
  body.append("model", model, model.name);
  const names = uploadNames(references);
  references.forEach(({ file }, index) => body.append("ref_images", file, names[index]));
  return body;
}

/**
 * Send a body to `url` as the upload `id`. `onProgress` gets `{loaded, total, bytesPerSecond, millisecondsLeft}`.
 * `onSent` is called when all bytes have been sent and only the response is missing. Returns `{done, abort}`; `done`
 * resolves to the job or rejects with a Problem.
 */
export function startUpload(url, body, { id, onProgress, onSent }, makeRequest = () => new XMLHttpRequest()) {
  const request = makeRequest();
  const meter = new SpeedMeter();
  const spoken = language();
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      meter.add(loaded, performance.now());
      onProgress({
        loaded,
        total,
        bytesPerSecond: meter.bytesPerSecond,
        millisecondsLeft: meter.millisecondsLeft(total),
      });
    });
    request.upload.addEventListener("load", onSent);
    request.addEventListener("load", () => {
      const job = request.status === 201 ? parse(request.responseText) : null;
      if (job) resolve(job);
      else reject(problemOf(request, spoken));
    });
    request.addEventListener("error", () => reject(new Problem({ code: NETWORK })));
    request.addEventListener("abort", () => reject(new Problem({ code: ABORTED })));
    request.open("POST", url);
    request.setRequestHeader("Accept", "application/json, application/problem+json");
    request.setRequestHeader("Accept-Language", spoken);
    request.setRequestHeader("X-Upload-ID", id);
    request.send(body);
  });
  return { done, abort: () => request.abort() };
}

function parse(text) {
  try {
    const job = JSON.parse(text);
    return typeof job.job_id === "string" ? job : null;
  } catch {
    return null;
  }
}

function problemOf(request, spoken) {
  return problemFrom({
    status: request.status,
    contentType: request.getResponseHeader("Content-Type"),
    text: request.responseText,
    retryAfter: request.getResponseHeader("Retry-After"),
    requestId: request.getResponseHeader("X-Request-ID"),
    spoken,
  });
}
