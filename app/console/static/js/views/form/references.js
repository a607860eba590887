// Part 4 of the form: reference images.

import { h, icon } from "../../dom.js";
import { formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { button } from "../problem.js";

const SHOWN_REFERENCES = 5;

export function referenceSection(form, changed, onChosen) {
  const input = h("input", {
    type: "file",
    id: "references",
    class: "unseen",
    multiple: true,
    accept: "image/*,.npy,.bin",
    on: {
      change: () => {
        add([...input.files]);
        input.value = "";
      },
    },
  });
  const list = h("div", { class: "references" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "references-title" },
    h(
      "h2",
      { id: "references-title" },
      h("span", { class: "step-number", "aria-hidden": "true" }, "4"),
      t("form.references"),
      h("span", { class: "optional" }, t("form.optional")),
    ),
    h("p", { class: "quiet-text", id: "references-hint" }, t("form.references.text")),
    input,
    list,
  );
  let shown = null;

  function add(files) {
    // If a file is chosen twice, use the later choice, because the file may have changed.
    const named = new Map([...form.references, ...files].map((file) => [`${file.name}/${file.size}`, file]));
    form.references = [...named.values()];
    changed();
    onChosen();
  }

  function clear() {
    form.references = [];
    changed();
    input.focus();
  }

  function update() {
    if (shown === form.references) return;
    shown = form.references;
    const size = shown.reduce((sum, file) => sum + file.size, 0);
    const rest = shown.length - SHOWN_REFERENCES;
    list.replaceChildren(
      ...(shown.length > 0
        ? [
            h(
              "p",
              { class: "reference-count" },
              h("strong", {}, t("form.references.count", { n: shown.length })),
              ` · ${formatSize(size, language())}`,
            ),
            h(
              "ul",
              { class: "reference-names" },
              shown.slice(0, SHOWN_REFERENCES).map((file) => h("li", {}, icon("image"), h("span", {}, file.name))),
              rest > 0 && h("li", {}, h("span", {}, t("form.references.more", { n: rest }))),
            ),
          ]
        : []),
      h(
        "div",
        { class: "actions" },
        h(
          "label",
          { class: "button quiet small", for: "references" },
          icon("plus"),
          h("span", {}, t("form.references.add")),
        ),
        shown.length > 0 && button(t("form.references.clear"), { kind: "plain small", run: clear }),
      ),
    );
  }

  return { element, add, update };
}
