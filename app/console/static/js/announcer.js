// Announcements for screen readers, and toasts.

import { h, icon } from "./dom.js";

const SHOWN_MILLISECONDS = 6000;
/** A screen reader may miss a message that is replaced earlier. */
const SAID_MILLISECONDS = 1000;
/** If there are more, the oldest are out of date. */
const MOST_WAITING = 3;
const waiting = [];
let timer = null;
let last = "";

/** Announce a message to screen readers, after those that were announced just before. */
export function announce(text) {
  if (waiting.includes(text)) return;
  waiting.push(text);
  if (waiting.length > MOST_WAITING) waiting.shift();
  if (timer === null) sayNext();
}

function sayNext() {
  if (waiting.length === 0) {
    timer = null;
    return;
  }
  timer = setTimeout(sayNext, SAID_MILLISECONDS);
  const text = waiting.shift();
  // Screen readers don't announce a text that hasn't changed.
  last = text === last ? `${text}\u00a0` : text;
  document.getElementById("announcer").textContent = last;
}

/** Show and announce that an action succeeded. Names in the text must be short (`shortName`). */
export function toast(text, symbol = "check") {
  const message = h("div", { class: "toast" }, icon(symbol), h("span", {}, text));
  document.getElementById("toasts").append(message);
  announce(text);
  setTimeout(() => message.remove(), SHOWN_MILLISECONDS);
}
