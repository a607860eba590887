// Ask the gateway what a model is and how it fits each chip, before the model is uploaded. Only the skeleton is sent.

import * as api from "./api.js";
import { language, t } from "./i18n.js";
import { problemWords } from "./problems.js";
import { cutSkeleton } from "./skeleton.js";

const MAX_TRIES = 5;
const WAIT_SECONDS = 1;
const DAMAGED = new Set(["malformed", "truncated"]);

/**
 * Resolve to `{language, format, advice, reason, isRetryable}`. `advice` is the API's, or null with a sentence as
 * `reason`. The format is null if it is unknown. Never rejects, except on abort.
 */
export async function inspectModel(file, signal) {
  const spoken = language();
  const nothing = (format, reason, isRetryable = false) => ({ language: spoken, format, advice: null, reason, isRetryable });
  if (file.size === 0) return nothing(null, t("form.model.empty"));
  let skeleton;
  try {
    skeleton = await cutSkeleton(file, signal);
  } catch {
    signal.throwIfAborted();
    return nothing(null, t("problem.file_changed.detail"));
  }
  if (skeleton.reason !== null) {
    return nothing("onnx", t(DAMAGED.has(skeleton.reason) ? "form.model.damaged" : "form.model.too_complex"));
  }
  try {
    const { data } = await inspectPatiently(skeleton.data, file, signal);
    if (!data.chips) return nothing(data.format, data.text);
    return { language: spoken, format: data.format, advice: data, reason: null, isRetryable: false };
  } catch (problem) {
    signal.throwIfAborted();
    return nothing(
      skeleton.isModel ? "onnx" : null,
      t("form.model.not_inspected", { reason: problemWords(problem).title }),
      problem.retryable,
    );
  }
}

/** The gateway inspects one model of a user at a time. The inspection of the file chosen before may still be running. */
async function inspectPatiently(skeleton, file, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await api.inspect(skeleton, file, signal);
    } catch (problem) {
      if (problem.status !== 429 || tries === MAX_TRIES) throw problem;
      const seconds = problem.retryAfterSeconds ?? WAIT_SECONDS;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      signal.throwIfAborted();
    }
  }
}
