// Whether a soak went well, and its curve.
import { INK, GREY, paper } from '../bench/svg.mjs';

/**
 * @typedef {{ seconds: number, linear: number, heap: number, resident: number }} Sample after a
 *   round, in bytes: the largest linear memory; JavaScript's objects without garbage; what the
 *   processes hold of the machine's memory
 */

/** How much more the last third may take than the second: a share, and bytes. */
export const TOLERANCE = {
  linear: { share: 0, bytes: 1e6 }, // what arrives together differs a little from load to load
  heap: { share: 0.05, bytes: 1e6 },
  resident: { share: 0.05, bytes: 16e6 },
};
const NAMES = { linear: 'linear memory', heap: 'JavaScript', resident: 'resident' };
const COLOURS = { linear: '#1d5fa8', heap: '#0b7a4b', resident: '#b3391f' };
/** Fewer tell nothing of growth. */
export const FEWEST_ROUNDS = 6;

const kinds = /** @type {(keyof typeof TOLERANCE)[]} */ (Object.keys(TOLERANCE));
const median = (/** @type {number[]} */ list) =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

/**
 * The first third of the rounds warms up caches and compilers; the medians of the other two are
 * compared.
 * @param {Sample[]} samples
 */
export function growth(samples) {
  const third = Math.floor(samples.length / 3);
  return kinds.map((kind) => {
    const of = (/** @type {number} */ from, /** @type {number} */ to) =>
      median(samples.slice(from, to).map((sample) => sample[kind]));
    const before = of(third, samples.length - third);
    const after = of(samples.length - third, samples.length);
    const { share, bytes } = TOLERANCE[kind];
    return { kind, before, after, grown: after > before * (1 + share) + bytes };
  });
}

/** @param {Sample[]} samples @returns {string[]} sentences on what grew */
export function complaints(samples) {
  if (samples.length < FEWEST_ROUNDS) return [];
  return growth(samples)
    .filter(({ grown }) => grown)
    .map(
      ({ kind, before, after }) =>
        `${NAMES[kind]} grew from ${before} to ${after} bytes between the second and the last third of ${samples.length} rounds`,
    );
}

/** @param {Record<string, Sample[]>} places @returns {string} an SVG file */
export function drawSoak(places) {
  const [width, panel, left, right, top] = [960, 190, 70, 200, 70];
  const names = Object.keys(places);
  const { text, line, path, svg } = paper({
    width,
    height: top + names.length * panel + 20,
    title: 'Memory over a soak',
  });
  text(left, 30, 'Memory after each round of a soak', 'font-size="17" font-weight="600"');
  const end = Math.max(1, ...names.flatMap((name) => places[name].map((s) => s.seconds)));
  const x = (/** @type {number} */ s) => left + (s / end) * (width - left - right);
  for (const [i, name] of names.entries()) {
    const samples = places[name];
    const foot = top + (i + 1) * panel - 40;
    const most = Math.max(1, ...samples.flatMap((s) => kinds.map((kind) => s[kind])));
    const y = (/** @type {number} */ bytes) => foot - (bytes / most) * (panel - 66);
    text(left, foot - panel + 58, `${name}: ${samples.length} rounds`, 'font-weight="600"');
    for (const share of [0, 0.5, 1]) {
      line(left, y(share * most), width - right, y(share * most), 'stroke="#e4e7eb"');
      const label = `${((share * most) / 1e6).toFixed(0)} MB`;
      text(left - 8, y(share * most) + 4, label, `text-anchor="end" fill="${GREY}"`);
    }
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const label = `${((share * end) / 60).toFixed(1)} min`;
      text(x(share * end), foot + 18, label, `text-anchor="middle" fill="${GREY}"`);
    }
    for (const [j, kind] of kinds.entries()) {
      path(
        samples.map((s) => [x(s.seconds), y(s[kind])]),
        `stroke="${COLOURS[kind]}" stroke-width="2"`,
      );
      const last = samples.at(-1)?.[kind] ?? 0;
      const label = `${NAMES[kind]} ${(last / 1e6).toFixed(1)} MB`;
      line(
        width - right + 8,
        foot - 50 + 20 * j,
        width - right + 24,
        foot - 50 + 20 * j,
        `stroke="${COLOURS[kind]}" stroke-width="2"`,
      );
      text(width - right + 28, foot - 46 + 20 * j, label, `fill="${INK}"`);
    }
  }
  return svg();
}
