// Compare a file with the model of an earlier conversion.

import * as api from "./api.js";

/** Browsers compute digests only of data that is entirely in memory. */
const MOST_BYTES = 512 * 1024 * 1024;

/**
 * Resolve to `same` (size and SHA-256 agree), `other_size`, `other_contents`, `unknown` (not even the earlier size is
 * known), or `same_size` if the contents cannot be compared: the gateway has no digest of the earlier model, or this
 * browser cannot compute one.
 */
export async function compareWithJob(file, { size, job }, { ask = api.receipt, digest = sha256 } = {}) {
  if (size === null) return "unknown";
  if (file.size !== size) return "other_size";
  const wanted = job.sha256 ?? (await digestOf(job.jobId, ask));
  const found = wanted && file.size <= MOST_BYTES ? await digest(file).catch(() => null) : null;
  if (!found) return "same_size";
  return found === wanted ? "same" : "other_contents";
}

/** Lists of jobs have no digests. The receipt has one if the gateway is configured to compute it. */
async function digestOf(jobId, ask) {
  try {
    return (await ask(jobId)).data.model.sha256;
  } catch {
    return null;
  }
}

/** Browsers have no `crypto.subtle` on pages by plain HTTP, and then this rejects. */
async function sha256(file) {
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
