// Part 3 of the form: the model's ID and version on the chip. The fields that the user doesn't edit have the proposed values.

import { announce } from "../../announcer.js";
import { chipName } from "../../chips.js";
import { h, setText } from "../../dom.js";
import { formatAgo } from "../../format.js";
import { language, t } from "../../i18n.js";
import { shortName } from "../../names.js";

export function identitySection({ form, identities }, changed) {
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
  let asked;

  async function propose() {
    const { modelName: name, platform, base, edited, errors } = form;
    const entered = ["modelId", "version"].map((field) => edited.has(field) && form[field]);
    const wanted = JSON.stringify([name, platform, base, entered]);
    if (wanted === asked) return;
    asked = wanted;
    // Without a model there is nothing to propose, and an ID may not be complete yet.
    const isReady = name !== null && !(edited.has("modelId") && errors.modelId);
    const request = { name, platform, base, edited, modelId: form.modelId.trim(), version: form.version.trim() };
    // Without the earlier jobs, the user enters both.
    const found = isReady ? await identities.propose(request).catch(() => null) : null;
    if (asked !== wanted) return;
    form.modelId = found?.modelId ?? form.modelId;
    form.version = found?.version ?? form.version;
    id.explain(found && noteOnId(found, name, base));
    version.explain(found && noteOnVersion(found, platform));
    if (found?.usedBy) announce(version.note);
    if (found) changed();
  }

  return {
    element,
    update() {
      id.update();
      version.update();
      propose();
    },
  };
}

function noteOnId({ last, takenBy }, name, base) {
  if (takenBy) return t("form.id.next", { id: base.modelId, name: nameOf(takenBy) });
  return last ? t("form.id.last", { name: shortName(name) }) : null;
}

function noteOnVersion({ isNext, nextVersion, usedBy }, platform) {
  const chip = chipName(platform);
  if (!usedBy) return isNext ? t("form.version.next", { chip }) : null;
  const time = formatAgo(usedBy.created_at, Date.now(), language());
  const used = t("form.version.used", { name: nameOf(usedBy), chip, time });
  return [
    h("a", { href: `#/jobs/${encodeURIComponent(usedBy.job_id)}` }, used),
    nextVersion && ` ${t("form.version.free", { version: nextVersion })}`,
  ];
}

const nameOf = ({ filename }) => (filename ? shortName(filename) : t("job.unnamed"));

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
        form.edited.add(name);
        changed();
      },
      blur: () => {
        form.touched.add(name);
        // An empty field gets the proposed value again.
        if (!input.value.trim()) form.edited.delete(name);
        changed();
      },
    },
    ...attributes,
  });
  const hintText = h("p", { class: "hint", id: `${name}-hint` }, hint);
  const error = h("p", { class: "error", id: `${name}-error` });
  return {
    element: h("div", { class: "field" }, h("label", { for: name }, label), input, error, hintText),
    /** Say where the value comes from, or who has used it, instead of what is allowed. */
    explain(note) {
      hintText.replaceChildren(...[note ?? hint].flat().filter(Boolean));
    },
    get note() {
      return hintText.textContent;
    },
    update() {
      if (input.value !== form[name]) input.value = form[name];
      // Show no error while the user is still typing.
      const textKey = form.touched.has(name) && form.errors[name];
      setText(error, textKey ? t(textKey) : "");
      hintText.hidden = Boolean(textKey);
      input.setAttribute("aria-invalid", String(Boolean(textKey)));
    },
  };
}
