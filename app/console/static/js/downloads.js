// Downloads are navigations, so the file never passes through a script. A failed navigation would show JSON to the
// user, so we check first whether the download will work.

/** Start a download. During an upload, open it in a new tab, so that the upload doesn't end. */
export function navigateTo(path, { isUploading }) {
  if (isUploading) window.open(path, "_blank", "noopener");
  else location.assign(path);
}

/** Follow a link if `check` resolves. If it rejects, call `onProblem`. */
export function guardLink(link, { check, isUploading, onBusy, onProblem, onReady = () => {} }) {
  let isBusy = false;
  link.addEventListener("click", async (event) => {
    // Don't change clicks that open a new tab.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    onBusy(true);
    try {
      await check();
      onReady();
      navigateTo(link.getAttribute("href"), { isUploading: isUploading() });
    } catch (problem) {
      onProblem(problem);
    } finally {
      isBusy = false;
      onBusy(false);
    }
  });
}
