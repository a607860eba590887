// The chosen reference images by folder, with thumbnails. Only some are on the page at once, so thousands stay fast.

import { h, icon } from "../../dom.js";
import { formatNumber, formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { groupByFolder, nameOf } from "../../references/images.js";
import { thumbnail } from "../../references/thumbnails.js";
import { button } from "../problem.js";

const FIRST_IMAGES = 12;
const FIRST_FOLDERS = 12;
const MORE_IMAGES = 48;
const MORE_FOLDERS = 24;

/** Return the view of the groups. `remove` gets the images to remove, and their name. */
export function referenceGroups(remove) {
  const element = h("div", { class: "reference-groups" });
  // The number of shown images by folder.
  const shown = new Map();
  let shownFolders = FIRST_FOLDERS;

  /** Show the images. `inputs` are the names of the model's inputs. */
  function update(images, inputs) {
    const groups = groupByFolder(images);
    const isFlat = groups.length === 1 && groups[0].folder === "";
    const rest = groups.length - shownFolders;
    element.replaceChildren(
      ...groups.slice(0, shownFolders).map((group) => groupOf(group, isFlat, inputs)),
      ...(rest > 0 ? [moreFolders(images, inputs, rest)] : []),
    );
  }

  function groupOf(group, isFlat, inputs) {
    const tiles = h("ul", { class: "reference-tiles" });
    showTiles(tiles, group);
    return h("section", { class: "reference-group" }, !isFlat && headOf(group, inputs), tiles);
  }

  function headOf({ folder, images, size }, inputs) {
    const name = folder || t("form.references.loose");
    return h(
      "div",
      { class: "reference-head" },
      icon(folder ? "folder" : "image"),
      h("h3", { title: name }, name),
      h("span", { class: "quiet-text" }, countOf(images.length, size)),
      inputs.includes(nameOf(folder)) && h("span", { class: "input-name" }, t("form.references.input")),
      removeButton(t("form.references.remove_folder", { name }), () => remove(images, name)),
    );
  }

  function showTiles(tiles, group) {
    const { folder, images } = group;
    const most = shown.get(folder) ?? FIRST_IMAGES;
    const rest = images.length - most;
    const more = () => {
      shown.set(folder, most + MORE_IMAGES);
      showTiles(tiles, group);
      tiles.children[most].querySelector("button").focus();
    };
    tiles.replaceChildren(
      ...images.slice(0, most).map(tile),
      ...(rest > 0 ? [h("li", { class: "reference-more" }, moreButton("form.references.more", rest, MORE_IMAGES, more))] : []),
    );
  }

  function tile(image) {
    const name = nameOf(image.path);
    return h(
      "li",
      { class: "reference", title: image.path },
      h("span", { class: "reference-picture" }, icon("image"), thumbnail(image)),
      h("span", { class: "reference-name" }, name),
      removeButton(t("form.references.remove", { name: image.path }), () => remove([image], image.path)),
    );
  }

  function moreFolders(images, inputs, rest) {
    return moreButton("form.references.more_folders", rest, MORE_FOLDERS, () => {
      const first = shownFolders;
      shownFolders += MORE_FOLDERS;
      update(images, inputs);
      element.children[first].querySelector("button").focus();
    });
  }

  return { element, update };
}

/** Return `24 images · 3.1 MB`. */
export function countOf(count, size) {
  const n = t("form.references.count", { n: count, count: formatNumber(count, language()) });
  return `${n} · ${formatSize(size, language())}`;
}

function moreButton(key, rest, most, run) {
  return button(t(key, { n: Math.min(rest, most) }), { kind: "quiet small", run });
}

function removeButton(label, run) {
  return h("button", { class: "icon-button", type: "button", "aria-label": label, on: { click: run } }, icon("cross"));
}
