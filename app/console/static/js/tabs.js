// What the tabs of one browser tell one another: that somebody signed in or out, that jobs or models have changed.

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("visiona") : null;

/** Tell the other tabs. */
export function tell(event) {
  channel?.postMessage({ event });
}

/** Be told by other tabs; never by this one. */
export function onTold(listener) {
  channel?.addEventListener("message", ({ data }) => listener(data?.event));
}
