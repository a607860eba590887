// The toolchain's rules for chips and parameters. The texts about the chips have the numbers of operators that run on
// the NPU, from the operator table in the toolchain manual (July 2026).

/** In order of their generation. */
export const CHIPS = ["520", "720", "530", "630", "730"];

/** The range of model IDs; lower ones are reserved. */
export const FIRST_MODEL_ID = 32768;
export const LAST_MODEL_ID = 65535;
export const VERSION_PATTERN = /^[0-9A-Fa-f]{4}$/;
export const DEFAULTS = { platform: "720", modelId: String(FIRST_MODEL_ID), version: "0001" };

export const chipName = (platform) => (platform ? `KL${String(platform).replace(/^KL/i, "")}` : "–");
