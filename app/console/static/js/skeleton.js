// Cut an ONNX model down to its skeleton: the same message without the data of large tensors.
//
// The rules are in `app/advice/skeleton.py`. Both must give the same bytes for the same file. Here the file is on disk,
// so large tensors are skipped by position and never read.

const SMALL = 1024;
const MAX_DEPTH = 32;
const MAX_BYTES = 4 * 1024 * 1024;
const MAX_FIELDS = 200_000;
/** What a field counts in a message that is walked. */
const WALKED_FIELD = 3;
const MAX_LENGTH = 2 ** 31 - 1;
/** Enough for the server to recognize other formats. */
const HEAD_BYTES = 128;
/** A window must hold the longest field that is copied. After a jump, small windows suffice in most cases. */
const FIRST_WINDOW_BYTES = 4096;
const MAX_WINDOW_BYTES = 256 * 1024;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

const GRAPH = {};
const TENSOR = {};
const SPARSE = { 1: TENSOR, 2: TENSOR };
const ATTRIBUTE = { 5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE };
const NODE = { 5: ATTRIBUTE };
const OPERATOR_SET = {};
const VALUE = { 2: { 1: { 2: { 1: {} } } } };
Object.assign(GRAPH, { 1: NODE, 5: TENSOR, 11: VALUE, 12: VALUE, 13: VALUE, 15: SPARSE });
/** The messages that are walked: each maps the numbers of its fields to the messages in them. */
const MODEL = { 7: GRAPH, 8: OPERATOR_SET, 25: { 7: NODE, 9: OPERATOR_SET } };
const TENSOR_DATA = new Set([4, 5, 6, 7, 9, 10, 11]);

class NoSkeleton extends Error {}

/**
 * Resolve to `{isModel, data, reason}`. `data` is the skeleton, or null with a reason. If the file is no ONNX model,
 * `data` is its head, by which the server recognizes other formats. Rejects if the file can't be read, or on abort.
 */
export async function cutSkeleton(file, signal) {
  const walker = new Walker();
  let reason = null;
  try {
    await walkFile(file, walker, signal);
  } catch (error) {
    if (!(error instanceof NoSkeleton)) throw error;
    reason = error.message;
  }
  if (!walker.hasGraph) return { isModel: false, data: await read(file, 0, HEAD_BYTES), reason: null };
  return { isModel: true, data: reason === null ? walker.skeleton() : null, reason };
}

async function read(file, from, length) {
  return new Uint8Array(await file.slice(from, from + length).arrayBuffer());
}

async function walkFile(file, walker, signal) {
  let windowBytes = FIRST_WINDOW_BYTES;
  let windowEnd = 0;
  while (walker.next < file.size) {
    signal?.throwIfAborted();
    const start = walker.next;
    const isJump = start - windowEnd > windowBytes;
    windowBytes = isJump ? FIRST_WINDOW_BYTES : Math.min(windowBytes * 4, MAX_WINDOW_BYTES);
    const window = await read(file, start, windowBytes);
    windowEnd = start + window.length;
    walker.walk(window);
    if (walker.next === start) break;
  }
  if (walker.next !== file.size || walker.depth > 1) throw new NoSkeleton("truncated");
}

class Walker {
  /** Where the next field starts in the file. */
  next = 0;
  hasGraph = false;
  #output = new Output();
  #open;
  #fields = 0;

  constructor() {
    // The end of the file is no limit here: a field beyond it is truncated, not malformed.
    this.#open = [new OpenMessage(MODEL, Infinity, 0)];
  }

  get depth() {
    return this.#open.length;
  }

  skeleton() {
    return this.#output.bytes();
  }

  /** Take the fields in `window`, which starts at the next one, up to the first that is not complete. */
  walk(window) {
    const base = this.next;
    const output = this.#output;
    const field = new Field(window);
    let message = this.#open.at(-1);
    let position = 0;
    while (position < window.length && field.read(position)) {
      const { number, wire, body, end } = field;
      if (base + end > message.end) throw new NoSkeleton("malformed");
      const child = wire === LENGTH ? message.kind[number] : undefined;
      const isLarge = wire === LENGTH && end - body > SMALL;
      if (!isLarge && end > window.length) break;
      this.#fields += WALKED_FIELD;
      if (child === GRAPH) this.hasGraph = true;
      if (isLarge && child) {
        if (this.#open.length === MAX_DEPTH) throw new NoSkeleton("too_deep");
        output.append(window, position, field.keyEnd);
        message = new OpenMessage(child, base + end, output.length);
        this.#open.push(message);
        position = body;
        continue;
      }
      if (child) this.#count(window.subarray(body, end), child, this.#open.length + 1);
      if (message.kind === TENSOR && TENSOR_DATA.has(number)) message.addData(window, position, field);
      else if (!isLarge) output.append(window, position, end);
      position = end;
      while (base + position === message.end) message = this.#leave();
      this.#checkLimits();
    }
    this.next = base + position;
  }

  /** Close the innermost message, and return the one around it. */
  #leave() {
    const message = this.#open.pop();
    for (const part of message.data) this.#output.append(part, 0, part.length);
    this.#output.insertLength(message.start);
    return this.#open.at(-1);
  }

  /** Check and count the fields of a message that is copied: its size alone says little about its cost. */
  #count(message, kind, depth) {
    if (depth > MAX_DEPTH) throw new NoSkeleton("too_deep");
    const field = new Field(message);
    for (let position = 0; position < message.length; position = field.end) {
      if (!field.read(position) || field.end > message.length) throw new NoSkeleton("malformed");
      this.#fields += 1;
      const child = field.wire === LENGTH ? kind[field.number] : undefined;
      if (child) this.#count(message.subarray(field.body, field.end), child, depth + 1);
    }
  }

  #checkLimits() {
    if (this.#fields > MAX_FIELDS) throw new NoSkeleton("too_complex");
    if (this.#output.length > MAX_BYTES) throw new NoSkeleton("too_large");
  }
}

/** A message that is being walked: where it ends in the file, and where its fields start in the skeleton. */
class OpenMessage {
  /** The data fields of a tensor, as long as they are small. */
  data = [];
  #dataBytes = 0;

  constructor(kind, end, start) {
    this.kind = kind;
    this.end = end;
    this.start = start;
  }

  addData(window, position, { body, end }) {
    this.#dataBytes += end - body;
    if (this.#dataBytes > SMALL) this.data = [];
    else this.data.push(window.slice(position, end));
  }
}

/** One field of a message: its number and wire type, and where its key ends and its value starts and ends. */
class Field {
  number = 0;
  wire = 0;
  keyEnd = 0;
  body = 0;
  end = 0;
  #bytes;
  #value = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  /** Read the field at a position. Return false if the bytes end before the value is known to end. */
  read(position) {
    this.end = position;
    if (!this.#varint(5)) return false;
    this.keyEnd = this.body = this.end;
    this.wire = this.#value % 8;
    this.number = Math.floor(this.#value / 8);
    if (this.number === 0 || this.number >= 2 ** 29) throw new NoSkeleton("malformed");
    if (this.wire === VARINT) return this.#varint(10);
    if (this.wire === FIXED64) this.end += 8;
    else if (this.wire === FIXED32) this.end += 4;
    else if (this.wire === LENGTH) {
      if (!this.#varint(10)) return false;
      if (this.#value > MAX_LENGTH) throw new NoSkeleton("malformed");
      this.body = this.end;
      this.end += this.#value;
    } else throw new NoSkeleton("malformed");
    return true;
  }

  #varint(maxBytes) {
    this.#value = 0;
    for (let index = 0; index < maxBytes; index += 1) {
      if (this.end >= this.#bytes.length) return false;
      const byte = this.#bytes[this.end];
      this.end += 1;
      // Not by shifts, which have 32 bits.
      this.#value += (byte & 127) * 2 ** (7 * index);
      if (byte < 128) return true;
    }
    throw new NoSkeleton("malformed");
  }
}

/** Bytes that grow at their end. */
class Output {
  length = 0;
  #buffer = new Uint8Array(64 * 1024);

  bytes() {
    return this.#buffer.subarray(0, this.length);
  }

  append(source, from, to) {
    this.#reserve(to - from);
    this.#buffer.set(source.subarray(from, to), this.length);
    this.length += to - from;
  }

  /** Insert the number of bytes from `start` on, as a varint before them. */
  insertLength(start) {
    const encoded = [];
    let rest = this.length - start;
    for (; rest >= 128; rest = Math.floor(rest / 128)) encoded.push((rest % 128) + 128);
    encoded.push(rest);
    this.#reserve(encoded.length);
    this.#buffer.copyWithin(start + encoded.length, start, this.length);
    this.#buffer.set(encoded, start);
    this.length += encoded.length;
  }

  #reserve(bytes) {
    if (this.length + bytes <= this.#buffer.length) return;
    const larger = new Uint8Array(2 * (this.length + bytes));
    larger.set(this.bytes());
    this.#buffer = larger;
  }
}
