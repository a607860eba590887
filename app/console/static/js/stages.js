// How long each stage of a job took. The API says which stage a job is in and when that was last updated; when a stage
// began is what a watcher saw. Pure: a record goes in, a record comes out; several tabs' records can be merged.

export const STAGES = ["onnx", "bie", "nef"];

/** Seen less often than this, a boundary between two stages is only roughly known. */
const CLOSE_MILLISECONDS = 8000;

const time = (text) => {
  const milliseconds = Date.parse(text ?? "");
  return Number.isFinite(milliseconds) ? milliseconds : null;
};

/** The record after the job was seen in this state at `now` (milliseconds, the server's clock). */
export function observe(record, job, now) {
  const began = { ...record?.began };
  const rough = { ...record?.rough };
  const updated = time(job.updated_at);
  const at = updated === null ? now : Math.min(updated, now);
  const index = job.stage_index ?? -1;
  const stage = STAGES[index];
  // Whoever sees a stage for the first time when all is over cannot know when it began.
  if (stage && !(stage in began) && !job.terminal) {
    // Either somebody looked a moment ago and it was not there yet, or it has only just begun anyway.
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
    endedIn: record?.endedIn ?? (job.terminal ? (stage ?? null) : null),
  };
}

/** What two watchers know together. */
export function merge(one, other) {
  if (!one || !other) return one ?? other ?? null;
  const began = { ...one.began };
  const rough = { ...one.rough };
  for (const [stage, at] of Object.entries(other.began ?? {})) {
    if (!(stage in began) || at < began[stage]) {
      began[stage] = at;
      rough[stage] = other.rough?.[stage] ?? true;
    }
  }
  return {
    began,
    rough,
    seenAt: Math.max(one.seenAt ?? 0, other.seenAt ?? 0),
    endedAt: one.endedAt ?? other.endedAt ?? null,
    endedIn: one.endedIn ?? other.endedIn ?? null,
  };
}

/** For each stage: `state` (pending, running, done, failed), `milliseconds` (null: nobody saw it), `isRough`. */
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
