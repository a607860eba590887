// What the tab is doing: in its title, and in its icon while the tab is in the background.

import { t } from "./i18n.js";

/** There is an icon for each of these percentages. */
const ICONS = [0, 25, 50, 75];

/** The end that the user has seen: a job's ID or a Problem. */
let seen = null;

/**
 * Show the first of these states that is in progress, else the last one: `{phase, upload, watcher, problem}`, as a
 * Conversion has them. `section` is the title of another view.
 */
export function showTabState(states, section) {
  const found = states.map(describe);
  const { text, icon, end } = found.find((state) => state.icon && !state.end) ?? found.at(-1);
  const title = [text, section, t("app.title")].filter(Boolean).join(" – ");
  if (document.title !== title) document.title = title;
  if (!document.hidden) seen = end;
  const isNews = icon && (!end || end !== seen);
  const path = document.hidden && isNews ? `tab/${icon}.svg` : "logo.svg";
  const link = document.querySelector("link[rel=icon]");
  const address = `${document.body.dataset.assets}/${path}`;
  if (link.getAttribute("href") !== address) link.setAttribute("href", address);
}

/** Return the text, the name of the icon, and what has ended. */
function describe({ phase, upload, watcher, problem }) {
  if (phase === "uploading" && upload.total) return progress((upload.loaded / upload.total) * 100, "↑ ");
  if (phase === "accepting") return progress(100, "↑ ");
  if (phase === "recovering" || phase === "unnoticed") return progress(0, "↑ ");
  if (phase === "waiting") return { text: t("upload.lost"), icon: "0" };
  if (phase === "form" && problem) return { text: "✗", icon: "failed", end: problem };
  if (phase !== "job") return { text: "" };
  const { job_id: id, status, terminal, progress: percent, filename } = watcher.job;
  if (!terminal) return progress(percent ?? 0, "", filename);
  const isCompleted = status === "completed";
  return { text: joined(isCompleted ? "✓" : "✗", filename), icon: isCompleted ? "done" : "failed", end: id };
}

function progress(percent, symbol, filename) {
  const icon = ICONS.filter((least) => percent >= least).at(-1);
  return { text: joined(`${symbol}${Math.floor(percent)} %`, filename), icon: String(icon) };
}

const joined = (state, filename) => `${state} ${filename ?? ""}`.trim();
