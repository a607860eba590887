// Small pictures of images, drawn when they come into view. Only pixels are held, so no file stays in memory, and the
// page's Content-Security-Policy needs no exception for addresses of files.

const PIXELS = 144;

const canvases = new WeakMap();
const files = new WeakMap();
const waiting = [];
let isDrawing = false;

const observer = new IntersectionObserver((changes) => {
  for (const { isIntersecting, target } of changes) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    waiting.push(target);
  }
  draw();
});

/** Return a canvas that will show the image. It stays transparent if the browser can't read the format. */
export function thumbnail(image) {
  if (canvases.has(image)) return canvases.get(image);
  const canvas = document.createElement("canvas");
  canvas.width = PIXELS;
  canvas.height = PIXELS;
  canvas.setAttribute("aria-hidden", "true");
  canvases.set(image, canvas);
  files.set(canvas, image.file);
  observer.observe(canvas);
  return canvas;
}

/** Draw one image after the other: a photo can take 50 MB of memory while it is decoded. */
async function draw() {
  if (isDrawing) return;
  isDrawing = true;
  for (let canvas = waiting.shift(); canvas; canvas = waiting.shift()) {
    if (!canvas.isConnected) {
      observer.observe(canvas);
      continue;
    }
    try {
      drawCentered(canvas, await createImageBitmap(files.get(canvas), { resizeWidth: PIXELS, resizeQuality: "medium" }));
    } catch {
      // Not an image, or in a format that browsers don't show, such as .npy.
    }
  }
  isDrawing = false;
}

/** Fill the canvas with the middle of the picture. */
function drawCentered(canvas, bitmap) {
  const side = Math.min(bitmap.width, bitmap.height);
  const [x, y] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  canvas.getContext("2d").drawImage(bitmap, x, y, side, side, 0, 0, PIXELS, PIXELS);
  bitmap.close();
}
