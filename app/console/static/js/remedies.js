// What can be done about failures that the toolchain is known for, by the words in which it reports them. The converter's
// own message is always shown as well: this only adds to it.

const KNOWN = [
  [/undefined CPU op/i, "unsupported_operator"],
  [/run_updater[^]*SIGABRT|died with <Signals\.SIGABRT/, "analysis_killed"],
  [/cannot find the corresponding input image folder/i, "missing_reference_images"],
  [/inferred shape and existing shape differ in rank/i, "shape_mismatch"],
];

/** The key of the text that helps, or null where the message is none of the known ones. */
export function remedyFor(message) {
  const found = KNOWN.find(([pattern]) => pattern.test(message ?? ""));
  return found ? `job.remedy.${found[1]}` : null;
}
