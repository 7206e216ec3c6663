// exitlm eval --tasks, and the level that a heads file names as its default.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import {
  built,
  chat,
  good,
  hasReal,
  lines,
  objects,
  real,
  root,
  run,
  scratch,
  tiny,
} from './support/cli.mjs';
import { headsFile } from './support/heads-file.mjs';

const jsonl = (/** @type {any[]} */ list) => list.map((o) => `${JSON.stringify(o)}\n`).join('');
const tasksFile = path.join(root, 'tests/data/tasks-dev.jsonl');

function headsOf(
  /** @type {string} */ name,
  levels = [
    { accuracy: 0.9, thresholds: [0.97, 0.97] },
    { accuracy: 0.95, thresholds: [0, 0.6] },
  ],
) {
  const [info] = objects(['inspect', tiny]);
  return scratch(
    name,
    headsFile({
      fingerprint: info.fingerprint,
      layers: info.layers,
      dim: info.dim,
      vocab: info.vocab,
      kvDim: info.kv_heads * info.head_dim,
      heads: [
        { layer: 3, rows: 200 },
        { layer: 6, rows: 300 },
      ],
      levels,
    }),
  );
}

/** @param {string} model @param {string} heads @param {string} file @param {string[]} more */
const evaluate = (model, heads, file, ...more) =>
  lines(good(['eval', model, heads, '--tasks', file, '--json', '-q', ...more]))[0];

describe('eval --tasks', { skip: !built && 'the program is not built' }, () => {
  test('what counts as right', () => {
    const heads = headsOf('right.exits.gguf');
    const asked = { turns: ['Once upon a time'] };
    const said = evaluate(
      tiny,
      heads,
      scratch('ask.jsonl', jsonl([{ id: 'a', ...asked, answer: ['never said'] }])),
    ).items[0].replies[0];
    const words = said
      .split(/[^A-Za-z0-9\u0080-\uffff]+/)
      .filter((/** @type {string} */ w) => /^[a-z]{3,}$/i.test(w));
    const [first] = words,
      last = words.findLast((/** @type {string} */ w) => w.toLowerCase() !== first.toLowerCase());
    assert.ok(first && last, `the tiny model says words: ${said}`);
    const inner =
      words.find(
        (/** @type {string} */ w) =>
          w.length >= 4 &&
          !words.some((/** @type {string} */ o) => o.toLowerCase() === w.slice(1).toLowerCase()),
      ) ?? '';
    const cases = /** @type {[boolean, any][]} */ ([
      [true, { answer: [first] }],
      [true, { answer: [first.toUpperCase()] }],
      [true, { answer: ['never said', last] }],
      [false, { answer: ['never said'] }],
      [false, { answer: [inner.slice(1)] }], // half a word
      [true, { answer: [first], not: [last] }],
      [false, { answer: [last], not: [first] }],
      [true, { answer: [last], not: ['never said'] }],
      [true, { answer: [said.trim()], match: 'exact' }],
      [false, { answer: [first], match: 'exact' }],
      [true, { answer: [first], match: 'contains' }],
    ]);
    const made = evaluate(
      tiny,
      heads,
      scratch(
        'cases.jsonl',
        jsonl(cases.map(([, task], i) => ({ id: `${i}`, ...asked, ...task }))),
      ),
    );
    assert.deepEqual(
      made.items.map((/** @type {any} */ item) => item.right[0]),
      cases.map(([right]) => right),
      JSON.stringify({ said, cases }),
    );
    assert.equal(made.full.right, cases.filter(([right]) => right).length);
    assert.equal(made.tasks, cases.length);
  });

  test('levels in pairs against full: lost, gained, interval, work, kinds', () => {
    const heads = headsOf('pairs.exits.gguf');
    const asked = Array.from({ length: 12 }, (_, i) => ({
      id: `t${i}`,
      kind: i % 3 ? 'many' : 'few',
      turns: i % 4 ? [`Number ${i}`] : [`Number ${i}`, 'And then?'],
    }));
    const file = (/** @type {string} */ name, /** @type {(i: number) => string} */ answer) =>
      scratch(
        name,
        jsonl(asked.map((task, i) => ({ ...task, answer: [answer(i)], match: 'exact' }))),
      );
    const seen = evaluate(
      tiny,
      heads,
      file('see.jsonl', () => 'x'),
      '--accuracy',
      '0.9',
      '--reply-tokens',
      '16',
    );
    const replies = seen.items.map((/** @type {any} */ item) =>
      item.replies.map((/** @type {string} */ r) => r.trim()),
    );
    const differ = replies.flatMap(
      (/** @type {string[]} */ [full, exit], /** @type {number} */ i) =>
        full !== exit && full && exit ? [i] : [],
    );
    assert.ok(differ.length >= 4, `bold exits change some replies: ${differ.length}`);
    // The exits' own reply is right in one of them, full's in the others.
    const made = evaluate(
      tiny,
      heads,
      file('judge.jsonl', (i) => replies[i][i === differ[0] ? 1 : 0] || 'x'),
      '--accuracy',
      '0.9,0.99',
      '--reply-tokens',
      '16',
    );
    const [bold, none] = made.levels;
    assert.deepEqual([bold.gained, bold.lost], [1, differ.length - 1]);
    assert.equal(bold.right - made.full.right, bold.gained - bold.lost);
    assert.ok(Math.abs(bold.difference - (bold.gained - bold.lost) / 12) < 1e-5);
    const p = (bold.gained + 1) / 14,
      q = (bold.lost + 1) / 14,
      half = 1.959964 * Math.sqrt((p + q - (p - q) ** 2) / 14);
    assert.ok(
      Math.abs(bold.low - Math.max(-1, p - q - half)) < 1e-5 &&
        Math.abs(bold.high - Math.min(1, p - q + half)) < 1e-5,
    );
    assert.ok(bold.certified && bold.mean_work < 1 && Math.abs(made.full.mean_work - 1) < 1e-6);
    // A level that nobody certified takes no exits and loses nothing.
    assert.deepEqual(
      [none.certified, none.right, none.lost, none.gained],
      [false, made.full.right, 0, 0],
    );
    assert.deepEqual(
      made.kinds.map((/** @type {any} */ k) => [k.kind, k.tasks]),
      [
        ['few', 4],
        ['many', 8],
      ],
    );
    for (const [r, row] of [made.full, bold, none].entries())
      assert.equal(
        made.kinds.reduce((/** @type {number} */ sum, /** @type {any} */ k) => sum + k.right[r], 0),
        row.right,
      );
    const text = good([
      'eval',
      tiny,
      heads,
      '--tasks',
      scratch('judge.jsonl'),
      '--accuracy',
      '0.9,0.99',
      '--reply-tokens',
      '16',
      '-q',
    ]);
    assert.match(text, /12 tasks, greedy replies of at most 16 tokens/);
    assert.match(text, new RegExp(`^full +${made.full.right} `, 'm'));
    assert.match(text, new RegExp(`^0\\.90 +${bold.right} .*${bold.lost} +1 `, 'm'));
    assert.match(text, /^0\.99 .*not certified: nothing exits$/m);
  });

  test('a conversation as it stands: what chat answers', () => {
    const heads = headsOf('messages.exits.gguf');
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
    ];
    const made = evaluate(
      tiny,
      heads,
      scratch('messages.jsonl', jsonl([{ id: 'm', messages, answer: ['x'] }])),
      '--reply-tokens',
      '12',
    );
    const { done } = chat(
      tiny,
      '-p',
      'Hello',
      '--system',
      'Be brief.',
      '--max-tokens',
      '12',
      '--mode',
      'full',
      '--kv-type',
      'f32', // which these heads are certified with
    );
    assert.equal(made.items[0].replies[0], done.text);
    const exits = chat(
      tiny,
      '-p',
      'Hello',
      '--system',
      'Be brief.',
      '--max-tokens',
      '12',
      '--heads',
      heads,
      '--accuracy',
      '0.9',
    );
    assert.equal(made.levels[3].accuracy, 0.9);
    assert.equal(made.items[0].replies[4], exits.done.text);
  });

  test('bad tasks are sentences with file and line', () => {
    const heads = headsOf('bad.exits.gguf');
    const right = { id: 'a', turns: ['x'], answer: ['y'] };
    const cases = /** @type {[any, RegExp][]} */ ([
      [{ ...right, id: undefined }, /needs an "id"/],
      [{ ...right, turns: [] }, /needs "turns"/],
      [{ ...right, turns: undefined }, /needs "turns"/],
      [{ ...right, messages: [{ role: 'user', content: 'x' }] }, /needs "turns".*or "messages"/],
      [
        { ...right, turns: undefined, messages: [{ role: 'assistant', content: 'x' }] },
        /end with the user's/,
      ],
      [
        {
          ...right,
          turns: undefined,
          messages: [
            { role: 'judge', content: 'x' },
            { role: 'user', content: 'x' },
          ],
        },
        /end with the user's/,
      ],
      [{ ...right, answer: 'y' }, /needs an "answer"/],
      [{ ...right, answer: [''] }, /needs an "answer"/],
      [{ ...right, not: 'z' }, /"not" must hold texts/],
      [{ ...right, match: 'near' }, /"match" must be/],
      [{ ...right, turns: Array(40).fill('x') }, /at most 64 messages/],
    ]);
    for (const [task, message] of cases) {
      const { status, err } = run([
        'eval',
        tiny,
        heads,
        '--tasks',
        scratch('bad.jsonl', jsonl([right, task])),
        '-q',
      ]);
      assert.equal(status, 1, err);
      assert.match(err, /^exitlm: .*bad\.jsonl: line 2: /);
      assert.match(err, message);
    }
    assert.match(
      run(['eval', tiny, heads, '--tasks', scratch('none.jsonl', '\n'), '-q']).err,
      /holds no task/,
    );
    assert.match(
      run(['eval', tiny, heads, '--tasks', scratch('broken.jsonl', '{"id"'), '-q']).err,
      /broken\.jsonl: line 1: /,
    );
    assert.match(
      run([
        'eval',
        tiny,
        headsOf('bare.exits.gguf', []),
        '--tasks',
        scratch('one.jsonl', jsonl([right])),
        '-q',
      ]).err,
      /is not calibrated/,
    );
    const both = run([
      'eval',
      tiny,
      heads,
      '--tasks',
      scratch('one.jsonl'),
      '--data',
      scratch('one.jsonl'),
      '-q',
    ]);
    assert.deepEqual([both.status, /give one of them/.test(both.err)], [2, true]);
  });
});

describe('the default level', { skip: !built && 'the program is not built' }, () => {
  const levels = [
    { accuracy: 0.9, thresholds: [0.8, 0.9] },
    { accuracy: 0.95, thresholds: [0.7, 0.6] },
    { accuracy: 0.99, thresholds: [0, 0], certified: false },
  ];
  const start = (/** @type {string} */ heads, /** @type {string[]} */ ...more) =>
    chat(tiny, '-p', 'Hi', '--max-tokens', '8', '--heads', heads, ...more);

  test('is the one that the file names, else its strictest; calibrate --default names it and changes nothing else', () => {
    const file = headsOf('named.exits.gguf', levels);
    const [before] = objects(['inspect', file]);
    assert.equal(before.default_accuracy, 0.95);
    // a file from before regret was measured
    const { regret, regret_bound: bound, unwanted } = before.levels[0];
    assert.deepEqual([regret, bound, unwanted], [1, 1, 1]);
    assert.equal(start(file).start.accuracy, 0.95);
    assert.equal(good(['calibrate', tiny, file, '--default', '0.9', '-q']), '');
    const [named] = objects(['inspect', file]);
    assert.deepEqual(named, { ...before, default_accuracy: 0.9, file_bytes: named.file_bytes });
    assert.match(good(['inspect', file]), /^default level +0\.9$/m);
    assert.equal(start(file).start.accuracy, 0.9);
    assert.equal(start(file).done.text, start(file, '--accuracy', '0.9').done.text);
    assert.equal(start(file, '--accuracy', '0.95').start.accuracy, 0.95);
    for (const level of ['0.99', '0.97']) {
      const { status, err } = run(['calibrate', tiny, file, '--default', level, '-q']);
      assert.equal(status, 2);
      assert.match(err, new RegExp(`named\\.exits\\.gguf: ${level} is no certified level`));
    }
    assert.deepEqual(objects(['inspect', file])[0], named);
  });

  test('calibrate --tasks names the boldest level that keeps the right answers', () => {
    const file = headsOf('chosen.exits.gguf', [
      { accuracy: 0.9, thresholds: [0.97, 0.97] },
      { accuracy: 0.95, thresholds: [0, 1e-9] },
      { accuracy: 0.99, thresholds: [0, 0], certified: false },
    ]);
    const asked = Array.from({ length: 12 }, (_, i) => ({ id: `t${i}`, turns: [`Number ${i}`] }));
    const judged = (/** @type {string} */ name, /** @type {(i: number) => string} */ answer) =>
      scratch(name, jsonl(asked.map((t, i) => ({ ...t, answer: [answer(i)], match: 'exact' }))));
    const seen = evaluate(
      tiny,
      file,
      judged('unjudged.jsonl', () => 'x'),
    );
    const full = judged('full.jsonl', (i) => seen.items[i].replies[0].trim() || 'x');
    const out = good(['calibrate', tiny, file, '--tasks', full, '-q']);
    assert.match(out, /^0\.95 .* \+?0\.0 {2}[^\n]*\n0\.90 .* -\d/m);
    assert.match(out, /^the default level is 0\.95$/m);
    assert.equal(objects(['inspect', file])[0].default_accuracy, 0.95);
    // Where the exits' own replies are the right ones, the boldest.
    const own = evaluate(tiny, file, full, '--accuracy', '0.9');
    const bold = judged('bold.jsonl', (i) => own.items[i].replies[1].trim() || 'x');
    good(['calibrate', tiny, file, '--tasks', bold, '-q']);
    assert.equal(objects(['inspect', file])[0].default_accuracy, 0.9);
    const both = run(['calibrate', tiny, file, '--tasks', full, '--default', '0.9', '-q']);
    assert.deepEqual([both.status, /give one of them/.test(both.err)], [2, true]);
  });

  test('without any certified level nothing exits', () => {
    const { out, err } = run([
      'chat',
      tiny,
      '-p',
      'Hi',
      '--max-tokens',
      '8',
      '--heads',
      headsOf('nothing.exits.gguf', [levels[2]]),
      '--json',
    ]);
    const [begin, ...others] = lines(out),
      done = others[others.length - 1];
    assert.match(err, /no certified level of strategy risk: no exits are taken/);
    assert.equal(begin.accuracy, 1);
    assert.equal(done.exits['-1'], done.completion_tokens);
  });
});

describe('the tasks for development', () => {
  const tasks = lines(fs.readFileSync(tasksFile, 'utf8'));

  test('are 600, each another, of many kinds', () => {
    assert.equal(tasks.length, 600);
    assert.equal(new Set(tasks.map((t) => t.id)).size, 600);
    assert.equal(new Set(tasks.map((t) => JSON.stringify(t.turns ?? t.messages))).size, 600);
    const kinds = new Map();
    for (const { kind } of tasks) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    assert.ok(kinds.size >= 8);
    for (const [kind, n] of kinds) assert.ok(n >= 15, kind);
  });

  test(
    'the shipped default keeps the answers of some',
    {
      skip: !built || !hasReal ? 'needs the program and the default model: npm run model' : false,
      timeout: 600000,
    },
    () => {
      const few = scratch('few.jsonl', jsonl(tasks.slice(0, 200).filter((_, i) => i % 25 === 13)));
      const heads = real.replace(/\.gguf$/, '.exits.gguf');
      const [{ default_accuracy: accuracy }] = objects(['inspect', heads]);
      assert.equal(accuracy, 0.98);
      const made = evaluate(real, heads, few, '--accuracy', String(accuracy));
      assert.equal(made.tasks, 8);
      assert.ok(made.full.right >= 4, `${made.full.right} of 8`);
      assert.ok(made.levels[0].certified && made.levels[0].mean_work < 1);
      assert.ok(made.levels[0].lost <= 1, `${made.levels[0].lost} of 8 lost`);
    },
  );
});
