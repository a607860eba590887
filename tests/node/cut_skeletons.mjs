// Write the skeleton, or the reason for having none, beside each `*.onnx` file of a folder.
// Arguments: the module `skeleton.js`, the folder.

import { openAsBlob, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [module, folder] = process.argv.slice(2);
const { cutSkeleton } = await import(pathToFileURL(resolve(module)));

for (const name of readdirSync(folder).filter((each) => each.endsWith(".onnx"))) {
  const path = join(folder, name);
  const { isModel, data, reason } = await cutSkeleton(await openAsBlob(path));
  writeFileSync(`${path}.json`, JSON.stringify({ isModel, reason }));
  if (data !== null) writeFileSync(`${path}.skeleton`, data);
}
