// Load the page again as soon as the gateway responds.

const PAUSE_MILLISECONDS = 3000;

async function tryAgain() {
  const response = await fetch("/healthz", { cache: "no-store" }).catch(() => null);
  if (response?.ok) location.reload();
  else setTimeout(tryAgain, PAUSE_MILLISECONDS);
}

setTimeout(tryAgain, PAUSE_MILLISECONDS);
