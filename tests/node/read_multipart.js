// Reads multipart messages with busboy, one a line, and says what it saw.
//
//   in   {"content_type": "multipart/form-data; boundary=x", "body": "<base64>"}
//   out  {"parts": [{"name": "a", "text": "1"}, {"name": "b", "filename": "f", "content": "<base64>"}], "error": null}
//
// A field's text is null where busboy gives none (its charset is unknown).
//
// One process reads as many messages as it is given, one after the other, and ends with its input.

import readline from "node:readline";
import busboy from "busboy";

const UNLIMITED = {
  fieldNameSize: Infinity,
  fieldSize: Infinity,
  fields: Infinity,
  fileSize: Infinity,
  files: Infinity,
  parts: Infinity,
};

function read({ content_type: contentType, body }) {
  return new Promise((resolve) => {
    const parts = [];
    const end = (error) => resolve({ parts: parts.map(finished), error: error ? String(error.message) : null });
    let reader;
    try {
      reader = busboy({
        headers: { "content-type": contentType },
        preservePath: true,
        // What browsers send; busboy's own default for names is Latin-1.
        defParamCharset: "utf8",
        limits: UNLIMITED,
      });
    } catch (error) {
      end(error);
      return;
    }
    reader.on("field", (name, text) => {
      parts.push({ name: name ?? null, text: text ?? null });
    });
    reader.on("file", (name, stream, { filename }) => {
      const part = { name: name ?? null, filename: filename ?? null, pieces: [] };
      parts.push(part);
      stream.on("data", (piece) => part.pieces.push(piece));
      stream.on("error", () => {});
    });
    reader.on("error", end);
    reader.on("close", () => end(null));
    reader.end(Buffer.from(body, "base64"));
  });
}

function finished({ pieces, ...part }) {
  return pieces ? { ...part, content: Buffer.concat(pieces).toString("base64") } : part;
}

for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(JSON.stringify(await read(JSON.parse(line))) + "\n");
}
