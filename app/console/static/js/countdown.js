// Wait for the network.

const browser = {
  isOnline: () => navigator.onLine,
  onOnline(listener) {
    window.addEventListener("online", listener);
    return () => window.removeEventListener("online", listener);
  },
  now: () => performance.now(),
  setTimer: (action, milliseconds) => setTimeout(action, milliseconds),
  clearTimer: (timer) => clearTimeout(timer),
};

/**
 * Wait for some seconds, and longer while the browser is offline; end early when it is online again. `onTick` gets
 * `{secondsLeft, isOffline}` once a second. Returns `{done, end}`; `end` ends it now.
 */
export function countDown(seconds, onTick, { isOnline, onOnline, now, setTimer, clearTimer } = browser) {
  const deadline = now() + seconds * 1000;
  let timer = null;
  let finish;
  const done = new Promise((resolve) => {
    finish = resolve;
  });
  const leave = onOnline(end);

  function end() {
    clearTimer(timer);
    leave();
    finish();
  }

  function tick() {
    const secondsLeft = Math.max(0, Math.ceil((deadline - now()) / 1000));
    const isOffline = !isOnline();
    if (secondsLeft === 0 && !isOffline) {
      end();
      return;
    }
    timer = setTimer(tick, 1000);
    onTick({ secondsLeft, isOffline });
  }

  tick();
  return { done, end };
}
