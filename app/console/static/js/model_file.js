// Facts about a model, read from a few kilobytes of its file, whatever its size.
//
// An ONNX file is one protobuf message (ModelProto): small fields, the graph with all weights as one field, and then
// usually the operator sets. Each field states its length, so the graph is skipped and never read.

const HEAD_BYTES = 64 * 1024;
const MOST_FIELDS = 200;
const TEXT_BYTES = 200;

/** Resolve to `{format: "onnx" | "tflite" | "unknown" | "unreadable", claims, opset, producer}`; null if unknown. */
export async function inspectModel(file) {
  const claims = { onnx: "onnx", tflite: "tflite" }[file.name.toLowerCase().split(".").at(-1)] ?? null;
  const nothing = { format: "unknown", claims, opset: null, producer: null };
  try {
    const head = await bytes(file, 0, 8);
    if (String.fromCharCode(...head.subarray(4, 8)) === "TFL3") return { ...nothing, format: "tflite" };
    const found = await readOnnx(file);
    return found ? { ...nothing, ...found, format: "onnx" } : nothing;
  } catch (error) {
    // A RangeError means that the contents are not a model. Other errors mean that the file can no longer be read.
    return error instanceof RangeError ? nothing : { ...nothing, format: "unreadable" };
  }
}

async function bytes(file, from, length) {
  return new Uint8Array(await file.slice(from, from + length).arrayBuffer());
}

/** Return the fields of a ModelProto before and after its graph; null if the file doesn't look like one. */
async function readOnnx(file) {
  const found = { opset: null, producer: null };
  let producer = "";
  let producerVersion = "";
  let hasGraph = false;
  let position = 0;
  let window = await bytes(file, 0, HEAD_BYTES);
  let windowAt = 0;
  for (let fields = 0; position < file.size; fields += 1) {
    if (fields === MOST_FIELDS) return hasGraph ? found : null;
    if (position - windowAt > window.length - 32) {
      windowAt = position;
      window = await bytes(file, position, HEAD_BYTES);
    }
    const reader = new Reader(window, position - windowAt);
    const key = reader.varint();
    const [field, wire] = [Math.floor(key / 8), key % 8];
    if (field < 1 || field > 30) return null;
    if (wire === 0) {
      const value = reader.varint();
      if (field === 1 && (value < 1 || value > 1000)) return null;
      position = windowAt + reader.at;
    } else if (wire === 2) {
      const length = reader.varint();
      const start = windowAt + reader.at;
      if (start + length > file.size) return null;
      if (field === 2) producer = await text(file, start, length);
      else if (field === 3) producerVersion = await text(file, start, length);
      else if (field === 7) hasGraph = true;
      else if (field === 8) {
        const opset = operatorSet(await bytes(file, start, Math.min(length, TEXT_BYTES)));
        if (opset !== null) found.opset = opset;
      }
      position = start + length;
    } else return null;
  }
  if (!hasGraph) return null;
  found.producer = `${producer} ${producerVersion}`.trim() || null;
  return found;
}

async function text(file, start, length) {
  const decoded = new TextDecoder().decode(await bytes(file, start, Math.min(length, TEXT_BYTES)));
  return decoded.replace(/[^\P{C}]/gu, "").slice(0, 60);
}

/** Return the version in an OperatorSetIdProto of the default domain; null for other domains. */
function operatorSet(message) {
  const reader = new Reader(message, 0);
  let version = null;
  while (reader.at < message.length) {
    const key = reader.varint();
    if (key === 10) {
      const length = reader.varint();
      const domain = new TextDecoder().decode(message.subarray(reader.at, reader.at + length));
      if (domain !== "" && domain !== "ai.onnx") return null;
      reader.at += length;
    } else if (key === 16) version = reader.varint();
    else return version;
  }
  return version;
}

class Reader {
  constructor(view, at) {
    this.view = view;
    this.at = at;
  }

  varint() {
    let value = 0;
    for (let shift = 0; shift < 8; shift += 1) {
      if (this.at >= this.view.length) throw new RangeError("the message ends within a number");
      const byte = this.view[this.at++];
      value += (byte & 127) * 2 ** (7 * shift);
      if (byte < 128) return value;
    }
    throw new RangeError("a number is too long");
  }
}
