// Parts 2 and 3 of the form: the chip, and the model's ID and version on it.

import { CHIPS, chipName } from "../../chips.js";
import { h, icon, setText } from "../../dom.js";
import { t } from "../../i18n.js";

export function chipSection(form, changed) {
  const element = h(
    "fieldset",
    { class: "panel", "aria-describedby": "chips-hint" },
    h("legend", {}, h("span", { class: "step-number", "aria-hidden": "true" }, "2"), t("form.chip")),
    h("p", { class: "quiet-text", id: "chips-hint" }, t("form.chip.text")),
    h(
      "div",
      { class: "chips" },
      CHIPS.map(({ id }) =>
        h(
          "label",
          { class: "chip" },
          h("input", {
            type: "radio",
            name: "platform",
            value: id,
            checked: form.platform === id,
            dataset: { field: "platform" },
            "aria-describedby": `chip-${id}`,
            on: {
              change: () => {
                form.platform = id;
                changed();
              },
            },
          }),
          h("span", { class: "chip-mark", "aria-hidden": "true" }, icon("check")),
          h(
            "span",
            { class: "chip-text" },
            h("strong", {}, chipName(id)),
            h("span", { id: `chip-${id}` }, t(`chip.${id}`)),
          ),
        ),
      ),
    ),
  );
  return { element };
}

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
