// Language and theme. They are stored in cookies, so that the server can render the next page accordingly.

import { LANGUAGES, language, speak, t } from "./i18n.js";
import { cookie } from "./storage.js";

const THEMES = ["system", "light", "dark"];

export function prepareLanguage(onFailure = () => {}) {
  forgetAsked();
  const link = document.getElementById("language");
  const show = () => {
    const other = Object.keys(LANGUAGES).find((name) => name !== language());
    link.href = `?lang=${other}`;
    link.lang = link.hreflang = other;
    link.querySelector("span").textContent = LANGUAGES[other];
  };
  link.addEventListener("click", async (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    // Don't load a new page, because that would end an upload.
    event.preventDefault();
    try {
      await speak(link.hreflang);
      cookie("visiona_lang", language());
      show();
      showTheme();
    } catch {
      onFailure();
    }
  });
  show();
}

/** Remove `?lang=` from the address: the server has stored it, and it would override later choices. */
function forgetAsked() {
  const address = new URL(location.href);
  if (!address.searchParams.has("lang")) return;
  address.searchParams.delete("lang");
  history.replaceState(null, "", address);
}

export function prepareTheme() {
  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const root = document.documentElement;
    root.dataset.theme = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
    cookie("visiona_theme", root.dataset.theme);
    showTheme();
  });
  showTheme();
}

function showTheme() {
  const { theme } = document.documentElement.dataset;
  const button = document.getElementById("theme");
  const label = t(`theme.${theme}`);
  button.setAttribute("aria-label", label);
  button.title = label;
  button.querySelector("use").setAttribute("href", `#i-${theme}`);
}
