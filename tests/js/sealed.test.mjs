// The data that nobody tunes to: as it was sealed, whole, and near nothing that is open.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { LIMIT, OPEN, near, place, read, sum } from '../data/seal.mjs';

const SEALED = ['calibration.jsonl', 'test.jsonl', 'tasks-sealed.jsonl'];
const [calibration, final, tasks] = SEALED.map((file) => read(place(file)));
const open = OPEN.flatMap((file) => read(place(file)));

test('the files are those that were sealed', () => {
  assert.equal(
    fs.readFileSync(place('SEALED'), 'utf8'),
    SEALED.map((file) => `${sum(fs.readFileSync(place(file)))}  ${file}\n`).join(''),
  );
});

test('1,800 conversations to calibrate, 300 to test, 600 tasks; each part has the kinds in proportion', () => {
  const all = [...calibration, ...final];
  assert.deepEqual([calibration.length, final.length, tasks.length], [1800, 300, 600]);
  assert.ok(calibration.every((line) => line.split === 'calibration'));
  assert.ok(final.every((line) => line.split === 'test'));
  assert.ok(all.every(({ turns }) => turns?.length && turns.every((turn) => turn.trim())));
  for (const kind of new Set(all.map((line) => line.kind))) {
    const n = (/** @type {import('../data/seal.mjs').Line[]} */ lines) =>
      lines.filter((line) => line.kind === kind).length;
    assert.ok(Math.abs(n(final) - n(all) / 7) < 1.5, kind);
  }
  for (const letter of 'ces') {
    const ids = [...all, ...tasks].map(({ id }) => id).filter((id) => id.startsWith(letter));
    assert.equal(new Set(ids).size, { c: 1800, e: 300, s: 600 }[letter]);
  }
});

test('no near-duplicate among them, nor of what is open', () => {
  const all = [...open, ...calibration, ...final, ...tasks];
  const found = near(all, open.length).map(([i, j, likeness]) => [all[i].id, all[j].id, likeness]);
  assert.deepEqual(found, []);
  // the measure sees one
  const [asked] = calibration;
  const nearly = { ...asked, turns: [`${asked.turns?.[0]} Please!`] };
  const [[i, j, likeness]] = near([...all, nearly], all.length);
  assert.deepEqual([i, j, likeness > LIMIT], [all.length, open.length, true]);
});

test('each accepted text is right by itself, each excluded one wrong', () => {
  // as src/train/eval_tasks.c judges: on word borders, the first one counts
  const letter = '[\\p{L}\\p{N}\\p{M}]';
  const first = (/** @type {string} */ reply, /** @type {string[]} */ texts) =>
    Math.min(
      ...texts.map((text) => {
        const words = text
          .replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
          .replace(new RegExp(`^(?=${letter})`, 'u'), `(?<!${letter})`)
          .replace(new RegExp(`(?<=${letter})$`, 'u'), `(?!${letter})`);
        return new RegExp(words, 'iu').exec(reply)?.index ?? Infinity;
      }),
    );
  for (const { id, answer = [], not = [], match } of [...tasks, ...open]) {
    const right = (/** @type {string} */ reply) =>
      match === 'exact'
        ? answer.includes(reply)
        : first(reply, answer) < Infinity && first(reply, answer) <= first(reply, not);
    for (const text of answer) assert.ok(right(text), `${id}: ${text}`);
    for (const text of not) assert.ok(!right(text), `${id}: ${text}`);
  }
});
