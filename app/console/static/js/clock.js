// The server's clock as far as it can be told from its answers: a machine whose clock is wrong still shows right times.

// The Date header has whole seconds, and answers take their time; less than this is no difference.
const NOTICED_MILLISECONDS = 2000;

let offset = 0;

export function learnClock(dateHeader) {
  const date = Date.parse(dateHeader ?? "");
  if (!Number.isFinite(date)) return;
  const found = date + 500 - Date.now();
  offset = Math.abs(found) > NOTICED_MILLISECONDS ? found : 0;
}

/** Milliseconds since the epoch by the server's clock. */
export const serverNow = () => Date.now() + offset;
