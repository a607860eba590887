// The usual time of a conversion, in words. `usual` is the API's `usual_time`, or null.

import { formatRoughly } from "../format.js";
import { language, t } from "../i18n.js";

/** Return the usual time of a conversion, or "" if it is unknown. */
export function usualTime(usual) {
  if (!usual) return "";
  const median = formatRoughly(usual.median_seconds, language());
  const longest = formatRoughly(usual.p90_seconds, language());
  return median === longest ? t("usual.about", { median }) : t("usual.range", { median, longest });
}

/** Return the usual time of one stage, or "" if it is unknown. */
export function usualStageTime(usual) {
  return usual ? t("usual.about", { median: formatRoughly(usual.median_seconds, language()) }) : "";
}

/** Only one of ten conversions takes longer than the 90th percentile. */
export function isLongerThanUsual(usual, seconds) {
  return Boolean(usual) && seconds > usual.p90_seconds;
}

export function longerThanUsual(usual) {
  return t("usual.longer", { longest: formatRoughly(usual.p90_seconds, language()) });
}
