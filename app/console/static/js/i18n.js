// The page's words. One file of texts a language; the texts of errors come from the server's catalogue instead.

export const LANGUAGES = { en: "English", "zh-TW": "中文" };

let texts = {};
let current = "en";
const listeners = new Set();
const loaded = new Map();

export const language = () => current;

/** The text of a key, with {names} filled in; a number `n` picks the key's `.one` where the language has one. */
export function t(key, values = {}) {
  const plural = typeof values.n === "number" && new Intl.PluralRules(current).select(values.n) === "one";
  const text = (plural && texts[`${key}.one`]) || texts[key];
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? plainDirection(values[name]) : whole));
}

/** A value that cannot turn round the sentence around it: names of files may hold marks that change the direction. */
const plainDirection = (value) => String(value).replace(/[\u202a-\u202e\u2066-\u2069]/g, "");

/** Speak a language from now on. Rejects if its texts cannot be fetched; then the old one stays. */
export async function speak(wanted) {
  const found = loaded.get(wanted) ?? (await fetchTexts(wanted));
  loaded.set(wanted, found);
  texts = found;
  current = wanted;
  document.documentElement.lang = wanted;
  translatePage();
  for (const listener of listeners) listener(wanted);
}

/** Be told when the language has changed. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

async function fetchTexts(wanted) {
  const answer = await fetch(`${document.body.dataset.assets}/texts/${wanted}.json`);
  if (!answer.ok) throw new Error(`no texts for ${wanted}`);
  return answer.json();
}

/** Put the parts that the server has rendered into the language. */
function translatePage() {
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}
