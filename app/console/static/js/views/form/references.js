// Part 4 of the form: reference images.

import { announce } from "../../announcer.js";
import { findUnreadable } from "../../files.js";
import { h, setText } from "../../dom.js";
import { formatNumber, formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { findDuplicates } from "../../references/duplicates.js";
import { inOrder, sizeOf, uploadNames } from "../../references/images.js";
import { sortFiles } from "../../references/kinds.js";
import { chosenFiles } from "../../references/walk.js";
import { button } from "../problem.js";
import { choiceNote } from "./choice_note.js";
import { showImageSets } from "./image_sets.js";
import { countOf, referenceGroups } from "./reference_groups.js";

const SIZES_AT_ONCE = 100;

export function referenceSection(form, sets, changed, onChosen) {
  const files = picker({ id: "references", accept: "image/*,.npy,.bin" });
  const folder = picker({ id: "reference-folder", webkitdirectory: true });
  const count = h("p", { class: "reference-count", hidden: true });
  const groups = referenceGroups(remove);
  const explanation = h("div", { class: "quiet-text", id: "references-names" });
  const error = h("p", { class: "error", id: "references-error" });
  const note = h("div", {});
  const addFiles = button(t("form.references.add"), {
    symbol: "plus",
    kind: "quiet small",
    run: () => files.click(),
    id: "add-images",
    "data-field": "references",
    "aria-describedby": "references-error references-names",
  });
  const clear = button(t("form.references.clear"), { kind: "plain small", run: () => remove(form.references, "") });
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
    // The number is from the section "Data Path Distribution Analyzer" of Kneron's manual.
    h("p", { class: "quiet-text" }, t("form.references.text")),
    files,
    folder,
    h(
      "div",
      { class: "references" },
      count,
      groups.element,
      explanation,
      error,
      note,
      h(
        "div",
        { class: "actions" },
        addFiles,
        "webkitdirectory" in folder &&
          button(t("form.references.add_folder"), {
            symbol: "folder",
            kind: "quiet small",
            run: () => folder.click(),
            id: "add-folder",
          }),
        button(t("sets.open"), {
          symbol: "image",
          kind: "plain small",
          run: () => showImageSets(form, sets, add),
          id: "image-sets",
        }),
        clear,
      ),
    ),
  );
  let shown = [];
  let adding = Promise.resolve();
  let pending = 0;

  function picker(attributes) {
    const choose = () => {
      const { models, images, ignored } = sortFiles(chosenFiles(input.files));
      input.value = "";
      add(images, [...ignored, ...models.map(({ path }) => ({ path, reason: "model" }))]);
    };
    const input = h("input", { type: "file", hidden: true, multiple: true, ...attributes, on: { change: choose } });
    return input;
  }

  /** Add images after those that are being added. `ignored` are files of the same choice that were not taken. */
  function add(images, ignored = []) {
    adding = whileReading(() => addNow(images, ignored)).then((duplicates) => {
      announce(spoken(images.length - duplicates, duplicates, ignored.length));
      onChosen();
    });
    return adding;
  }

  /** Resolve to the number of duplicates, which are left out. */
  async function addNow(images, ignored) {
    await readSizes(images);
    const before = form.references;
    const paths = new Set(images.map(({ path }) => path));
    // A file that was edited on disk and is now chosen again replaces the earlier choice.
    const again = before.filter(({ path }) => paths.has(path)).map(({ file }) => file);
    const gone = new Set(await findUnreadable(again));
    const all = [...before.filter(({ file }) => !gone.has(file)), ...inOrder(images)];
    const duplicates = await findDuplicates(all);
    // The user may have removed some of the earlier ones in the meantime.
    const wanted = new Set([...form.references, ...images]);
    form.references = inOrder(all.filter((image) => wanted.has(image) && !duplicates.has(image)));
    note.replaceChildren(...[choiceNote({ ignored, duplicates }, closeNote)].filter(Boolean));
    return duplicates.size;
  }

  function spoken(added, duplicates, ignored) {
    const mistake = form.errors.references;
    return [
      t("form.references.added", { n: added }),
      duplicates > 0 && t("choice.duplicates", { n: duplicates }),
      ignored > 0 && t("choice.ignored", { n: ignored }),
      mistake && t(mistake, errorValues(form)),
    ]
      .filter(Boolean)
      .join(t("advice.separator"));
  }

  /** Do something that the start of the conversion must wait for. */
  async function whileReading(work) {
    const before = adding;
    pending += 1;
    form.isReadingReferences = true;
    changed();
    try {
      await before.catch(() => {});
      return await work();
    } finally {
      pending -= 1;
      form.isReadingReferences = pending > 0;
      changed();
    }
  }

  function remove(images, name) {
    const gone = new Set(images);
    const buttons = [...element.querySelectorAll(".reference .icon-button")];
    const index = buttons.indexOf(document.activeElement);
    form.references = form.references.filter((image) => !gone.has(image));
    if (form.references.length === 0) note.replaceChildren();
    changed();
    const next = [...element.querySelectorAll(".reference .icon-button")];
    (next[Math.min(index, next.length - 1)] ?? addFiles).focus();
    announce(name ? t("form.references.removed", { name }) : t("form.references.removed_all"));
  }

  function closeNote() {
    note.replaceChildren();
    addFiles.focus();
  }

  function update() {
    const { references, errors, inspection, lostReferences } = form;
    setText(error, errors.references ? t(errors.references, errorValues(form)) : "");
    error.classList.toggle("busy", form.isReadingReferences);
    const state = [references, inspection, lostReferences];
    if (shown.every((value, index) => value === state[index]) && shown.length > 0) return;
    shown = state;
    const inputs = (inspection?.advice?.inputs ?? []).map(({ name }) => name);
    count.hidden = references.length === 0;
    clear.hidden = references.length === 0;
    setText(count, countOf(references.length, sizeOf(references)));
    groups.update(references, inputs);
    explanation.replaceChildren(...explanationOf(form, inputs).map((text) => h("p", {}, text)));
    explanation.classList.toggle("lost", lostReferences > 0);
  }

  return { element, add, whileReading, update };
}

/** Read all sizes in portions: a browser reads each from the disk at its first use, which blocks the page. */
async function readSizes(images) {
  for (let from = 0; from < images.length; from += SIZES_AT_ONCE) {
    sizeOf(images.slice(from, from + SIZES_AT_ONCE));
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** Return what to know about the current selection, in sentences. */
function explanationOf({ references, lostReferences }, inputs) {
  if (lostReferences > 0) return [t("form.references.lost", { n: lostReferences })];
  const several = inputs.length > 1 && t("form.references.inputs", { count: inputs.length, names: inputs.join(", ") });
  if (references.length === 0) return [several, t("form.references.without")].filter(Boolean);
  const names = uploadNames(references);
  const renamed = names.find((name, index) => name !== references[index].file.name);
  return [several, renamed && t("form.references.names", { example: renamed })].filter(Boolean);
}

/** Return the values for the texts of `errors.references` and of `form.too_large`. */
export function errorValues(form) {
  return {
    count: formatNumber(form.references.length, language()),
    limit: formatNumber(form.limits.images, language()),
    size: formatSize(form.size, language()),
    most: formatSize(form.limits.bytes, language()),
  };
}
