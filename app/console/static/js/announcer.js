// Announcements for screen readers, and toasts.

import { h, icon } from "./dom.js";

const SHOWN_MILLISECONDS = 6000;
let last = "";

/** Announce a message to screen readers. */
export function announce(text) {
  const region = document.getElementById("announcer");
  // Clear the region first: screen readers don't announce a text that hasn't changed.
  region.textContent = text === last ? `${text}\u00a0` : text;
  last = region.textContent;
}

/** Show and announce that an action succeeded. Names in the text must be short (`shortName`). */
export function toast(text, symbol = "check") {
  const message = h("div", { class: "toast" }, icon(symbol), h("span", {}, text));
  document.getElementById("toasts").append(message);
  announce(text);
  setTimeout(() => message.remove(), SHOWN_MILLISECONDS);
}
