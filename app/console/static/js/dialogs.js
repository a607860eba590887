// Confirmation dialogs. <dialog> traps the focus, closes on Escape, and restores the focus.

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

let count = 0;

/** Resolve to whether the user confirmed. The safe choice has the focus. */
export function confirmLoss({ title, text, yes, symbol = "trash" }) {
  count += 1;
  const name = `dialog-${count}`;
  const no = h("button", { class: "button quiet", value: "no" }, t("dialog.cancel"));
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": `${name}-title`, "aria-describedby": `${name}-text` },
    h(
      "form",
      { method: "dialog" },
      h("div", { class: "medal bad" }, icon(symbol)),
      h("h2", { id: `${name}-title` }, title),
      h("p", { id: `${name}-text` }, text),
      h("div", { class: "actions end" }, no, h("button", { class: "button danger", value: "yes" }, yes)),
    ),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close("no");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
    no.focus();
  });
}
