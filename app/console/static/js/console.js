// The console: selects the view, updates the header, and reacts when the session ends or returns.

import * as api from "./api.js";
import { toast } from "./announcer.js";
import { Conversion } from "./conversion.js";
import { confirmLoss } from "./dialogs.js";
import { focusOn, h, icon } from "./dom.js";
import { splitAddress } from "./filters.js";
import { formatMoment } from "./format.js";
import { language, onLanguage, t } from "./i18n.js";
import { loadCatalogue, problemWords } from "./problems.js";
import { SelectionMemory } from "./references/memory.js";
import { ImageSets } from "./references/sets.js";
import { SIGN_IN_AGAIN, Session } from "./session.js";
import { showTabState } from "./tab_state.js";
import { broadcast } from "./tabs.js";
import { OTHER_PARTS } from "./upload.js";
import { convertView } from "./views/convert.js";
import { historyView } from "./views/history.js";
import { jobPage } from "./views/job_page.js";
import { libraryView } from "./views/library.js";

export function startConsole() {
  const { userId, expiresAt, uploadBytes, uploadParts } = document.body.dataset;
  const session = new Session({ userId, expiresAt });
  const conversion = new Conversion(userId, { isEnabled: "enabled" in document.body.dataset });
  conversion.onReady = () => toast(t("convert.ready"));
  conversion.form.limits = { bytes: Number(uploadBytes), images: Math.max(0, Number(uploadParts) - OTHER_PARTS) };
  const imageSets = new ImageSets(userId);
  const selection = new SelectionMemory(conversion.form, imageSets);
  selection.start(() => conversion.emit());
  const console_ = { session, conversion, imageSets, selection };
  const router = new Router(console_);
  prepareAccount(console_);
  refuseStrayDrops();
  prepareNotice(console_);
  onLanguage(() => router.show({ isNew: false }));
  loadCatalogue();
  router.show({ isNew: false });
  // Tell other tabs who is signed in. They may show a different account.
  broadcast("signed-in");
}

/** Ignore files dropped outside the form. By default, they would replace the page and end an upload. */
function refuseStrayDrops() {
  for (const name of ["dragover", "drop"]) {
    window.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "none";
    });
  }
}

class Router {
  #console;
  #view = null;
  #route = null;
  #shownJob = null;

  constructor(console_) {
    this.#console = console_;
    window.addEventListener("hashchange", () => this.show({ isNew: true }));
    console_.conversion.subscribe(() => {
      this.#matchAddress();
      this.#showTabState();
    });
    document.addEventListener("visibilitychange", () => this.#showTabState());
  }

  /** Show the view for the address, and focus it if the user requested it. */
  show({ isNew }) {
    const { conversion } = this.#console;
    const [name, id] = addressed();
    if (name === "jobs" && id && !conversion.shows(id)) {
      this.#mount("history", () => jobPage(this.#console, id, () => this.#showTabState()), isNew);
    } else if (name === "history") this.#mount("history", () => historyView(this.#console), isNew);
    else if (name === "models") this.#mount("models", () => libraryView(this.#console, id), isNew);
    else this.#mount("convert", () => convertView(this.#console), isNew);
  }

  #mount(route, make, isNew) {
    this.#view?.destroy?.();
    this.#view = make();
    this.#route = route;
    document.getElementById("main").replaceChildren(this.#view.element);
    for (const link of document.querySelectorAll("[data-route]")) {
      if (link.dataset.route === route) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (isNew && !this.#view.restore?.()) {
      window.scrollTo(0, 0);
      focusOn(this.#view.element.querySelector("h1"));
    }
    this.#matchAddress();
    this.#showTabState();
  }

  /** Show the conversion's state, and that of a job opened from the history. */
  #showTabState() {
    const { conversion } = this.#console;
    const watcher = this.#view.watcher;
    const section = document.querySelector("[data-route][aria-current]:not([data-route=convert])")?.textContent;
    showTabState(watcher ? [conversion, { phase: "job", watcher }] : [conversion], section);
  }

  /** Give the job on the first view its address, so that a reload or a copied address shows it again. */
  #matchAddress() {
    if (this.#route !== "convert") return;
    const { conversion } = this.#console;
    const [name, id] = addressed();
    const shown = conversion.watcher?.job.job_id ?? null;
    const isJob = name === "jobs" && id;
    if (isJob && conversion.shows(id)) {
      this.#shownJob = shown;
    } else if (isJob && id !== this.#shownJob) {
      // It turned out that the first view shows something else.
      this.show({ isNew: false });
    } else if (isJob || shown) {
      this.#shownJob = shown;
      history.replaceState(history.state, "", shown ? `#/jobs/${encodeURIComponent(shown)}` : "#/");
    }
  }
}

/** Return the view and the id that the address names. */
function addressed() {
  const [name, written] = splitAddress(location.hash)[0].split("/");
  return [name, written && decoded(written)];
}

/** Decode a part of the address. Invalid input must not break the page. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function prepareAccount({ session, conversion, selection }) {
  const account = document.getElementById("account");
  const close = () => {
    account.open = false;
  };
  document.addEventListener("click", (event) => {
    if (!account.contains(event.target)) close();
  });
  account.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !account.open) return;
    close();
    account.querySelector("summary").focus();
  });
  account.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !account.contains(event.relatedTarget)) close();
  });
  const until = document.getElementById("session-until");
  const show = () => {
    until.textContent = t("account.until", { time: formatMoment(session.expiresAt, language()) });
  };
  account.addEventListener("toggle", show);
  onLanguage(show);
  show();
  const button = document.getElementById("sign-out");
  button.addEventListener("click", async () => {
    if (conversion.isUploading) {
      const question = { title: t("account.upload_runs"), text: t("account.upload_runs.text"), symbol: "exit" };
      if (!(await confirmLoss({ ...question, yes: t("account.sign_out") }))) return;
    }
    button.disabled = true;
    // While there is a session.
    if (conversion.isUploading) await conversion.abort();
    try {
      const { data } = await api.signOut();
      broadcast("signed-out");
      await selection.forget();
      location.assign(data?.logout_url ?? "/");
    } catch (problem) {
      button.disabled = false;
      toast(t("account.sign_out.failed", { reason: problemWords(problem).title }), "alert");
    }
  });
}

/** Show or remove the notice that the session has ended. It overlays the page without moving anything. */
function prepareNotice({ session, conversion }) {
  const area = document.getElementById("notices");
  const show = () => {
    area.replaceChildren();
    if (session.state === "alive") return;
    const hasEnded = session.state === "ended";
    const action = hasEnded
      ? h("a", { class: "button small", href: SIGN_IN_AGAIN, target: "_blank", rel: "noopener" }, t("session.sign_in"))
      : h(
          "button",
          { class: "button small", type: "button", on: { click: () => location.reload() } },
          t("session.reload"),
        );
    area.append(
      h(
        "div",
        { class: "notice", role: "alert", id: "session-notice" },
        icon("lock"),
        h(
          "p",
          {},
          h("strong", {}, t(hasEnded ? "session.ended" : "session.other")),
          " ",
          t(hasEnded ? "session.ended.text" : "session.other.text"),
        ),
        action,
      ),
    );
  };
  session.subscribe(() => {
    show();
    if (session.state !== "alive") {
      conversion.stopRetrying();
      return;
    }
    toast(t("session.back"));
    conversion.resume();
  });
  onLanguage(show);
}
