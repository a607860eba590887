// The page's texts, one file per language. Texts of errors come from the server's error catalog.

export const LANGUAGES = { en: "English", "zh-TW": "中文" };

let texts = {};
let current = "en";
const listeners = new Set();
const loaded = new Map();

export const language = () => current;

/** Return the text of a key, with {names} filled in. If `n` is 1, prefer the key's `.one` form. */
export function t(key, values = {}) {
  const plural = typeof values.n === "number" && new Intl.PluralRules(current).select(values.n) === "one";
  const text = (plural && texts[`${key}.one`]) || texts[key];
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? plainDirection(values[name]) : whole));
}

/** Isolate a value, because file names may contain characters that change the text direction. */
const plainDirection = (value) => String(value).replace(/[\u202a-\u202e\u2066-\u2069]/g, "");

/** Switch to a language. Rejects if its texts cannot be fetched, and then keeps the current language. */
export async function speak(wanted) {
  const found = loaded.get(wanted) ?? (await fetchTexts(wanted));
  loaded.set(wanted, found);
  texts = found;
  current = wanted;
  document.documentElement.lang = wanted;
  translatePage();
  for (const listener of listeners) listener(wanted);
}

/** Call a listener when the language has changed. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

async function fetchTexts(wanted) {
  const response = await fetch(`${document.body.dataset.assets}/texts/${wanted}.json`);
  if (!response.ok) throw new Error(`no texts for ${wanted}`);
  return response.json();
}

/** Translate the parts that the server rendered. */
function translatePage() {
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}
