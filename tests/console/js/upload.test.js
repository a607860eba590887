// An upload against a request that is played by the test.

import assert from "node:assert/strict";
// Node 18 has no global one.
import { File } from "node:buffer";
import { test } from "node:test";

import { ABORTED, NETWORK, UNREACHABLE } from "../js/problems.js";
import { startUpload, uploadBody } from "../js/upload.js";

class PlayedRequest extends EventTarget {
  upload = new EventTarget();
  headers = {};
  status = 0;
  responseText = "";

  open(method, url) {
    this.opened = [method, url];
  }

  setRequestHeader(name, value) {
    this.headers[name] = value;
  }

  send(body) {
    this.body = body;
  }

  abort() {
    this.dispatchEvent(new Event("abort"));
  }

  getResponseHeader(name) {
    return this.answerHeaders?.[name] ?? null;
  }

  answer(status, text, headers = {}) {
    Object.assign(this, { status, responseText: text, answerHeaders: headers });
    this.dispatchEvent(new Event("load"));
  }
}

function begin() {
  const request = new PlayedRequest();
  const seen = { progress: [], sent: 0 };
  const listeners = { id: "try-1", onProgress: (progress) => seen.progress.push(progress), onSent: () => (seen.sent += 1) };
  const upload = startUpload("/api/conversion/init", "body", listeners, () => request);
  return { request, seen, upload };
}

test("progress is reported, then that everything is sent, then the job", async () => {
  const { request, seen, upload } = begin();
  request.upload.dispatchEvent(Object.assign(new Event("progress"), { loaded: 5, total: 10 }));
  request.upload.dispatchEvent(new Event("load"));
  request.answer(201, '{"job_id": "job-1"}');
  assert.equal((await upload.done).job_id, "job-1");
  assert.deepEqual([seen.progress[0].loaded, seen.progress[0].total, seen.sent], [5, 10, 1]);
  assert.deepEqual(request.opened, ["POST", "/api/conversion/init"]);
  assert.equal(request.headers["X-Upload-ID"], "try-1");
});

test("a refusal rejects with its problem", async () => {
  const { request, upload } = begin();
  const headers = { "Content-Type": "application/problem+json", "Retry-After": "5" };
  request.answer(409, '{"code": "active_job_conflict", "status": 409}', headers);
  await assert.rejects(upload.done, { code: "active_job_conflict", retryAfterSeconds: 5 });
});

test("a successful response without a job is a failure", async () => {
  const { request, upload } = begin();
  request.answer(201, "<html>");
  await assert.rejects(upload.done, { code: UNREACHABLE });
});

test("a broken connection is a problem of the network", async () => {
  const { request, upload } = begin();
  request.dispatchEvent(new Event("error"));
  await assert.rejects(upload.done, { code: NETWORK, status: 0 });
});

test("an upload can be canceled", async () => {
  const { upload } = begin();
  upload.abort();
  await assert.rejects(upload.done, { code: ABORTED });
});

test("small parts come before files, and the model before the images", () => {
  const model = new File(["m"], "網路.onnx");
  const references = ["left", "right"].map((folder) => ({ file: new File([folder], "1.jpg"), path: `set/${folder}/1.jpg` }));
  const body = uploadBody({ model, references, platform: "720", modelId: "32768", version: "0001" });
  assert.deepEqual([...body.keys()], ["model_id", "version", "platform", "model", "ref_images", "ref_images"]);
  assert.equal(body.get("model").name, "網路.onnx");
});
