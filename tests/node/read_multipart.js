// Reads multipart messages with busboy, one a line, and says what it saw.
//
//   in   {"content_type": "multipart/form-data; boundary=x", "body": "<base64>"}
//   out  {"parts": [{"kind": "field", "name": "a", "filename": null, "content": "<base64>"}], "error": null}
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
        // Names are UTF-8; a field's bytes come through unchanged as Latin-1.
        defParamCharset: "utf8",
        defCharset: "latin1",
        limits: UNLIMITED,
      });
    } catch (error) {
      end(error);
      return;
    }
    reader.on("field", (name, value, { mimeType }) => {
      parts.push({ kind: "field", name, filename: null, type: mimeType, pieces: [Buffer.from(value, "latin1")] });
    });
    reader.on("file", (name, stream, { filename, mimeType }) => {
      const part = { kind: "file", name, filename: filename ?? null, type: mimeType, pieces: [] };
      parts.push(part);
      stream.on("data", (piece) => part.pieces.push(piece));
      stream.on("error", () => {});
    });
    reader.on("error", end);
    reader.on("close", () => end(null));
    reader.end(Buffer.from(body, "base64"));
  });
}

function finished({ kind, name, filename, type, pieces }) {
  return { kind, name: name ?? null, filename, type, content: Buffer.concat(pieces).toString("base64") };
}

for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(JSON.stringify(await read(JSON.parse(line))) + "\n");
}
