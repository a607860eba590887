// An upload in progress: amount, speed, time left, and a cancel button.

import { announce } from "../announcer.js";
import { chipName } from "../chips.js";
import { h, icon, setText } from "../dom.js";
import { formatClock, formatDuration, formatPercent, formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { cutName, pageHead } from "./pieces.js";
import { button } from "./problem.js";
import { progressBar } from "./progress.js";

const ANNOUNCED = [0.25, 0.5, 0.75];
const TICK_MILLISECONDS = 1000;
const STALLED_MILLISECONDS = 5000;
const SOON_MILLISECONDS = 15 * 60 * 1000;

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
    run: () => conversion.abort(),
    id: "abort",
  });
  const title = h("h2", {});
  const panel = h(
    "section",
    { class: "panel transfer" },
    h(
      "div",
      { class: "transfer-head" },
      h("span", { class: "file-icon" }, icon("upload")),
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
    h("div", { class: "actions" }, abort),
  );
  const element = h("div", { class: "page narrow" }, pageHead(t("upload.title"), t("upload.lead")), panel);
  let announced = 0;
  let wasSent = false;
  let wasStalled = false;

  function update() {
    const isSent = conversion.phase === "accepting";
    const share = upload.total ? Math.min(1, upload.loaded / upload.total) : 0;
    const shown = formatPercent(Math.floor(share * 100) / 100, language());
    bar.update(isSent ? null : share, isSent ? t("upload.accepting") : shown);
    setText(title, t(isSent ? "upload.accepting" : "upload.sending"));
    setText(percent, isSent ? formatPercent(1, language()) : shown);
    const sizes = { loaded: formatSize(upload.loaded, language()), total: formatSize(upload.total, language()) };
    setText(amount, t("upload.amount", sizes));
    // While nothing is being sent, the last speed and time would be wrong.
    const isStalled = !isSent && performance.now() - upload.movedAt > STALLED_MILLISECONDS;
    const rate = isSent || isStalled ? null : upload.bytesPerSecond;
    setText(speed, rate === null ? "" : t("upload.speed", { size: formatSize(rate, language()) }));
    const time = isSent || isStalled ? null : upload.millisecondsLeft;
    const remaining = time === null ? "" : t("upload.left", { time: formatDuration(time, language()) });
    setText(left, isStalled ? t("upload.stalled") : remaining);
    if (isStalled && !wasStalled) announce(t("upload.stalled"));
    wasStalled = isStalled;
    setText(note, t(isSent ? "upload.accepting.text" : "upload.stay") + endsSoon(upload));
    panel.classList.toggle("sent", isSent);
    if (isSent && !wasSent) announce(t("upload.accepting"));
    while (!isSent && announced < ANNOUNCED.length && share >= ANNOUNCED[announced]) {
      announced += 1;
      announce(t("upload.said", { share: shown }));
    }
    wasSent = isSent;
  }

  const ticking = setInterval(update, TICK_MILLISECONDS);
  update();
  // Focus the heading and not the button, so that a key held too long doesn't cancel the upload it started.
  return { element, update, destroy: () => clearInterval(ticking) };
}

/** Tell the user if the session ends during the upload, although the upload will still complete. */
function endsSoon({ sessionExpiresAt }) {
  const left = Date.parse(sessionExpiresAt) - Date.now();
  if (!(left < SOON_MILLISECONDS)) return "";
  return ` ${t("upload.session_ends", { time: formatClock(sessionExpiresAt, language()) })}`;
}
