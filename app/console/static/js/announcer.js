// What a screen reader is told, and the small messages that come and go.

import { h, icon } from "./dom.js";

const SHOWN_MILLISECONDS = 6000;
let last = "";

/** Say something once, politely. */
export function announce(text) {
  const region = document.getElementById("announcer");
  // The same words again are a new message; an unchanged region would stay silent.
  region.textContent = text === last ? `${text}\u00a0` : text;
  last = region.textContent;
}

/** Show, and say, that something went well. */
export function toast(text, symbol = "check") {
  const message = h("div", { class: "toast" }, icon(symbol), h("span", {}, text));
  document.getElementById("toasts").append(message);
  announce(text);
  setTimeout(() => message.remove(), SHOWN_MILLISECONDS);
}
