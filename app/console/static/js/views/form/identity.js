// Part 3 of the form: the model's ID and version on the chip.

import { h, setText } from "../../dom.js";
import { t } from "../../i18n.js";

export function identitySection(form, changed) {
  const id = textField(form, "modelId", {
    label: t("form.id"),
    hint: t("form.id.hint"),
    inputmode: "numeric",
    maxlength: 9,
    changed,
  });
  const version = textField(form, "version", {
    label: t("form.version"),
    hint: t("form.version.hint"),
    maxlength: 4,
    changed,
  });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "identity-title" },
    h(
      "h2",
      { id: "identity-title" },
      h("span", { class: "step-number", "aria-hidden": "true" }, "3"),
      t("form.identity"),
    ),
    h("p", { class: "quiet-text" }, t("form.identity.text")),
    h("div", { class: "fields" }, id.element, version.element),
  );
  return {
    element,
    update() {
      id.update();
      version.update();
    },
  };
}

function textField(form, name, { label, hint, changed, ...attributes }) {
  const input = h("input", {
    id: name,
    class: "input",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    value: form[name],
    dataset: { field: name },
    "aria-describedby": `${name}-error ${name}-hint`,
    on: {
      input: () => {
        form[name] = input.value;
        changed();
      },
      blur: () => {
        form.touched.add(name);
        changed();
      },
    },
    ...attributes,
  });
  const hintText = h("p", { class: "hint", id: `${name}-hint` }, hint);
  const error = h("p", { class: "error", id: `${name}-error` });
  return {
    element: h("div", { class: "field" }, h("label", { for: name }, label), input, error, hintText),
    update() {
      // Show no error while the user is still typing.
      const textKey = form.touched.has(name) && form.errors[name];
      setText(error, textKey ? t(textKey) : "");
      hintText.hidden = Boolean(textKey);
      input.setAttribute("aria-invalid", String(Boolean(textKey)));
    },
  };
}
