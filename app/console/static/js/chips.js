// What the toolchain says of chips and parameters. The sentences about the chips are among the texts; their counts are
// those of the toolchain manual's table of operators (July 2026), where an operator runs on the NPU.

/** In the order of their generations. `hasLegacy`: the older toolchain environment knows the chip, too. */
export const CHIPS = [
  { id: "520", hasLegacy: true },
  { id: "720", hasLegacy: true },
  { id: "530", hasLegacy: true },
  { id: "630", hasLegacy: true },
  { id: "730", hasLegacy: false },
];

/** The ONNX operator sets that the toolchain's optimizer takes; the legacy environment stops earlier. */
export const OPSETS = { from: 8, to: 18, legacyTo: 12 };

/** Ids below are reserved; above there are none. */
export const FIRST_MODEL_ID = 32768;
export const LAST_MODEL_ID = 65535;
export const VERSION_PATTERN = /^[0-9A-Fa-f]{4}$/;
export const DEFAULTS = { platform: "720", modelId: String(FIRST_MODEL_ID), version: "0001" };

export const chipName = (platform) => (platform ? `KL${String(platform).replace(/^KL/i, "")}` : "–");
