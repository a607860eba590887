// A bar that says how far something is; without a share it says only that something goes on.

import { h } from "../dom.js";

export function progressBar(label) {
  const fill = h("div", { class: "bar-fill" });
  const element = h(
    "div",
    { class: "progress", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 },
    fill,
  );
  return {
    element,
    /** `share` from 0 to 1, or null. */
    update(share, text) {
      element.classList.toggle("endless", share === null);
      if (share === null) element.removeAttribute("aria-valuenow");
      else element.setAttribute("aria-valuenow", String(Math.round(share * 100)));
      if (text) element.setAttribute("aria-valuetext", text);
      fill.style.transform = share === null ? "" : `scaleX(${Math.min(1, Math.max(0, share))})`;
    },
  };
}
