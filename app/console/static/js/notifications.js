// Notifications of the operating system at the end of a conversion. Each tab has its own switch.

import { chipName } from "./chips.js";
import { language, t } from "./i18n.js";
import { shortName } from "./names.js";
import { tab } from "./storage.js";

const KEY = "notify";

let canConstruct = null;

/** Tell whether this browser has notifications that a page can show. */
export function canNotify() {
  if (!globalThis.isSecureContext || !("Notification" in globalThis)) return false;
  // With the permission, this attempt would show an empty notification.
  if (Notification.permission !== "granted") canConstruct ??= tryConstructor();
  return canConstruct ?? true;
}

/** Browsers of phones have the constructor, but it throws. */
function tryConstructor() {
  try {
    new Notification("");
    return true;
  } catch {
    return false;
  }
}

export const isNotifying = () => canNotify() && Notification.permission === "granted" && tab.get(KEY) === true;

/** Switch notifications on or off. Call it in a click, because the browser may ask the user. Resolves to the permission. */
export async function setNotifying(isOn) {
  const permission = isOn ? await Notification.requestPermission() : Notification.permission;
  tab.set(KEY, isOn && permission === "granted");
  return permission;
}

/** Notify the user that a job has ended, unless they are looking at the page. */
export function notifyEnd({ job_id: id, status, filename, parameters }) {
  if (!isNotifying() || (!document.hidden && document.hasFocus())) return;
  const name = shortName(filename || t("job.unnamed"));
  // Two tabs that watch the same job show one notification.
  const options = { body: chipName(parameters?.platform), tag: id, lang: language() };
  let notification;
  try {
    notification = new Notification(t(`notify.${status}`, { name }), options);
  } catch {
    // A phone whose user had allowed notifications before this page could ask.
    canConstruct = false;
    return;
  }
  notification.addEventListener("click", () => {
    window.focus();
    location.hash = `#/jobs/${encodeURIComponent(id)}`;
    notification.close();
  });
}
