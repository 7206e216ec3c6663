// Charts of one answer: where its tokens left the model, how deep each went, and how fast it was
// beside the full model.
import { count, el, percent, speed, svg } from './dom.js';
import {
  aboutHead,
  meanDepth,
  meanWork,
  nameOfHead,
  ratioOf,
  speedOf,
  stepOf,
  sums,
} from './scale.js';
import { FREE } from './store.js';

/**
 * @typedef {import('./store.js').Run} Run
 * @typedef {import('./answer.js').AnswerView} AnswerView
 */

const WIDTH = 280;
const WINDOW = 8; // tokens that a point of the speed curve is the mean of

/**
 * @param {HTMLElement & { answer?: AnswerView }} panel
 * @param {AnswerView | null} answer
 * @param {(() => void) | null} measure measures the full model again, where that can be
 */
export function drawInsight(panel, answer, measure) {
  panel.classList.add('chart-owner');
  panel.answer = answer ?? undefined;
  const run = answer?.run;
  if (!run || !run.tokens.length) {
    panel.replaceChildren(
      el(
        'p',
        { class: 'note' },
        'The next answer is drawn here while it is written: how deep each token went, where it left the model, and how fast.',
      ),
    );
    return;
  }
  panel.replaceChildren(
    figures(run),
    histogram(run),
    depthChart(run),
    speedChart(run, run.full ?? null, measure),
  );
}

/** @param {Run} run */
function figures(run) {
  const rate = speedOf(run);
  const ratio = ratioOf(run);
  const figure = (
    /** @type {string} */ value,
    /** @type {string} */ name,
    /** @type {string} */ title,
  ) => el('div', { title }, el('dd', {}, value), el('dt', {}, name));
  return el(
    'dl',
    { class: 'figures' },
    figure(
      speed(rate),
      'tokens a second',
      'Tokens after the first, without what waited for the line',
    ),
    ratio
      ? figure(
          `${ratio.toFixed(2)}×`,
          'as fast as full',
          `The full model wrote ${speed(run.full)} tokens a second here`,
        )
      : figure(String(run.tokens.length), 'tokens', 'Tokens of this answer'),
    figure(
      percent(1 - meanWork(run)),
      'work saved',
      'Of the multiply-adds of the full model, everything counted',
    ),
    figure(percent(meanDepth(run)), 'of the layers', 'Layers run for a token, on average'),
  );
}

/** @param {Run} run */
function histogram(run) {
  const heads = [...run.exits.keys(), -1];
  const { free } = sums(run);
  const rows = heads.map((index) => {
    const tokens = run.tokens.filter((row) => row[3] === index && !((row[7] ?? 0) & FREE));
    const expected = index < 0 ? 1 : run.exits[index] / run.of;
    return {
      name: nameOfHead(index, run),
      about: aboutHead(index, run),
      n: tokens.length,
      work: tokens.length ? tokens.reduce((sum, row) => sum + row[2], 0) / tokens.length : expected,
    };
  });
  if (free)
    rows.unshift({
      name: 'no layer: free',
      about: 'The shape leaves no choice, so nothing is computed.',
      n: free,
      work: 0,
    });
  const total = run.tokens.length;
  return section(
    'Where tokens left',
    el(
      'ul',
      { class: 'histogram' },
      ...rows.map(({ name, about, n, work }) => {
        const share = n / total;
        const bar = el('span', { 'class': 'bar-fill', 'data-step': stepOf(work, run) });
        bar.style.inlineSize = `${share * 100}%`;
        return el(
          'li',
          { title: about },
          el('span', { class: 'bar-name' }, name),
          el('span', { class: 'bar-track' }, bar),
          el('span', { class: 'bar-value', title: count(n, 'token') }, percent(share)),
        );
      }),
    ),
  );
}

/** @param {Run} run */
function depthChart(run) {
  const height = 84;
  const n = Math.max(run.tokens.length, 24);
  const step = WIDTH / n;
  const bars = run.tokens.map(([, layer, work], i) => {
    const h = Math.max(2, Math.min(1, layer / (run.of || 1)) * height);
    return svg('rect', {
      'x': (i * step).toFixed(2),
      'y': (height - h).toFixed(2),
      'width': Math.max(0.5, step - (step > 3 ? 1 : 0.15)).toFixed(2),
      'height': h.toFixed(2),
      'data-step': stepOf(work, run),
      'data-token': '',
      'data-i': i,
    });
  });
  const lines = run.exits
    .filter((layer) => layer < run.of)
    .map((layer) => {
      const y = height - (layer / run.of) * height;
      return svg('line', { x1: 0, x2: WIDTH, y1: y, y2: y, class: 'grid' });
    });
  const chart = svg(
    'svg',
    {
      'viewBox': `0 0 ${WIDTH} ${height}`,
      'preserveAspectRatio': 'none',
      'class': 'chart bars',
      'role': 'img',
      'aria-label': `Layers run for each of ${count(run.tokens.length, 'token')}; ${meanDepth(run).toFixed(2)} of all layers on average`,
    },
    ...bars,
    ...lines,
  );
  return section(
    'Depth along the answer',
    el(
      'div',
      { class: 'chart-box' },
      chart,
      el('span', { class: 'axis top' }, String(run.of)),
      el('span', { class: 'axis bottom' }, '0 layers'),
    ),
  );
}

/** @param {Run} run @param {number | null} full @param {(() => void) | null} measure */
function speedChart(run, full, measure) {
  const times = run.tokens.slice(1).map((row) => row[6]);
  if (times.length < 3 || times.includes(null)) {
    return section(
      'Speed',
      el(
        'p',
        { class: 'note' },
        times.length < 3 ? 'After a few tokens.' : 'There is no usable clock here.',
      ),
    );
  }
  const points = times.map((_, i) => {
    const some = /** @type {number[]} */ (times.slice(Math.max(0, i - WINDOW + 1), i + 1));
    const sum = some.reduce((a, b) => a + b, 0);
    return sum > 0 ? (1000 * some.length) / sum : 0;
  });
  // the first means are of one or two tokens
  const shown = points.slice(Math.min(3, points.length - 1));
  const height = 84;
  const clip = 3 * (speedOf(run) ?? Infinity); // clocks of pages are coarse
  for (const [i, v] of shown.entries()) shown[i] = Math.min(v, clip);
  const most = 1.15 * Math.max(...shown, full ?? 0);
  const x = (/** @type {number} */ i) => ((i / Math.max(1, shown.length - 1)) * WIDTH).toFixed(1);
  const y = (/** @type {number} */ v) => (height - (v / most) * height).toFixed(1);
  const line = shown.map((v, i) => `${i ? 'L' : 'M'}${x(i)} ${y(v)}`).join('');
  const chart = svg(
    'svg',
    {
      'viewBox': `0 0 ${WIDTH} ${height}`,
      'preserveAspectRatio': 'none',
      'class': 'chart',
      'role': 'img',
      'aria-label': `Tokens a second along the answer, ${speed(speedOf(run))} on average${full ? `; the full model ${speed(full)}` : ''}`,
    },
    svg('path', { d: `${line}L${WIDTH} ${height}L0 ${height}Z`, class: 'area' }),
    full ? svg('line', { x1: 0, x2: WIDTH, y1: y(full), y2: y(full), class: 'reference' }) : null,
    svg('path', { d: line, class: 'curve' }),
  );
  const box = el(
    'div',
    { class: 'chart-box' },
    chart,
    el('span', { class: 'axis top' }, `${speed(most / 1.15)}/s`),
  );
  if (full) {
    const label = el('span', { class: 'axis on-line' }, `full ${speed(full)}`);
    label.style.insetBlockStart = `${(Number(y(full)) / height) * 100}%`;
    box.append(label);
  }
  return section(
    'Tokens a second',
    box,
    measure &&
      el('button', { type: 'button', class: 'quiet', onclick: measure }, 'Measure full again'),
  );
}

/** @param {string} title @param {...any} children */
const section = (title, ...children) =>
  el('section', { class: 'panel' }, el('h3', {}, title), ...children);

/**
 * The colours and what they mean: each way out that these answers took, and what it saved.
 * @param {HTMLElement} node
 * @param {Run[]} runs
 */
export function drawLegend(node, runs) {
  /** @type {Map<number, { n: number, work: number, run: Run }>} */
  const ways = new Map();
  for (const run of runs)
    for (const [, , work, head, , , , marks = 0] of run.tokens) {
      if (marks & FREE) continue;
      const way = ways.get(head) ?? { n: 0, work: 0, run };
      ways.set(head, { n: way.n + 1, work: way.work + work, run });
    }
  const mean = ([, { n, work }]) => work / n;
  node.replaceChildren(
    el('span', {}, 'Work saved:'),
    ...[...ways]
      .sort((a, b) => mean(a) - mean(b))
      .map((way) => {
        const [head, { run }] = way;
        const work = mean(way);
        const saved = head < 0 ? 'none' : percent(1 - work);
        return el(
          'span',
          { class: 'way', title: aboutHead(head, run) },
          el('i', { 'data-step': stepOf(work, run) }),
          `${saved}, ${nameOfHead(head, run)}`,
        );
      }),
  );
}
