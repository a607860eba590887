// A progress bar; indeterminate without a share.

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
    /** Set the `share`: from 0 to 1, or null if unknown. */
    update(share, text) {
      element.classList.toggle("endless", share === null);
      if (share === null) element.removeAttribute("aria-valuenow");
      else element.setAttribute("aria-valuenow", String(Math.round(share * 100)));
      if (text) element.setAttribute("aria-valuetext", text);
      fill.style.transform = share === null ? "" : `scaleX(${Math.min(1, Math.max(0, share))})`;
    },
  };
}
