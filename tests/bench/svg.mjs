// What the pictures of measurements are drawn with.

export const INK = '#1f2933';
export const GREY = '#52606d';

const escape = (/** @type {string} */ text) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** An empty white picture. @param {{ width: number, height: number, title: string }} options */
export function paper({ width, height, title }) {
  /** @type {string[]} */
  const out = [];
  return {
    out,
    text: (
      /** @type {number} */ at,
      /** @type {number} */ line,
      /** @type {string} */ what,
      attributes = '',
    ) =>
      out.push(
        `<text x="${at.toFixed(1)}" y="${line.toFixed(1)}" ${attributes}>${escape(what)}</text>`,
      ),
    line: (
      /** @type {number} */ x1,
      /** @type {number} */ y1,
      /** @type {number} */ x2,
      /** @type {number} */ y2,
      attributes = '',
    ) =>
      out.push(
        `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" ${attributes}/>`,
      ),
    path: (/** @type {number[][]} */ points, attributes = '') =>
      out.push(
        `<path d="M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L')}" fill="none" ${attributes}/>`,
      ),
    svg: () =>
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13" fill="${INK}">\n` +
      `<title>${escape(title)}</title>\n<rect width="100%" height="100%" fill="#ffffff"/>\n${out.join('\n')}\n</svg>\n`,
  };
}
