// Drag and drop of files and folders.

import { takeHandles } from "../../model_handles.js";
import { droppedEntries } from "../../references/walk.js";

/**
 * Accept what is dropped anywhere on the page, so that a near miss doesn't make the browser open the file. `onDrop` gets
 * the entries, for `walk`.
 */
export function takeDrops(element, onDrop) {
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = () => element.classList.toggle("dropping", depth > 0);
  const listeners = {
    dragenter: (event) => {
      if (!hasFiles(event)) return;
      depth += 1;
      show();
    },
    dragleave: (event) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      show();
    },
    dragover: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    },
    drop: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      show();
      takeHandles(event.dataTransfer);
      onDrop(droppedEntries(event.dataTransfer));
    },
  };
  for (const [name, listener] of Object.entries(listeners)) window.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) window.removeEventListener(name, listener);
  };
}
