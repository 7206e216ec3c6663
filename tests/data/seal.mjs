// Makes the sealed files, once: conversations for calibration and test, tasks.
//
//   node tests/data/seal.mjs TASKS.jsonl CONVERSATIONS.jsonl...
//
// takes {"kind", "turns"} lines written for it, leaves out what is nearly in another file or comes
// twice, draws the parts by a fixed seed with the kinds in proportion, and writes calibration.jsonl,
// test.jsonl, tasks-sealed.jsonl, what is left of the tasks behind tasks-dev.jsonl, and SEALED.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {{ id: string, split?: string, kind: string, turns?: string[], messages?: { content: string }[], answer?: string[], not?: string[] }} Line */

const SEED = 'exitlm 16';
export const LIMIT = 0.4;
export const OPEN = ['prompts.jsonl', 'prompts-train.jsonl', 'tasks-dev.jsonl'];
const SIZES = { test: 300, calibration: 1800, tasks: 600 };

export const place = (/** @type {string} */ file) =>
  path.join(path.dirname(fileURLToPath(import.meta.url)), file);

/** @returns {Line[]} */
export const read = (/** @type {string} */ file) =>
  fs
    .readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

export const sum = (/** @type {string | Buffer} */ bytes) =>
  createHash('sha256').update(bytes).digest('hex');

/** What is compared: the first turn of a conversation, all of a task. */
const words = (/** @type {Line} */ { turns, messages, answer }) =>
  (turns ? turns.slice(0, answer ? turns.length : 1) : messages.map((m) => m.content)).join(' ');

/** Runs of four characters; what is no letter or digit counts as one space. */
function grams(/** @type {string} */ text) {
  const s = [
    ...` ${text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}]+/gu, ' ')
      .trim()} `,
  ];
  return new Set(
    Array.from({ length: Math.max(1, s.length - 3) }, (_, i) => s.slice(i, i + 4).join('')),
  );
}

/**
 * Near-duplicates: Jaccard's index of their runs of four characters is above LIMIT.
 *
 * @param {Line[]} lines
 * @param {number} from Where those begin that are compared with all before them.
 * @returns {[number, number, number][]} A line, one before it, and how near they are.
 */
export function near(lines, from) {
  /** @type {Map<string, number[]>} */
  const having = new Map();
  const sets = lines.map((line) => grams(words(line)));
  /** @type {[number, number, number][]} */
  const found = [];
  for (const [i, set] of sets.entries()) {
    const shared = new Uint16Array(i < from ? 0 : i);
    for (const gram of set) {
      const before = having.get(gram);
      if (!before) having.set(gram, [i]);
      else {
        if (i >= from) for (const j of before) shared[j]++;
        before.push(i);
      }
    }
    for (const [j, n] of shared.entries()) {
      const likeness = n / (set.size + sets[j].size - n);
      if (likeness > LIMIT) found.push([i, j, likeness]);
    }
  }
  return found;
}

/** `n` of a list, evenly over it. @template T @param {T[]} list @param {number} n */
const spread = (list, n) =>
  list.filter(
    (_, i) => Math.floor(((i + 1) * n) / list.length) > Math.floor((i * n) / list.length),
  );

const drawn = (/** @type {Line} */ line) => sum(SEED + JSON.stringify(line.turns));
const shuffled = (/** @type {Line[]} */ lines) =>
  lines
    .map((line) => ({ line, key: drawn(line) }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map((o) => o.line);
/** Kind by kind, each shuffled. */
const byKind = (/** @type {Line[]} */ lines) =>
  shuffled(lines).sort((a, b) => (a.kind < b.kind ? -1 : Number(a.kind > b.kind)));

/** Lines with what they need, shuffled. */
const text = (/** @type {Line[]} */ lines, /** @type {(i: number) => object} */ head) =>
  shuffled(lines)
    .map((line, i) => `${JSON.stringify({ ...head(i), ...line })}\n`)
    .join('');

function seal(/** @type {string} */ tasksFile, /** @type {string[]} */ files) {
  if (fs.existsSync(place('SEALED'))) throw new Error('SEALED is there: the files are made once');
  const open = OPEN.flatMap((file) => read(place(file))),
    written = files.flatMap(read),
    tasks = read(tasksFile);
  const all = [...open, ...written, ...tasks];
  const twice = new Set();
  for (const [i, j, likeness] of near(all, open.length)) {
    if (twice.has(j)) continue;
    twice.add(i);
    console.log(
      `${likeness.toFixed(2)}  ${words(all[i])}  |  ${words(all[j])}`.replaceAll('\n', ' '),
    );
  }
  const fresh = all.map((line, i) => (i < open.length || twice.has(i) ? [] : [line]));
  const talks = fresh.slice(0, open.length + written.length).flat(),
    kept = fresh.slice(open.length + written.length).flat();
  console.log(
    `conversations: ${talks.length} of ${written.length}; tasks: ${kept.length} of ${tasks.length}`,
  );
  const taken = spread(byKind(talks), SIZES.test + SIZES.calibration);
  const test = new Set(spread(taken, SIZES.test)),
    sealed = new Set(spread(byKind(kept), SIZES.tasks));
  const id = (/** @type {string} */ letter, /** @type {number} */ i, digits = 4) =>
    letter + String(i).padStart(digits, '0');
  const parts = {
    'calibration.jsonl': text(
      taken.filter((line) => !test.has(line)),
      (i) => ({ id: id('c', i + 1), split: 'calibration' }),
    ),
    'test.jsonl': text([...test], (i) => ({ id: id('e', i + 1), split: 'test' })),
    'tasks-sealed.jsonl': text([...sealed], (i) => ({ id: id('s', i + 1, 3) })),
  };
  for (const [file, content] of Object.entries(parts)) fs.writeFileSync(place(file), content);
  fs.appendFileSync(
    place('tasks-dev.jsonl'),
    text(
      kept.filter((line) => !sealed.has(line)),
      (i) => ({ id: id('d', i + 201, 3) }),
    ),
  );
  fs.writeFileSync(
    place('SEALED'),
    Object.entries(parts)
      .map(([file, content]) => `${sum(content)}  ${file}\n`)
      .join(''),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [tasks, ...files] = process.argv.slice(2);
  if (!files.length) throw new Error('node tests/data/seal.mjs TASKS.jsonl CONVERSATIONS.jsonl...');
  seal(tasks, files);
}
