// Commands for curl: words for the shell and for `-F`. A browser test runs the commands.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { callsOfUpload, callsOfJob, formWord, shellWord } from "../js/curl.js";

const PLACE = { origin: "http://localhost", cookie: "visiona_session" };
const WISH = { model: "net.onnx", modelId: "32769", version: "0001", platform: "720", references: [], size: 7 };

const commands = (calls) => Object.fromEntries(calls.map(({ name, command }) => [name, command]));

test("a word means the same text in a shell", () => {
  for (const text of ["net.onnx", "it's", "a b", "`id`$(id)$HOME\\", "=ls", "~", "-x", "!!", 'a"b;c', "two\nlines", "網路", ""]) {
    assert.equal(execFileSync("sh", ["-c", `printf %s ${shellWord(text)}`], { encoding: "utf8" }), text);
  }
});

test("a word has no control characters that a terminal would obey", () => {
  assert.equal(shellWord("net\u001b[201~\rid\u009b.onnx"), "'net[201~id.onnx'");
});

test("curl takes a path or a value as it is", () => {
  assert.equal(formWord("set/1.jpg"), "set/1.jpg");
  assert.equal(formWord("@/etc/passwd"), '"@/etc/passwd"');
  assert.equal(formWord('a;b,c "d" \\e'), '"a;b,c \\"d\\" \\\\e"');
});

test("the commands have the values of the form, and are short if they can be", () => {
  assert.deepEqual(commands(callsOfUpload(PLACE, { ...WISH, model: "-", size: 0 })), {
    check:
      "curl \\\n  -H 'Cookie: visiona_session=PASTE-HERE' \\\n  -d filename=- \\\n  -d model_id=32769 \\\n  -d version=0001 \\\n" +
      "  -d platform=720 \\\n  http://localhost/api/conversion/check",
    inspect: "curl -H 'Cookie: visiona_session=PASTE-HERE' -F model=@./- http://localhost/api/conversion/inspect",
    init:
      "curl \\\n  -H 'Cookie: visiona_session=PASTE-HERE' \\\n  -F model_id=32769 \\\n  -F version=0001 \\\n  -F platform=720 \\\n" +
      "  -F model=@./- \\\n  http://localhost/api/conversion/init",
  });
});

test("images have their paths, and the names under which the page sends them", () => {
  const references = ["set/left/1.jpg", "set/right/1.jpg", "2.jpg"].map((path) => ({ path, file: { size: 1 } }));
  const { check, init } = commands(callsOfUpload(PLACE, { ...WISH, references }));
  assert.match(check, /-d size=7 \\\n {2}-d parts=7 /);
  assert.match(init, /-F 'ref_images=@set\/left\/1.jpg;filename=set_left_1.jpg' /);
  assert.match(init, /-F ref_images=@2.jpg /);
});

test("a job has no download if it has failed, and its files if this tab has sent them", () => {
  const job = { job_id: "j-1", filename: "net.v2.onnx", status: "completed", parameters: { model_id: 32769, platform: "720" } };
  const known = commands(callsOfJob(PLACE, job, null));
  assert.match(known.poll, / http:\/\/localhost\/api\/conversion\/j-1$/);
  assert.match(known.download, / -fL \\\n {2}-o net.v2.nef \\/);
  assert.match(known.check, / -d filename=net.v2.onnx \\\n {2}-d model_id=32769 \\\n {2}-d platform=720 \\/);
  assert.match(known.init, /-F model_id=32769 \\\n {2}-F platform=720 \\\n {2}-F model=@net.v2.onnx /);
  const files = { model: { name: "net v2.onnx", size: 7 }, references: [{ path: "1.jpg", file: { size: 2 } }] };
  const failed = commands(callsOfJob(PLACE, { ...job, status: "failed" }, files));
  assert.deepEqual(Object.keys(failed), ["poll", "check", "inspect", "init"]);
  assert.match(failed.check, /-d size=9 \\\n {2}-d parts=4 /);
  assert.match(failed.init, /-F 'model=@"net v2.onnx"' \\\n {2}-F ref_images=@1.jpg /);
});
