// Advice for known failures of the toolchain, found by the words of its messages. The converter's own message is always
// shown as well.

const KNOWN = [
  [/undefined CPU op/i, "unsupported_operator"],
  [/run_updater[^]*SIGABRT|died with <Signals\.SIGABRT/, "analysis_killed"],
  [/cannot find the corresponding input image folder/i, "missing_reference_images"],
  [/inferred shape and existing shape differ in rank/i, "shape_mismatch"],
];

/** Return the key of the advice for a message, or null. */
export function remedyFor(message) {
  const found = KNOWN.find(([pattern]) => pattern.test(message ?? ""));
  return found ? `job.remedy.${found[1]}` : null;
}
