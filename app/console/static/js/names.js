// Names of files and models that are too long to be shown whole. They are cut in the middle, because the end of a name
// often tells what its start doesn't: a version or the extension. Pure functions.

const END_GRAPHEMES = 12;
const SHORT_GRAPHEMES = 24;
const MOST_GRAPHEMES = 48;
// In em, and rather too wide than too narrow.
const FULL_WIDTH = 1.05;
const CAPITAL_WIDTH = 1;
const USUAL_WIDTH = 0.7;

function graphemes(text) {
  if (!("Segmenter" in Intl)) return [...text];
  return Array.from(new Intl.Segmenter().segment(text), ({ segment }) => segment);
}

/**
 * Return `{start, end, endWidth}` of a long name: the page may cut the start, but shows the end. `endWidth` is an upper
 * estimate in em. A short name has no end.
 */
export function splitName(name) {
  const all = graphemes(name);
  if (all.length <= SHORT_GRAPHEMES) return { start: name, end: "", endWidth: 0 };
  const end = all.slice(-END_GRAPHEMES);
  const endWidth = end.reduce((sum, grapheme) => sum + widthOf(grapheme), 0);
  return { start: all.slice(0, -END_GRAPHEMES).join(""), end: end.join(""), endWidth };
}

function widthOf(grapheme) {
  if (grapheme.codePointAt(0) >= 0x1100) return FULL_WIDTH;
  return /[A-Zmw@%&]/.test(grapheme) ? CAPITAL_WIDTH : USUAL_WIDTH;
}

/** Return a name of limited length for sentences, where the words around the name must remain visible. */
export function shortName(name) {
  const all = graphemes(name);
  if (all.length <= MOST_GRAPHEMES) return name;
  return `${all.slice(0, MOST_GRAPHEMES - END_GRAPHEMES).join("")}…${all.slice(-END_GRAPHEMES).join("")}`;
}
