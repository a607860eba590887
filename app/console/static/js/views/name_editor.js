// A name that the user can change in place.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { cutName } from "./pieces.js";

const MOST_CHARACTERS = 200;

/**
 * Return the name, or a field while it is edited: Enter saves, Escape cancels. `begin` is called when the user begins.
 * `save(name, refuse)` resolves to the new name, or to null if it could not be saved; `refuse(text)` says why at the field.
 */
export function nameEditor(name, { begin = () => {}, save }) {
  const area = h("div", { class: "name-editor" });

  function rest({ withFocus = false } = {}) {
    const edit = h(
      "button",
      {
        class: "icon-button",
        type: "button",
        "aria-label": t("rename.label", { name }),
        title: t("rename"),
        on: { click: change },
      },
      icon("edit"),
    );
    area.replaceChildren(h("strong", { class: "row-name" }, cutName(name)), edit);
    if (withFocus) edit.focus();
  }

  function change() {
    begin();
    const input = h("input", {
      class: "input",
      type: "text",
      value: name,
      maxlength: MOST_CHARACTERS,
      "aria-label": t("rename.field"),
    });
    const error = h("p", { class: "error", role: "alert" });
    const press = h("button", { class: "button small", type: "submit" }, t("rename.save"));
    const leave = h(
      "button",
      { class: "button plain small", type: "button", on: { click: () => rest({ withFocus: true }) } },
      t("dialog.cancel"),
    );
    const refuse = (text) => {
      error.textContent = text;
      input.focus();
    };
    const form = h(
      "form",
      { class: "rename", novalidate: true },
      input,
      error,
      h("div", { class: "actions" }, press, leave),
    );
    form.addEventListener("keydown", (event) => {
      // Escape also cancels the composition of Chinese characters. Ignore that.
      if (event.key !== "Escape" || event.isComposing) return;
      // It must not close a dialog around the name.
      event.preventDefault();
      rest({ withFocus: true });
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (press.classList.contains("busy")) return;
      const wanted = input.value.trim();
      if (!wanted) {
        refuse(t("rename.empty"));
        return;
      }
      press.classList.add("busy");
      const saved = wanted === name ? name : await save(wanted, refuse);
      press.classList.remove("busy");
      if (saved === null) return;
      name = saved;
      rest({ withFocus: true });
    });
    area.replaceChildren(form);
    input.focus();
    input.select();
  }

  rest();
  return area;
}
