// What chosen files are, by their names and types.

const MODEL = /\.(onnx|tflite)$/i;
const IMAGE = /\.(png|jpe?g|bmp|gif|webp|tiff?|npy|bin)$/i;
// `model.onnx_data` or `model.onnx.data`, sometimes in several numbered files.
const EXTERNAL_WEIGHTS = /\.onnx[._]data(_\d+)?$/i;
// Files of the operating system, and everything in hidden folders.
const HIDDEN = /(^|\/)(\.[^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(\/|$)/i;

/** Return `{models, images, ignored}`. `ignored` has `{path, reason}`: hidden, external or other. */
export function sortFiles(files) {
  const sorted = { models: [], images: [], ignored: [] };
  for (const found of files) {
    const { path, file } = found;
    if (HIDDEN.test(path)) sorted.ignored.push({ path, reason: "hidden" });
    else if (MODEL.test(path)) sorted.models.push(found);
    else if (IMAGE.test(path) || file.type.startsWith("image/")) sorted.images.push(found);
    else sorted.ignored.push({ path, reason: EXTERNAL_WEIGHTS.test(path) ? "external" : "other" });
  }
  return sorted;
}
