// The duration of each stage of a job. The API reports what the gateway observed. This page adds its own observations,
// which may be more exact. Pure functions on records; records of several observers can be merged.

export const STAGES = ["onnx", "bie", "nef"];

/** If polls are further apart than this, the boundary between two stages is only approximate. */
const CLOSE_MILLISECONDS = 8000;

const time = (text) => {
  const milliseconds = Date.parse(text ?? "");
  return Number.isFinite(milliseconds) ? milliseconds : null;
};

/** Return the gateway's observations of a job's stages as a record. */
export function fromGateway(job) {
  const record = { began: {}, rough: {}, seenAt: null, endedAt: null };
  for (const { stage, started_at, ended_at, approximate } of job.stages ?? []) {
    record.began[stage] = time(started_at);
    record.rough[stage] = approximate;
    // The last stage ends with the job; each earlier stage ends when the next one starts.
    record.endedAt = job.terminal ? time(ended_at) : null;
  }
  return record;
}

/** Return the record after the job was observed in this state at `now` (milliseconds, the server's clock). */
export function observe(record, job, now) {
  const began = { ...record?.began };
  const rough = { ...record?.rough };
  const updated = time(job.updated_at);
  const at = updated === null ? now : Math.min(updated, now);
  const index = job.stage_index ?? -1;
  const stage = STAGES[index];
  // If a stage is first seen when the job has ended, its start is unknown.
  if (stage && !(stage in began) && !job.terminal) {
    // Exact if the previous poll was a moment ago, or if the job has only just started.
    const lastLook = record?.seenAt ?? null;
    const created = time(job.created_at);
    began[stage] = at;
    rough[stage] =
      !(lastLook !== null && at - lastLook < CLOSE_MILLISECONDS) &&
      !(index === 0 && created !== null && at - created < CLOSE_MILLISECONDS);
  }
  return {
    began,
    rough,
    seenAt: now,
    endedAt: record?.endedAt ?? (job.terminal ? at : null),
  };
}

/** Merge the records of two observers. */
export function merge(one, other) {
  if (!one || !other) return one ?? other ?? null;
  const began = { ...one.began };
  const rough = { ...one.rough };
  for (const [stage, at] of Object.entries(other.began ?? {})) {
    const isRough = other.rough?.[stage] ?? true;
    if (!(stage in began) || at < began[stage]) {
      began[stage] = at;
      rough[stage] = isRough;
    } else if (at === began[stage]) rough[stage] &&= isRough;
  }
  return {
    began,
    rough,
    seenAt: Math.max(one.seenAt ?? 0, other.seenAt ?? 0),
    endedAt: one.endedAt ?? other.endedAt ?? null,
  };
}

/** For each stage: `state` (pending, running, done, failed), `milliseconds` (null: not observed), `isRough`. */
export function stageTimes(record, job, now) {
  const reached = job.stage_index ?? -1;
  const hasFailed = job.terminal && job.status !== "completed";
  return STAGES.map((stage, index) => {
    const state =
      job.status === "completed" || index < reached
        ? "done"
        : index > reached
          ? "pending"
          : hasFailed
            ? "failed"
            : "running";
    const from = record?.began?.[stage] ?? null;
    const next = STAGES[index + 1];
    let to = null;
    if (state === "running") to = now;
    else if (state === "failed" || (state === "done" && !next)) to = record?.endedAt ?? null;
    else if (state === "done") to = record?.began?.[next] ?? null;
    const isKnown = state !== "pending" && from !== null && to !== null;
    return {
      stage,
      state,
      milliseconds: isKnown ? Math.max(0, to - from) : null,
      isRough: isKnown && Boolean(record.rough?.[stage] || (state === "done" && next && record.rough?.[next])),
    };
  });
}
