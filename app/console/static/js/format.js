// Numbers, sizes, durations and times in the user's language. Pure functions.

const UNITS = ["B", "KB", "MB", "GB", "TB"];

export function formatNumber(value, language, options = {}) {
  return new Intl.NumberFormat(language, options).format(value);
}

/** Format a size in units of 1024, as file managers do: 1,536 bytes are 1.5 KB. Number and unit stay on one line. */
export function formatSize(bytes, language) {
  if (!Number.isFinite(bytes) || bytes < 0) return "–";
  let value = bytes;
  let unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${formatNumber(value, language, { maximumFractionDigits: digits })}\u00a0${UNITS[unit]}`;
}

export function formatPercent(share, language) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(share);
}

/** Format a duration in its two largest units: 2 min 14 s. */
export function formatDuration(milliseconds, language) {
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return "–";
  const seconds = Math.round(milliseconds / 1000);
  const parts = [
    [Math.floor(seconds / 86400), "day"],
    [Math.floor((seconds % 86400) / 3600), "hour"],
    [Math.floor((seconds % 3600) / 60), "minute"],
    [seconds % 60, "second"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first === -1) return unit(0, "second", language);
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, name]) => unit(value, name, language))
    .join(" ");
}

/** Format a usual duration: in whole minutes from one minute on. */
export function formatRoughly(seconds, language) {
  const rounded = seconds >= 60 ? Math.round(seconds / 60) * 60 : seconds;
  return formatDuration(rounded * 1000, language);
}

function unit(value, name, language) {
  return new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "short" }).format(value);
}

/** Format how long ago a time was, or its date if that is more than a week. */
export function formatAgo(moment, now, language) {
  const seconds = (new Date(moment).getTime() - now) / 1000;
  if (!Number.isFinite(seconds)) return "–";
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const size = Math.abs(seconds);
  // What Intl says for this ("now", "現在") doesn't fit into a sentence.
  if (size < 45) return language.startsWith("zh") ? "剛剛" : "just now";
  if (size < 45 * 60) return relative.format(Math.round(seconds / 60), "minute");
  if (size < 22 * 3600) return relative.format(Math.round(seconds / 3600), "hour");
  if (size < 7 * 86400) return relative.format(Math.round(seconds / 86400), "day");
  return new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(new Date(moment));
}

export function formatMoment(moment, language) {
  const date = new Date(moment);
  if (Number.isNaN(date.getTime())) return "–";
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(date);
}

export function formatClock(moment, language) {
  return new Intl.DateTimeFormat(language, { timeStyle: "short" }).format(new Date(moment));
}
