// Where the page begins: what every page has, and for those who are signed in, the console.

import { speak } from "./i18n.js";
import { prepareLanguage, prepareTheme } from "./preferences.js";

await speak(document.documentElement.lang);
prepareLanguage();
prepareTheme();

const { page, userId } = document.body.dataset;
if (page === "signed-in" && userId) {
  const { tell } = await import("./tabs.js");
  // The tab that waits for it goes on. This one cannot close itself: a person has opened it, and not a script.
  tell("signed-in");
} else if (page === "home" && userId) {
  const { startConsole } = await import("./console.js");
  startConsole();
}
document.documentElement.dataset.ready = "true";
