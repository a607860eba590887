// Confirmation dialogs. <dialog> traps the focus, closes on Escape, and restores the focus.

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

let count = 0;

/** Resolve to the chosen option of `[{name, detail}]`, or to null. */
export function chooseOne({ title, text, options }) {
  const list = options.map(({ name, detail }, index) =>
    h(
      "li",
      {},
      h("button", { class: "choice", value: String(index) }, h("strong", {}, name), h("span", { class: "quiet-text" }, detail)),
    ),
  );
  const { dialog, closed } = showDialog({ title, text }, [
    h("ul", { class: "choices" }, list),
    h("div", { class: "actions end" }, h("button", { class: "button quiet", value: "" }, t("dialog.cancel"))),
  ]);
  dialog.querySelector(".choice").focus();
  return closed.then((value) => (value === "" ? null : options[Number(value)]));
}

/** Resolve to whether the user confirmed. The safe choice has the focus. */
export function confirmLoss({ title, text, yes, symbol = "trash" }) {
  const no = h("button", { class: "button quiet", value: "" }, t("dialog.cancel"));
  const { closed } = showDialog({ title, text, head: h("div", { class: "medal bad" }, icon(symbol)) }, [
    h("div", { class: "actions end" }, no, h("button", { class: "button danger", value: "yes" }, yes)),
  ]);
  no.focus();
  return closed.then((value) => value === "yes");
}

/** Show a dialog. Its buttons close it; `closed` resolves to the value of the one that did, or to "". */
export function showDialog({ title, text, head = null }, content) {
  count += 1;
  const name = `dialog-${count}`;
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": `${name}-title`, "aria-describedby": `${name}-text` },
    h(
      "form",
      { method: "dialog" },
      head,
      h("h2", { id: `${name}-title` }, title),
      h("p", { id: `${name}-text` }, text),
      content,
    ),
  );
  document.body.append(dialog);
  const closed = new Promise((resolve) => {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close("");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
  dialog.showModal();
  return { dialog, closed };
}
