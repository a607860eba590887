// Where the page begins: what every page has, and for those who are signed in, the console.

import { speak } from "./i18n.js";
import { prepareLanguage, prepareTheme } from "./preferences.js";

await speak(document.documentElement.lang);
prepareLanguage();
prepareTheme();

const { page, userId } = document.body.dataset;
if (page === "signed-in" && userId) {
  const { tell } = await import("./tabs.js");
  tell("signed-in");
  // Works only where the browser lets a script close the tab; otherwise the page says that it may be closed.
  window.close();
} else if (page === "home" && userId) {
  const { startConsole } = await import("./console.js");
  startConsole();
}
document.documentElement.dataset.ready = "true";
