// The server's clock, estimated from its Date headers, so that times are right even if this device's clock is wrong.

// The Date header has whole seconds, and responses take time. Smaller differences are ignored.
const NOTICED_MILLISECONDS = 2000;

let offset = 0;

export function learnClock(dateHeader) {
  const date = Date.parse(dateHeader ?? "");
  if (!Number.isFinite(date)) return;
  const found = date + 500 - Date.now();
  offset = Math.abs(found) > NOTICED_MILLISECONDS ? found : 0;
}

/** Return the server's time in milliseconds since the epoch. */
export const serverNow = () => Date.now() + offset;
