// The drawing of peers.mjs: a bar for each engine and length, a line of bars for each number of threads,
// and where the machine's limit is.
import { GREY, paper } from './svg.mjs';

const LEFT = 150;
const PANEL = 150;
const GAP = 26;
const BAR = 15;
const STEP = 22;
const HEAD = 62;
const COLOURS = { own: '#0b7a4b', other: '#b3391f' };

/**
 * @param {{ model: string, rounds: number, races: { threads: number, engines: { name: string,
 *   figures: { column: string, tokens_per_second: number, share: number }[] }[] }[] }} report
 * @returns {string} an SVG file
 */
export function drawPeers({ model, rounds, races }) {
  const engines = races[0].engines.length;
  const columns = races[0].engines[0].figures.map(({ column }) => column);
  const height = (engines + 1) * STEP + 30;
  const title = `Tokens a second, ${model}, medians of ${rounds} rounds`;
  const { text, line, out, svg } = paper({
    width: LEFT + columns.length * (PANEL + GAP),
    height: HEAD + races.length * height + 20,
    title,
  });
  text(16, 26, title, 'font-size="16" font-weight="600"');
  text(16, 46, 'dashed: what the machine can do at most', `fill="${GREY}"`);
  races.forEach(({ threads, engines: rows }, race) => {
    const top = HEAD + race * height + 18;
    text(16, top, `${threads} thread${threads > 1 ? 's' : ''}`, 'font-weight="600"');
    rows.forEach(({ name }, i) => text(16, top + (i + 1) * STEP, name));
    columns.forEach((column, at) => {
      const x = LEFT + at * (PANEL + GAP);
      const figures = rows.map(({ figures: all }) => all[at]);
      // the limit of the first engine, whose weights and K/V the others have in other formats
      const limit = figures[0].tokens_per_second / figures[0].share;
      const known = figures.map((f) => f.tokens_per_second).filter(Number.isFinite);
      const most = Math.max(limit, ...known);
      text(x, top, column.replace('prompt', 'prompt ').replace('decode', 'decode after '));
      rows.forEach(({ name }, i) => {
        const { tokens_per_second: speed, share } = figures[i];
        if (!Number.isFinite(speed)) return;
        const y = top + (i + 1) * STEP;
        const own = /^(native|node|chromium)/.test(name);
        const width = (PANEL * speed) / most;
        out.push(
          `<rect x="${x}" y="${y - BAR + 3}" width="${width.toFixed(1)}" height="${BAR}" fill="${own ? COLOURS.own : COLOURS.other}" fill-opacity="0.35"/>`,
        );
        text(x + 4, y, `${speed.toFixed(0)} · ${(100 * share).toFixed(0)} %`);
      });
      const end = x + (PANEL * limit) / most;
      line(
        end,
        top + 6,
        end,
        top + rows.length * STEP + 4,
        `stroke="${GREY}" stroke-dasharray="3 3"`,
      );
    });
  });
  return svg();
}
