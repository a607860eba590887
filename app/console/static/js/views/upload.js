// An upload in progress: amount, speed, time left, and a cancel button.

import { announce, toast } from "../announcer.js";
import { chipName } from "../chips.js";
import { focusOn, h, icon, setText } from "../dom.js";
import { formatClock, formatDuration, formatPercent, formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { cutName, pageHead } from "./pieces.js";
import { button } from "./problem.js";
import { progressBar } from "./progress.js";

const ANNOUNCED = [0.25, 0.5, 0.75];
const TICK_MILLISECONDS = 1000;
const STALLED_MILLISECONDS = 5000;
const SOON_MILLISECONDS = 15 * 60 * 1000;

const TITLES = {
  accepting: "upload.accepting",
  waiting: "upload.lost",
  recovering: "upload.recovering",
  unnoticed: "upload.recovering",
};
/** The states that are announced with their note. */
const EXPLAINED = new Set(["waiting", "offline", "unnoticed"]);

export function uploadPanel({ conversion }) {
  const { upload } = conversion;
  const bar = progressBar(t("upload.progress"));
  const percent = h("span", { class: "big-number" });
  const amount = h("span", {});
  const speed = h("span", {});
  const left = h("span", {});
  const note = h("p", { class: "quiet-text" });
  const abort = button(t("upload.abort"), {
    symbol: "cross",
    kind: "quiet",
    async run() {
      const isTooLate = await conversion.abort();
      toast(t(isTooLate ? "upload.too_late" : "upload.canceled"));
    },
    id: "abort",
  });
  const hurry = button(t("upload.hurry"), { symbol: "upload", run: () => upload.hurry(), id: "hurry" });
  const symbol = icon("upload");
  const title = h("h2", {});
  const panel = h(
    "section",
    { class: "panel transfer" },
    h(
      "div",
      { class: "transfer-head" },
      h("span", { class: "file-icon" }, symbol),
      h(
        "div",
        { class: "file-text" },
        title,
        h("p", { class: "quiet-text transfer-file" }, cutName(upload.filename), `→ ${chipName(upload.platform)}`),
      ),
      percent,
    ),
    bar.element,
    h("p", { class: "transfer-numbers" }, amount, speed, left),
    note,
    h("div", { class: "actions" }, hurry, abort),
  );
  const element = h("div", { class: "page narrow" }, pageHead(t("upload.title"), t("upload.lead")), panel);
  let announced = 0;
  let said = null;
  let wasStalled = false;

  function update() {
    const { phase } = conversion;
    const isSending = phase === "uploading";
    const isSent = phase === "accepting";
    const isWaiting = phase === "waiting";
    const share = upload.total ? Math.min(1, upload.loaded / upload.total) : 0;
    const shown = formatPercent(Math.floor(share * 100) / 100, language());
    const words = t(TITLES[phase] ?? "upload.sending");
    bar.update(isSending || isWaiting ? share : null, isSending ? shown : words);
    setText(title, words);
    setText(percent, isSent ? formatPercent(1, language()) : isSending ? shown : "");
    const sizes = { loaded: formatSize(upload.loaded, language()), total: formatSize(upload.total, language()) };
    setText(amount, isSending || isSent ? t("upload.amount", sizes) : "");
    // While nothing is being sent, the last speed and time would be wrong.
    const isStalled = isSending && performance.now() - upload.movedAt > STALLED_MILLISECONDS;
    const isMoving = isSending && !isStalled;
    const rate = isMoving ? upload.bytesPerSecond : null;
    setText(speed, rate === null ? "" : t("upload.speed", { size: formatSize(rate, language()) }));
    const time = isMoving ? upload.millisecondsLeft : null;
    const remaining = time === null ? "" : t("upload.left", { time: formatDuration(time, language()) });
    setText(left, isStalled ? t("upload.stalled") : remaining);
    if (isStalled && !wasStalled) announce(t("upload.stalled"));
    wasStalled = isStalled;
    setText(note, noteOf(phase, upload));
    if (!isWaiting && document.activeElement === hurry) focusOn(element.querySelector("h1"));
    hurry.hidden = !isWaiting;
    panel.classList.toggle("sent", isSent);
    panel.classList.toggle("interrupted", isWaiting);
    symbol.firstChild.setAttribute("href", isWaiting ? "#i-alert" : "#i-upload");
    announceState(isWaiting && upload.isOffline ? "offline" : phase, words);
    if (!isSending) announced = 0;
    while (isSending && announced < ANNOUNCED.length && share >= ANNOUNCED[announced]) {
      announced += 1;
      announce(t("upload.said", { share: shown }));
    }
  }

  /** Announce a state once, and not each second of a countdown. */
  function announceState(state, words) {
    if (state === said) return;
    // The first state is part of the page. Announce only later ones.
    if (said !== null) announce(EXPLAINED.has(state) ? `${words}. ${note.textContent}` : words);
    said = state;
  }

  const ticking = setInterval(update, TICK_MILLISECONDS);
  update();
  // Focus the heading and not the button, so that a key held too long doesn't cancel the upload it started.
  return { element, update, destroy: () => clearInterval(ticking) };
}

function noteOf(phase, upload) {
  const time = formatDuration(upload.secondsLeft * 1000, language());
  if (phase === "waiting") return upload.isOffline ? t("upload.lost.offline") : t("upload.lost.text", { time });
  if (phase === "recovering") return t("upload.recovering.text");
  if (phase === "unnoticed") return t("upload.unnoticed", { time });
  return t(phase === "accepting" ? "upload.accepting.text" : "upload.stay") + endsSoon(upload);
}

/** Tell the user if the session ends during the upload, although the upload will still complete. */
function endsSoon({ sessionExpiresAt }) {
  const left = Date.parse(sessionExpiresAt) - Date.now();
  if (!(left < SOON_MILLISECONDS)) return "";
  return ` ${t("upload.session_ends", { time: formatClock(sessionExpiresAt, language()) })}`;
}
