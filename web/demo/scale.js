// Depth as colour. Eleven steps from shallow (bright) to deep (dark), in style.css: viridis, whose
// lightness falls evenly, so that it reads without colour vision too.

export const STEPS = 11;

/**
 * Where the scale begins: somewhat below the cheapest exit. @param {{ of: number, exits: number[]
 * }} run
 */
export const lowest = ({ of, exits }) => (exits.length && of ? 0.75 * (exits[0] / of) : 0);

/**
 * @param {number} work share of a full token's multiply-adds
 * @param {number} low
 * @returns {number} 0 … STEPS - 1
 */
export function stepOf(work, low) {
  const t = (Math.min(1, work) - low) / (1 - low || 1);
  return Math.max(0, Math.min(STEPS - 1, Math.round(t * (STEPS - 1))));
}

/** @param {number} head @param {{ of: number, exits: number[] }} run */
export function nameOfHead(head, { of, exits }) {
  if (head < 0) return `all ${of} layers`;
  return exits[head] === of ? `layer ${of}, short list` : `layer ${exits[head] ?? '?'}`;
}
