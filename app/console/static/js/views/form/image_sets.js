// The dialog with the saved sets of reference images.

import { toast } from "../../announcer.js";
import { showDialog } from "../../dialogs.js";
import { h, icon } from "../../dom.js";
import { formatSize } from "../../format.js";
import { language, t } from "../../i18n.js";
import { shortName } from "../../names.js";
import { folderOf, nameOf, sizeOf } from "../../references/images.js";
import { MOST_BYTES, SETS_FULL } from "../../references/sets.js";
import { nameEditor } from "../name_editor.js";
import { countOf } from "./reference_groups.js";

/** Show the sets. `add` gets the images of the set that the user chooses. */
export async function showImageSets(form, sets, add) {
  const limit = formatSize(MOST_BYTES, language());
  let known;
  try {
    known = await sets.list();
  } catch {
    known = null;
  }
  const list = h("ul", { class: "choices" });
  const title = t("sets.title");
  const text = known ? t("sets.text", { limit }) : t("sets.absent");
  const { dialog, closed } = showDialog({ title, text }, [
    known && form.references.length > 0 && saveFields(form),
    known && list,
    h("div", { class: "actions end" }, h("button", { class: "button quiet", value: "" }, t("dialog.close"))),
  ]);

  function show() {
    list.replaceChildren(
      ...known.map(row),
      ...(known.length === 0 ? [h("li", { class: "quiet-text" }, t(form.references.length > 0 ? "sets.none" : "sets.choose_first"))] : []),
    );
  }

  function row(set) {
    const press = h("button", { class: "button quiet small", value: `use ${set.id}` }, t("sets.use"));
    const trash = h("button", { class: "icon-button", type: "button", on: { click: () => remove(set) } }, icon("trash"));
    const label = () => {
      const name = set.name ?? t("sets.last");
      press.setAttribute("aria-label", t("sets.use_one", { name }));
      trash.setAttribute("aria-label", t("sets.delete", { name }));
    };
    label();
    const save = async (name, refuse) => {
      const isThere = await sets.rename(set.id, name).catch(() => null);
      if (!isThere) {
        refuse(t(isThere === null ? "sets.absent" : "sets.gone"));
        return null;
      }
      set.name = name;
      label();
      return name;
    };
    const name = set.name === null ? h("strong", {}, t("sets.last")) : nameEditor(set.name, { save });
    return h("li", { class: "set-row" }, h("div", {}, name, h("span", { class: "quiet-text" }, countOf(set.count, set.size))), press, trash);
  }

  async function remove(set) {
    try {
      await sets.remove(set.id);
      known = known.filter((other) => other !== set);
      // The current selection may have been this set, and must survive a reload without it.
      form.onReferences?.();
    } catch {
      toast(t("sets.absent"), "alert");
    }
    show();
    (list.querySelector("button") ?? dialog.querySelector(".actions .button")).focus();
  }

  if (known) show();
  const input = dialog.querySelector("input");
  input?.select();
  const value = await closed;
  if (value === "save") await save(form, sets, input.value.trim() || t("sets.default_name"), limit);
  else if (value.startsWith("use ")) await use(known.find(({ id }) => `use ${id}` === value), sets, add);
}

function saveFields(form) {
  const folder = nameOf(folderOf(form.references[0].path));
  return h(
    "div",
    { class: "field set-fields" },
    h("label", { for: "set-name" }, t("sets.name", { count: countOf(form.references.length, sizeOf(form.references)) })),
    h(
      "div",
      {},
      h("input", { class: "input", id: "set-name", value: folder || t("sets.default_name"), maxlength: 100, required: true }),
      h("button", { class: "button", value: "save" }, t("sets.save")),
    ),
  );
}

async function save(form, sets, name, limit) {
  try {
    await sets.save(name, form.references);
    form.onReferences?.();
    toast(t("sets.saved", { name: shortName(name) }));
  } catch (error) {
    const reasons = { [SETS_FULL]: "sets.full", QuotaExceededError: "sets.no_space" };
    toast(t(reasons[error?.name] ?? "sets.absent", { limit }), "alert");
  }
}

async function use(set, sets, add) {
  const images = await sets.load(set.id).catch(() => null);
  if (images) add(images);
  else toast(t("sets.gone"), "alert");
}
