// Drag and drop of files.

import { takeHandles } from "../../model_handles.js";

/** Accept dropped files anywhere on the page, so that a near miss doesn't make the browser open the file. */
export function takeDrops(element, onFiles) {
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
      onFiles([...event.dataTransfer.files]);
    },
  };
  for (const [name, listener] of Object.entries(listeners)) window.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) window.removeEventListener(name, listener);
  };
}
