// Messages between the tabs of one browser: a sign-in or sign-out, or changed jobs or models.

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("visiona") : null;

/** Send a message to the other tabs. */
export function broadcast(event) {
  channel?.postMessage({ event });
}

/** Call a listener for messages from other tabs, not from this one. */
export function onMessage(listener) {
  channel?.addEventListener("message", ({ data }) => listener(data?.event));
}
