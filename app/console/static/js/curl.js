// The API calls of a conversion as curl commands for POSIX shells. Pure functions.

import { nameOf, sizeOf, uploadNames } from "./references/images.js";

/** What stands for the session cookie's value, which scripts can't read. */
export const PLACEHOLDER = "PASTE-HERE";

/** Longer commands have one option per line, as in the API reference. */
const MOST_COLUMNS = 100;
const PLAIN_IN_SHELL = /^[\w./-][\w.,:/=@-]*$/;
const PLAIN_IN_CURL = /^[\w./-]+$/;

/** Return the text as one word of a shell command. */
export function shellWord(text) {
  // A terminal obeys control characters when they are pasted, even inside quotes.
  const safe = text.replace(/[^\P{Cc}\n\t]/gu, "");
  return PLAIN_IN_SHELL.test(safe) ? safe : `'${safe.replaceAll("'", "'\\''")}'`;
}

/** Return a value or a path for curl's `-F`, where `;`, `,`, quotes and leading `@` and `<` have a meaning. */
export const formWord = (text) => (PLAIN_IN_CURL.test(text) ? text : `"${text.replace(/[\\"]/g, "\\$&")}"`);

/** curl reads `-` as the standard input. */
const pathOf = (path) => (path.startsWith("-") ? `./${path}` : path);

/**
 * Return the calls that check, inspect and start a conversion, as `[{name, command}]`. `size` is that of all files, or
 * 0 if it is unknown. `place` is `{origin, cookie}`: the gateway's address and the session cookie's name.
 */
export function callsOfUpload(place, { model, modelId, version, platform, references, size }) {
  const given = Object.entries({ model_id: modelId, version, platform }).filter(([, value]) => value !== undefined);
  const fields = Object.fromEntries(given);
  const parts = given.length + 1 + references.length;
  const question = { filename: model, ...(size && { size, parts }), ...fields };
  return [
    { name: "check", command: command(place, "/api/conversion/check", Object.entries(question).map(dataOption)) },
    { name: "inspect", command: command(place, "/api/conversion/inspect", [fileOption("model", model)]) },
    { name: "init", command: command(place, "/api/conversion/init", uploadOptions({ fields, model, references })) },
  ];
}

/**
 * Return the calls that poll a job, download its result if there can be one, and check, inspect and start the same
 * conversion again. `files` are those that were sent, `{model, references}`, or null if the page doesn't know them.
 */
export function callsOfJob(place, job, files) {
  const { job_id: id, filename, status, parameters = {} } = job;
  const { model_id: modelId, version, platform } = parameters;
  const path = `/api/conversion/${encodeURIComponent(id)}`;
  const result = `${(filename || id).replace(/\.[^.]*$/, "")}.nef`;
  // With -f, curl writes no file if the download fails.
  const options = ["-fL", `-o ${shellWord(pathOf(result))}`];
  const model = files?.model.name || filename || "model.onnx";
  const references = files?.references ?? [];
  const size = files ? files.model.size + sizeOf(references) : 0;
  return [
    { name: "poll", command: command(place, path, []) },
    !["failed", "cancelled"].includes(status) && { name: "download", command: command(place, `${path}/download`, options) },
    ...callsOfUpload(place, { model, modelId, version, platform, references, size }),
  ].filter(Boolean);
}

function uploadOptions({ fields, model, references }) {
  const names = uploadNames(references);
  return [
    ...Object.entries(fields).map(([name, value]) => `-F ${shellWord(`${name}=${formWord(String(value))}`)}`),
    fileOption("model", model),
    ...references.map(({ path }, index) => fileOption("ref_images", path, names[index])),
  ];
}

/** Return the option that sends a file, under the name of the file itself unless another is given. */
function fileOption(field, path, name = nameOf(path)) {
  const renamed = name === nameOf(path) ? "" : `;filename=${formWord(name)}`;
  return `-F ${shellWord(`${field}=@${formWord(pathOf(path))}${renamed}`)}`;
}

function dataOption([name, value]) {
  const text = String(value);
  return `${PLAIN_IN_CURL.test(text) ? "-d" : "--data-urlencode"} ${shellWord(`${name}=${text}`)}`;
}

function command({ origin, cookie }, path, options) {
  // With -b, curl would send the cookie to the host of a redirect, too.
  const parts = ["curl", `-H 'Cookie: ${cookie}=${PLACEHOLDER}'`, ...options, shellWord(origin + path)];
  const line = parts.join(" ");
  return line.length <= MOST_COLUMNS ? line : parts.join(" \\\n  ");
}
