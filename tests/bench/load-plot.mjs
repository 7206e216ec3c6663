// The drawing of load.mjs: how a model arrives over a slow line, and when each way has said its
// first word.
import { GREY, INK, paper } from './svg.mjs';

/**
 * @typedef {import('./load.mjs').Row} Row
 * @typedef {{ name: string, note: string, ms: number, share: number, colour: string }} Mark
 */

const WIDTH = 960;
const HEIGHT = 470;
const LEFT = 70;
const RIGHT = 30;
const TOP = 84;
const BOTTOM = 62;
const COLOURS = { exit: '#0b7a4b', full: '#1d5fa8', wllama: '#b3391f' };

const seconds = (/** @type {number} */ ms) => `${(ms / 1000).toFixed(1)} s`;
const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(0)} %`;

/**
 * @param {any[]} rows of one run of load.mjs; packed is drawn, or range where there is no packed
 * @param {{ mbit: number, totalBytes: number, wllamaName: string }} options
 * @returns {string} an SVG file
 */
export function drawLoad(rows, { mbit, totalBytes, wllamaName }) {
  const way = rows.some((r) => r.way === 'packed') ? 'packed' : 'range';
  const find = (/** @type {string} */ w, /** @type {string} */ mode) =>
    rows.find((r) => r.way === w && r.mode === mode);
  const exit = find(way, 'exit');
  const full = find(way, 'full');
  const theirs = find('wllama', 'full');
  const curve = (full ?? exit ?? theirs)?.runs.at(0)?.curve;
  if (!curve)
    throw new Error('--plot: nothing to draw; one of the ways packed, range, wllama is needed');
  /** @type {Mark[]} */
  const marks = [];
  if (exit)
    marks.push({
      name: `ExitLM, exit${exit.accuracy ? ` at ${exit.accuracy}` : ''}`,
      note: `${seconds(exit.first_ms)}, ${percent(exit.share)} of the bytes`,
      ms: exit.first_ms,
      share: exit.share,
      colour: COLOURS.exit,
    });
  if (full)
    marks.push({
      name: 'ExitLM, full',
      note: `${seconds(full.first_ms)}, ${full.after_last_byte_ms.toFixed(0)} ms after the last byte`,
      ms: full.first_ms,
      share: Math.min(1, full.share),
      colour: COLOURS.full,
    });
  if (theirs)
    marks.push({
      name: wllamaName,
      note: `${seconds(theirs.first_ms)}, ${(theirs.after_last_byte_ms / 1000).toFixed(1)} s after the last byte`,
      ms: theirs.first_ms,
      share: Math.min(1, theirs.share),
      colour: COLOURS.wllama,
    });

  const endMs =
    Math.max(
      ...marks.map((m) => m.ms),
      ...(exit?.runs ?? []).map((/** @type {any} */ run) => run.firstMs),
      curve.at(-1).ms,
    ) * 1.04;
  const x = (/** @type {number} */ ms) => LEFT + (ms / endMs) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ share) =>
    HEIGHT - BOTTOM - Math.min(1, share) * (HEIGHT - TOP - BOTTOM);
  const { text, line, out, svg } = paper({
    width: WIDTH,
    height: HEIGHT,
    title: 'First token of each way on a slow line',
  });

  text(
    LEFT,
    30,
    'When the first token is out, on a line of ' + mbit + ' Mbit/s',
    'font-size="17" font-weight="600"',
  );
  text(
    LEFT,
    52,
    `Bytes that have arrived, of ${(totalBytes / 1e6).toFixed(0)} MB${exit ? ` (weights and exit heads); small dots: each of ${exit.prompts} prompts in exit mode; medians are labelled` : ''}`,
    `fill="${GREY}"`,
  );
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    line(
      LEFT,
      y(share),
      WIDTH - RIGHT,
      y(share),
      `stroke="${share === 0 ? '#9aa5b1' : '#e4e7eb'}"`,
    );
    text(LEFT - 8, y(share) + 4, percent(share), `text-anchor="end" fill="${GREY}"`);
  }
  for (let s = 0; s * 1000 <= endMs; s += 10) {
    line(x(s * 1000), y(0), x(s * 1000), y(0) + 5, 'stroke="#9aa5b1"');
    text(x(s * 1000), y(0) + 20, `${s} s`, `text-anchor="middle" fill="${GREY}"`);
  }
  text(
    (LEFT + WIDTH - RIGHT) / 2,
    HEIGHT - 16,
    'since the page asked for the model',
    `text-anchor="middle" fill="${GREY}"`,
  );
  const last = curve.at(-1);
  out.push(
    `<path d="M${[...curve, { ms: endMs, share: last.share }].map((/** @type {any} */ p) => `${x(p.ms).toFixed(1)} ${y(p.share).toFixed(1)}`).join('L')}" fill="none" stroke="#9aa5b1" stroke-width="3" stroke-linejoin="round"/>`,
  );
  for (const run of exit?.runs ?? [])
    out.push(
      `<circle cx="${x(run.firstMs).toFixed(1)}" cy="${y(run.share).toFixed(1)}" r="3.5" fill="${COLOURS.exit}" fill-opacity="0.45"/>`,
    );

  // Labels stand to the left of their marks, lower ones for later marks: they never meet the curve,
  // which rises from the left.
  const labelled = [...marks].sort((a, b) => a.ms - b.ms);
  for (const [i, { name, note, ms, share, colour }] of labelled.entries()) {
    const labelY = Math.max(y(share) + 44, HEIGHT - BOTTOM - 46 * (labelled.length - i) - 4);
    line(
      x(ms),
      y(share),
      x(ms),
      labelY - 4,
      `stroke="${colour}" stroke-width="1.5" stroke-dasharray="2 3"`,
    );
    out.push(
      `<circle cx="${x(ms).toFixed(1)}" cy="${y(share).toFixed(1)}" r="6.5" fill="${colour}" stroke="#ffffff" stroke-width="2"/>`,
    );
    text(
      x(ms) - 7,
      labelY,
      name,
      `text-anchor="end" font-weight="600" font-size="14" fill="${colour}"`,
    );
    text(x(ms) - 7, labelY + 17, note, `text-anchor="end" fill="${INK}"`);
    line(x(ms), labelY - 4, x(ms), labelY + 18, `stroke="${colour}" stroke-width="1.5"`);
  }
  return svg();
}
