// exitlm train, calibrate and eval on the tiny model: data of every kind, the same file for the
// same seed, going on after an interruption, tables that mean what they say, and text on which a
// level does not hold.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import {
  built,
  canMake,
  good,
  lines,
  makeTiny,
  objects,
  program,
  run,
  scratch,
  tiny,
} from './support/cli.mjs';
import { tinyHeads } from './support/tiny-model.mjs';

const small = [
  '--rows',
  '64',
  '--vocabulary-rows',
  '128',
  '--batch',
  '64',
  '--map-tokens',
  '1000',
  '--probe-tokens',
  '2000',
  '-q',
];

const splitOf = (/** @type {number} */ i) => {
  if (i < 60) return 'train';
  return i < 300 ? 'calibration' : 'test';
};
const turns = Array.from({ length: 400 }, (_, i) => ({
  split: splitOf(i),
  turns: i % 7 ? [`say ${i} things about ${i * 3}`] : [`hello ${i}`, 'and then?'],
}));
const jsonl = (/** @type {object[]} */ list) =>
  list.map((line) => JSON.stringify(line)).join('\n') + '\n';

/** The tiny model's own prompt for one turn of a user. */
function promptIds(/** @type {string} */ prompt) {
  const text = `<|im_start|>user\n${prompt}<|im_end|>\n<|im_start|>assistant\n`;
  return objects(['tokenize', tiny, '-p', text, '--special', '--bos', '--ids'])[0].ids;
}
const eog = new Set([0, 2]); // <|endoftext|>, <|im_end|>

/** Trains into a folder of its own; returns the heads file. */
function train(/** @type {string} */ name, /** @type {string[]} */ ...options) {
  const file = scratch(`${name}/tiny.exits.gguf`, '');
  const { status, err, out } = run(['train', tiny, '-o', file, ...small, ...options]);
  assert.equal(status, 0, err);
  assert.match(out, /heads, .* MB; not calibrated yet/);
  return file;
}

describe('train, calibrate and eval', { skip: !built && 'the program is not built' }, () => {
  const data = built ? scratch('train/turns.jsonl', jsonl(turns)) : '';
  /** Two heads that are good enough for levels. @param {string} name */
  const trainTwo = (name) =>
    train(name, '--layers', '4,6', '--data', data, '--self-chat', '100', '--epochs', '3');

  test('the same seed gives the same file, with one thread or two; another seed another', () => {
    const options = [
      '--layers',
      '3,5,6',
      '--self-chat',
      '40',
      '--data',
      data,
      '--answers',
      '2',
      '--epochs',
      '2',
    ];
    const [one, two, other] = [
      train('a', ...options),
      train('b', ...options, '--threads', '2'),
      train('c', ...options, '--seed', '9'),
    ];
    assert.ok(fs.readFileSync(one).equals(fs.readFileSync(two)));
    assert.ok(!fs.readFileSync(one).equals(fs.readFileSync(other)));
    const [info] = objects(['inspect', one]);
    assert.deepEqual(
      info.heads.map((/** @type {{ layer: number }} */ head) => head.layer),
      [3, 5, 6],
    );
  });

  test('forms, layers that are chosen, data from text, chats and folders, data that is kept', () => {
    const folder = path.dirname(
      scratch(
        'corpus/a.txt',
        'One line of text.\nAnother one.\n\nA paragraph that follows.\n'.repeat(40),
      ),
    );
    scratch(
      'corpus/sub/chats.jsonl',
      jsonl([
        {
          messages: [
            { role: 'user', content: 'hi' },
            { role: 'assistant', content: 'hello there' },
            { role: 'user', content: 'bye' },
            { role: 'assistant', content: 'see you' },
          ],
        },
        { text: 'plain text in a line of its own' },
      ]),
    );
    const kept = scratch('kept.jsonl');
    for (const form of ['mlp', 'lens', 'full'])
      train(
        form,
        '--form',
        form,
        '--hidden',
        '32',
        '--layers',
        '4',
        '--data',
        folder,
        '--self-chat',
        '16',
        '--epochs',
        '1',
      );
    const paper = train('paper', '--as-paper', '--self-chat', '16', '--epochs', '1');
    const [info] = objects(['inspect', paper]);
    assert.deepEqual(
      info.heads.map((/** @type {any} */ h) => [h.layer, h.form]),
      [1, 2, 4, 5].map((layer) => [layer, 'full']),
    );
    assert.equal(info.metric, 'entropy');
    const file = scratch('chosen/tiny.exits.gguf', '');
    const { status, out, err } = run([
      'train',
      tiny,
      '-o',
      file,
      ...small,
      '--data',
      folder,
      '--self-chat',
      '150',
      '--out-data',
      kept,
    ]);
    assert.equal(status, 0, err);
    assert.match(out, /chosen: work/);
    const conversations = lines(fs.readFileSync(kept, 'utf8'));
    assert.ok(conversations.length > 150);
    for (const source of ['self-chat', 'text'])
      assert.ok(
        conversations.some((line) => line.source === source),
        source,
      );
    assert.deepEqual([...new Set(conversations.map((line) => line.split))].sort(), [
      'train',
      'validation',
    ]);
  });

  test('Ctrl-C keeps what is there, and the same command goes on to the same file', async () => {
    const options = ['--layers', '4,6', '--self-chat', '200', '--epochs', '15', ...small];
    const whole = scratch('whole/tiny.exits.gguf', ''),
      file = scratch('cut/tiny.exits.gguf', '');
    assert.equal(run(['train', tiny, '-o', whole, ...options]).status, 0);
    const talking = options.filter((option) => option !== '-q');
    const child = spawn(program, ['train', tiny, '-o', file, ...talking], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (more) => {
      said += more;
      if (/layer/.test(said) && !child.killed) child.kill('SIGINT');
    });
    await new Promise((resolve) => child.on('exit', resolve));
    const same = () => fs.readFileSync(file).equals(fs.readFileSync(whole));
    assert.ok(!same(), 'it had not ended by itself');
    assert.equal(run(['train', tiny, '-o', file, ...options]).status, 0);
    assert.ok(same());
  });

  test('calibration writes all levels of all strategies; eval measures them again; a picture', () => {
    const heads = trainTwo('calibrated');
    const plot = scratch('plot.svg');
    const calibrated = run([
      'calibrate',
      tiny,
      heads,
      '--data',
      data,
      '--reply-tokens',
      '24',
      '-q',
    ]);
    assert.equal(calibrated.status, 0, calibrated.err);
    const [info] = objects(['inspect', heads]);
    assert.equal(info.levels.length, 55);
    const result = run([
      'eval',
      tiny,
      heads,
      '--data',
      data,
      '--reply-tokens',
      '24',
      '--json',
      '--plot',
      plot,
      '--speed',
      '2',
      '--reps',
      '1',
      '-q',
    ]);
    const [eval_] = lines(result.out);
    assert.equal(
      result.status,
      eval_.levels.every((/** @type {{ holds: boolean }} */ row) => row.holds) ? 0 : 1,
    );
    assert.equal(eval_.type, 'eval');
    assert.equal(eval_.conversations, 100);
    assert.equal(eval_.levels.length, 55);
    for (const row of eval_.levels) {
      assert.equal(row.coverage.length, 2);
      assert.ok(
        row.agreement >= 0 && row.agreement <= 1 && row.agreement_exited <= row.agreement + 1e-6,
        JSON.stringify(row),
      );
      assert.ok(
        row.mean_depth > 0 && row.mean_depth <= 1 && row.mean_work > 0,
        JSON.stringify(row),
      );
      if (row.strategy === 'risk' && row.certified) assert.ok(row.holds, JSON.stringify(row));
    }
    const risk = eval_.levels.filter(
      (/** @type {{ strategy: string, certified: boolean }} */ row) =>
        row.strategy === 'risk' && row.certified,
    );
    assert.ok(risk.length > 3);
    const timed = ['--strategy', 'platt', '--accuracy', '0.9', '--speed', '1', '--reps', '1'];
    const again = run(['eval', tiny, heads, '--self-chat', '8', ...timed, '--json', '-q']);
    const [platt] = lines(again.out);
    assert.ok(platt.levels.length === 1 && platt.levels[0].speedup > 0, JSON.stringify(platt));
    assert.ok(risk[0].mean_depth <= risk.at(-1).mean_depth, 'bolder levels are shallower');
    assert.match(fs.readFileSync(plot, 'utf8'), /^<svg [\s\S]*<polyline[\s\S]*<\/svg>\n$/);
  });

  test('another K/V policy is calibrated on text written with it, and its rows are added; eval says what chat and score say', () => {
    const heads = trainTwo('policies');
    const quick = ['--data', data, '--reply-tokens', '24', '-q'];
    assert.equal(run(['calibrate', tiny, heads, ...quick, '--strategy', 'risk']).status, 0);
    const [before] = objects(['inspect', heads]);
    // A level that nothing was laid out for has no row; what says nothing does not count.
    const alone = scratch('alone.exits.gguf');
    const more = scratch('more.jsonl');
    fs.copyFileSync(heads, alone);
    fs.writeFileSync(
      more,
      `${fs.readFileSync(data, 'utf8').trim()}\n{"turns": [" "], "split": "calibration"}\n`,
    );
    const tried = run([
      'calibrate',
      tiny,
      alone,
      '--data',
      more,
      '--reply-tokens',
      '24',
      '--strategy',
      'risk',
      '--accuracy',
      '0.8',
    ]);
    assert.equal(tried.status, 0, tried.err);
    assert.match(tried.err, /240 conversations under 2 settings: about \d+ s, or less/);
    assert.match(tried.err, /1 conversation is left out/);
    const levels = objects(['inspect', alone])[0].levels;
    assert.ok(
      levels.every((/** @type {any} */ l) => l.certified || Math.abs(l.accuracy - 0.8) < 1e-6),
    );
    assert.ok(levels.length < before.levels.length);
    assert.match(tried.out, /not tried:.* 0\.99/);
    const made = run(['calibrate', tiny, heads, ...quick, '--kv', 'maps', '--threads', '2']);
    assert.equal(made.status, 0, made.err);
    const [info] = objects(['inspect', heads]);
    assert.deepEqual(info.levels.slice(0, before.levels.length), before.levels);
    const added = info.levels.slice(before.levels.length);
    assert.equal(added.length, 11);
    assert.ok(
      added.every((/** @type {any} */ l) => l.kv === 'maps' && l.strategy === 'risk') &&
        before.levels.every((/** @type {any} */ l) => l.kv === 'exact'),
    );
    assert.deepEqual([info.metric, info.kv], [before.metric, 'exact']);
    /** The strictest at which both heads answer. */
    const bold = added.filter((/** @type {any} */ l) => l.certified && l.coverage[0] > 0.05).at(-1);
    assert.ok(bold, JSON.stringify(added));

    const few = turns.filter((t) => t.split === 'test' && t.turns.length === 1).slice(0, 12);
    const file = scratch('few.jsonl', jsonl(few)),
      level = ['--accuracy', String(bold.accuracy), '--kv', 'maps'];
    const [evaluated] = lines(
      run([
        'eval',
        tiny,
        heads,
        '--data',
        file,
        '--reply-tokens',
        '24',
        ...level,
        '--strategy',
        'risk',
        '--json',
        '--speed',
        '0',
        '-q',
      ]).out,
    );
    assert.deepEqual(
      evaluated.levels.map((/** @type {any} */ row) => row.kv),
      ['maps'],
    );
    let agreement = 0,
      work = 0,
      depth = 0;
    for (const {
      turns: [prompt],
    } of few) {
      const events = objects([
        'chat',
        tiny,
        '--heads',
        heads,
        '-p',
        prompt,
        ...level,
        '--mode',
        'exit',
        '--max-tokens',
        '24',
      ]);
      const done = events.at(-1),
        prompted = promptIds(prompt),
        tokens = events.filter((e) => e.type === 'token');
      assert.equal(events[0].prompt_tokens, prompted.length);
      const ids = scratch('few.ids', [...prompted, ...tokens.map((t) => t.id), 0].join(' '));
      const scored = objects(['score', tiny, '--ids', ids, '--top', '1'])
        .filter((e) => e.type === 'position')
        .slice(-tokens.length - 1);
      // null: the end of text
      const said = [...tokens.map((t) => t.id), ...(done.reason === 'stop' ? [null] : [])];
      const right = said.map((id, i) =>
        id === null ? eog.has(scored[i].top[0].id) : id === scored[i].top[0].id,
      );
      if (right.length > tokens.length && right.at(-1)) right.pop(); // a stop of both is no token
      agreement += right.filter(Boolean).length / right.length / few.length;
      depth += done.mean_depth / few.length;
      work += done.mean_work / few.length;
    }
    const [row] = evaluated.levels;
    assert.ok(
      Math.abs(row.agreement - agreement) < 1e-6,
      `eval ${row.agreement}, chat and score ${agreement}`,
    );
    assert.ok(
      Math.abs(row.mean_depth - depth) < 0.03 && Math.abs(row.mean_work - work) < 0.05,
      `depth ${row.mean_depth} ${depth}, work ${row.mean_work} ${work}`,
    );
    assert.ok(agreement < 1 && row.agreement_exited > row.agreement - 0.2);

    const again = run([
      'eval',
      tiny,
      heads,
      ...quick,
      '--kv',
      'maps',
      '--strategy',
      'risk',
      '--json',
      '--speed',
      '0',
    ]);
    const [all] = lines(again.out);
    assert.equal(all.levels.length, 11);
    for (const l of all.levels) if (l.certified) assert.ok(l.holds, JSON.stringify(l));
    const without = train(
      'mapless',
      '--layers',
      '4',
      '--no-maps',
      '--self-chat',
      '40',
      '--epochs',
      '1',
    );
    const refused = run(['calibrate', tiny, without, ...quick, '--kv', 'maps']);
    assert.deepEqual([refused.status, /have no maps/.test(refused.err)], [2, true], refused.err);
    assert.equal(
      run(['calibrate', tiny, heads, ...quick, '--kv', 'maps', '--strategy', 'platt']).status,
      2,
    );
  });

  test('rows for other K/V types, drawn tokens and longer replies are added; a reply takes the one that fits', () => {
    const heads = trainTwo('uses');
    const calibrate = (/** @type {string[]} */ ...options) => {
      const { status, err } = run([
        ...['calibrate', tiny, heads, '--data', data, '--accuracy', '0.6,0.7', '-q'],
        ...options,
      ]);
      assert.equal(status, 0, err);
    };
    const table = () => objects(['inspect', heads])[0];
    const risk = ['--strategy', 'risk'];
    calibrate(...risk, '--reply-tokens', '24');
    const before = table();
    calibrate('--reply-tokens', '24', '--kv-type', 'q8');
    calibrate('--reply-tokens', '24', '--temp', '0.7');
    calibrate('--reply-tokens', '120');
    const { levels, metric, kv_type: type, data: described } = table();
    assert.deepEqual([metric, type, described], [before.metric, 'f32', before.data]);
    assert.deepEqual(levels.slice(0, 2), before.levels);
    assert.deepEqual(
      levels.map((/** @type {any} */ l) => [l.kv_type, l.temperature, l.max_tokens].join()),
      [
        ...['f32,0,24', 'f32,0,24', 'q8,0,24', 'q8,0,24'],
        ...['f32,0.7,24', 'f32,0.7,24', 'f32,0,120', 'f32,0,120'],
      ],
    );
    for (const l of levels) assert.ok(l.certified && l.coverage[0] > 0.02, JSON.stringify(l));
    const keep = ['--keep-settings', '--kv-type', 'q8'];
    calibrate(...keep, '--reply-tokens', '24', '--accuracy', '0.6');
    const tested = table().levels.at(-1);
    assert.deepEqual(table().levels.slice(0, -1), levels.toSpliced(2, 1), 'the others stay');
    assert.deepEqual(
      [tested.kv_type, tested.accuracy.toFixed(1), tested.thresholds, tested.certified],
      ['q8', '0.6', levels[2].thresholds, true],
    );
    calibrate('--reply-tokens', '24', '--kv-type', 'q8', '--accuracy', '0.8');
    assert.deepEqual(
      table().levels.map((/** @type {any} */ l) => [l.kv_type, l.accuracy.toFixed(1)].join()),
      ['f32,0.6', 'f32,0.7', 'f32,0.6', 'f32,0.7', 'f32,0.6', 'f32,0.7', 'q8,0.8'],
    );
    assert.match(good(['inspect', heads]), /exact, drawn to 0\.7, to 24 tokens/);

    const chat = (/** @type {string} */ prompt, /** @type {string[]} */ ...options) =>
      objects([
        ...['chat', tiny, '--heads', heads, '-p', prompt, '--mode', 'exit', '--accuracy', '0.6'],
        ...['--max-tokens', '24', ...options],
      ]).at(-1);
    const said = (/** @type {string[]} */ ...options) => {
      const { certified, uncertified } = chat('hello', ...options);
      return certified || uncertified;
    };
    assert.equal(said(), true);
    assert.equal(said('--kv-type', 'q8'), true);
    assert.equal(said('--temp', '0.7'), true);
    assert.equal(said('--max-tokens', '120'), true);
    assert.match(said('--kv-type', 'f16'), /another type/);
    assert.match(said('--temp', '0.71'), /higher temperature/);
    assert.match(said('--temp', '0.7', '--min-p', '0.1'), /cut/);
    assert.match(said('--temp', '0.7', '--kv-type', 'q8'), /drawn/);

    // What was drawn side by side is what chat draws by the same seed, and compares by.
    const fnv = (/** @type {string} */ text) =>
      [...text].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 16777619) >>> 0, 2166136261);
    const drawn = turns
      .filter((t) => t.split === 'test' && t.turns.length === 1)
      .slice(0, 12)
      .map(({ turns: [prompt] }) => ({
        prompt,
        done: chat(prompt, '--temp', '0.7', '--seed', String(fnv(prompt)), '--audit', '1'),
      }))
      .filter(({ done }) => done.reason === 'length');
    assert.ok(drawn.length > 3);
    const file = scratch('drawn.jsonl', jsonl(drawn.map(({ prompt }) => ({ turns: [prompt] }))));
    const [{ levels: rows }] = lines(
      run([
        ...['eval', tiny, heads, '--data', file, '--accuracy', '0.6', '--json', '--speed', '0'],
        '-q',
      ]).out,
    );
    const row = rows.find((/** @type {any} */ r) => r.temperature > 0);
    const wrong = drawn.map(({ done }) => (done.audited * done.audit_disagreement) / 24);
    const agreement = 1 - wrong.reduce((sum, x) => sum + x, 0) / wrong.length;
    assert.ok(agreement < 1);
    assert.ok(Math.abs(row.agreement - agreement) < 1e-5, `${row.agreement} ${agreement}`);
    assert.deepEqual([rows.length, rows.at(-1).max_tokens], [3, 120]);

    for (const [options, message] of /** @type {[string[], RegExp][]} */ ([
      [['--temp', '0.7', '--kv', 'maps'], /leave out --kv maps/],
      [['--kv-type', 'q8', '--strategy', 'platt'], /rows that are added are of --strategy risk/],
      [['--kv-type', 'f16', '--keep-settings'], /no certified row for such replies/],
      [['--keep-settings', '--merge', heads], /takes no parts/],
    ])) {
      const refused = run(['calibrate', tiny, heads, '--data', data, '-q', ...options]);
      assert.equal(refused.status, 2);
      assert.match(refused.err, message);
    }
  });

  /** It succeeds, and may warn. @param {string[]} args */
  const works = (args) => {
    const { status, err } = run(args);
    assert.equal(status, 0, err);
  };

  test('settings of the file are tested on replies of another kind', () => {
    const heads = trainTwo('kept');
    const calibrate = (/** @type {string[]} */ ...options) =>
      works(['calibrate', tiny, heads, '--data', data, '--accuracy', '0.6,0.8', '-q', ...options]);
    const table = () => objects(['inspect', heads])[0].levels;
    const told = (/** @type {any} */ l) =>
      [l.kv_type, l.temperature, l.max_tokens, l.accuracy.toFixed(1), l.certified].join();
    calibrate('--strategy', 'risk');
    const usual = table();
    assert.deepEqual(usual.map(told), ['f32,0,96,0.6,true', 'f32,0,96,0.8,true']);
    assert.notDeepEqual(usual[0].thresholds, usual[1].thresholds);
    calibrate('--keep-settings', '--kv-type', 'f16');
    const halved = table().slice(2);
    assert.deepEqual(table().slice(0, 2), usual, 'the others stay');
    assert.deepEqual(halved.map(told), ['f16,0,96,0.6,true', 'f16,0,96,0.8,true']);
    assert.deepEqual(
      halved.map((/** @type {any} */ l) => l.thresholds),
      usual.map((/** @type {any} */ l) => l.thresholds),
    );
  });

  test('a level whose own setting fails takes that of the stricter level', async () => {
    const never = [0, 0, 1e-6],
      always = [2, 2, 2]; // of heads that are random
    const heads = scratch(
      'fails.exits.gguf',
      await tinyHeads(undefined, tiny, [
        { accuracy: 0.85, thresholds: never },
        { accuracy: 0.8, thresholds: always },
        { accuracy: 0.6, thresholds: always },
      ]),
    );
    works([
      ...['calibrate', tiny, heads, '--data', data, '--accuracy', '0.85,0.8,0.6', '-q'],
      ...['--keep-settings', '--kv-type', 'q8'],
    ]);
    const rows = objects(['inspect', heads])[0].levels.filter(
      (/** @type {any} */ l) => l.kv_type === 'q8',
    );
    assert.deepEqual(
      rows.map((/** @type {any} */ l) => [
        l.accuracy.toFixed(2),
        l.certified,
        l.thresholds.map((/** @type {number} */ t) => Number(t.toFixed(6))),
      ]),
      [
        ['0.60', false, [0, 0, 0]],
        ['0.80', true, never],
        ['0.85', true, never],
      ],
    );
  });

  test('a first token has a threshold of its own where it is asked for', () => {
    const heads = train(
      ...['first', '--layers', '4,6', '--vocabulary-rows', '128', '--data', data],
      ...['--self-chat', '100', '--epochs', '3'],
    );
    const rows = (/** @type {string[]} */ ...options) => {
      works([
        ...['calibrate', tiny, heads, '--data', data, '--accuracy', '0.6', '--strategy', 'risk'],
        ...['--reply-tokens', '24', '-q', ...options],
      ]);
      return objects(['inspect', heads])[0].levels.filter((/** @type {any} */ l) => l.certified);
    };
    const [plain] = rows();
    assert.equal(plain.first_threshold, 0);
    const [own] = rows('--first-word', '1.5');
    assert.ok(
      Math.abs(own.first_threshold / own.thresholds.at(-1) - 1.5) < 1e-4,
      JSON.stringify(own),
    );
    const [kept] = rows('--keep-settings');
    assert.deepEqual(
      [kept.first_threshold, kept.thresholds],
      [own.first_threshold, own.thresholds],
    );
    const both = run([
      'calibrate',
      tiny,
      heads,
      '--data',
      data,
      '--keep-settings',
      '--first-word',
      '2',
    ]);
    assert.equal(both.status, 2);
    assert.match(both.err, /--keep-settings keeps the file's/);
  });

  test('a heads file that promises too much does not hold: status 1', () => {
    const heads = train(
      'bold',
      '--layers',
      '4,6',
      '--data',
      data,
      '--self-chat',
      '60',
      '--epochs',
      '1',
    );
    // Calibrated where the text is easy: one reply of one token; judged on text that the model did
    // not write.
    assert.equal(
      run([
        'calibrate',
        tiny,
        heads,
        '--data',
        data,
        '--reply-tokens',
        '8',
        '--strategy',
        'max-coverage',
        '-q',
      ]).status,
      0,
    );
    const random = scratch(
      'random.jsonl',
      jsonl(
        Array.from({ length: 60 }, (_, i) => ({
          text: Array.from({ length: 40 }, (_, k) => (i * 7919 + k * 104729) % 9973).join(' '),
        })),
      ),
    );
    const { status, out } = run([
      'eval',
      tiny,
      heads,
      '--data',
      random,
      '--accuracy',
      '0.6,0.95,0.99',
      '--json',
      '--speed',
      '0',
      '-q',
    ]);
    const [eval_] = lines(out);
    assert.equal(eval_.conversations, 60);
    assert.equal(
      status,
      eval_.levels.some((/** @type {{ holds: boolean }} */ row) => !row.holds) ? 1 : 0,
    );
  });

  test('a model without a chat template: two vocabulary exits alone, from texts that it begins itself', () => {
    const bytes = Buffer.from(fs.readFileSync(tiny));
    bytes.write('chat_nothing', bytes.indexOf('chat_template'));
    const base = scratch('base/base.gguf', bytes),
      heads = scratch('base/base.exits.gguf', ''),
      kept = scratch('base/kept.jsonl');
    const call = (/** @type {string[]} */ ...args) => {
      const { status, out, err } = run([...args, '-q']);
      assert.equal(status, 0, err);
      return out;
    };
    const train_ = ['train', base, '-o', heads, '--vocabulary-only', '--vocabulary-rows', '64,256'];
    call(...train_, '--self-chat', '40', '--out-data', kept);
    const texts = lines(fs.readFileSync(kept, 'utf8')).map((line) => line.text);
    assert.ok(texts.length > 30 && new Set(texts).size > 30, 'each text has an opening of its own');
    const [info] = objects(['inspect', heads]);
    assert.deepEqual(
      info.heads.map((/** @type {{ layer: number, form: string, rows: number }} */ head) => [
        head.layer,
        head.form,
        head.rows,
      ]),
      [
        [6, 'vocabulary', 64],
        [6, 'vocabulary', 256],
      ],
    );
    assert.match(info.data, /40 conversations or texts: 40 invented/);

    // on texts that it goes on with, and on such as they stand
    const mixed = scratch(
      'base/mixed.jsonl',
      jsonl(
        Array.from({ length: 60 }, (_, i) =>
          i % 2 ? { prompt: `The ${i} of` } : { text: `Line ${i} says what line ${i - 1} says.` },
        ),
      ),
    );
    const levels = ['--accuracy', '0.9,0.8', '--reply-tokens', '24'];
    call('calibrate', base, heads, ...levels, '--data', mixed, '--self-chat', '180');
    const [calibrated] = objects(['inspect', heads]);
    assert.match(calibrated.data, /calibrated on 200 conversations/);
    const row = calibrated.levels.find(
      (/** @type {{ strategy: string, accuracy: number }} */ l) =>
        l.strategy === 'risk' && Math.abs(l.accuracy - 0.8) < 1e-6,
    );
    assert.ok(row.certified && row.coverage[0] + row.coverage[1] > 0, JSON.stringify(row));
    const evaluated = ['eval', base, heads, '--self-chat', '30', '--speed', '1', '--reps', '1'];
    const [eval_] = lines(call(...evaluated, '--strategy', 'risk', '--json'));
    assert.equal(eval_.conversations, 30);
    assert.ok(eval_.levels.every((/** @type {{ speedup: number }} */ l) => l.speedup > 0));
  });

  test(
    "training sees a layer norm's mean and bias and the output's bias as the engine does",
    { skip: !canMake && 'make_tiny is not built' },
    () => {
      for (const arch of ['gptneox', 'phi2']) {
        const model = scratch(`norms/${arch}.gguf`);
        makeTiny(model, '--arch', arch, '--type', 'f32', '--rope-dims', '8', '--untied');
        const heads = scratch(`norms/${arch}.exits.gguf`),
          all = ['--layers', '6', '--no-maps', '--vocabulary-rows', '4096', '--self-chat', '24'];
        // with every row listed the exit says what the model says
        const { status, err } = run(['train', model, '-o', heads, ...all, '--batch', '64']);
        assert.equal(status, 0, err);
        assert.match(err, /exits cannot pay here/, 'a warning, where layers are named');
        assert.ok(Number(/self-chat ([\d.]+)/.exec(err)?.[1]) > 0.98, `${arch}: ${err}`);
      }
    },
  );

  test('wrong usage and wrong files are sentences', () => {
    const heads = train('usage', '--layers', '6', '--self-chat', '40', '--epochs', '1');
    const cases = /** @type {[string[], number, RegExp][]} */ ([
      [['train', tiny], 2, /-o NAME\.exits\.gguf/],
      [
        ['train', tiny, '-o', scratch('x.gguf'), '--layers', '7', '--self-chat', '10', '-q'],
        2,
        /7 is not between 1 and the model's 6 layers/,
      ],
      [
        ['train', tiny, '-o', scratch('x.gguf'), '--layers', '4,4', '--self-chat', '10', '-q'],
        2,
        /4 is named twice/,
      ],
      [
        ['train', tiny, '-o', scratch('x.gguf'), '--self-chat', '0', '-q'],
        2,
        /nothing to learn from/,
      ],
      [
        ['train', tiny, '-o', scratch('x.gguf'), '--vocabulary-only', '--layers', '4', '-q'],
        2,
        /leave out --layers/,
      ],
      [
        ['gather', tiny, '-o', scratch('x.part'), '--vocabulary-only', '--as-paper', '-q'],
        2,
        /leave out --vocabulary-only/,
      ],
      [
        [
          'train',
          tiny,
          '-o',
          scratch('x.gguf'),
          '--vocabulary-only',
          '--vocabulary-rows',
          '100000',
          '--self-chat',
          '10',
          '-q',
        ],
        1,
        /exits cannot pay here: .* still takes [1-9].* of the work/,
      ],
      [
        ['train', tiny, '-o', scratch('x.gguf'), '--vocabulary-rows', '256,128', '-q'],
        2,
        /one list, or two, the second the longer/,
      ],
      [
        ['train', tiny, '-o', scratch('x.gguf'), '--data', scratch('none.txt'), '-q'],
        1,
        /no such file or folder/,
      ],
      [
        [
          'train',
          tiny,
          '-o',
          scratch('x.gguf'),
          '--data',
          scratch('bad.jsonl', '{"turns": ["a"]}\n{"turns": [1]}\n'),
          '-q',
        ],
        1,
        /bad\.jsonl: line 2: /,
      ],
      [
        [
          'calibrate',
          tiny,
          heads,
          '--data',
          scratch('bad2.jsonl', '{"messages": [{"role": "user", "content": "x"}]}\n'),
          '-q',
        ],
        1,
        /no assistant turn/,
      ],
      [
        [
          'calibrate',
          tiny,
          heads,
          '--data',
          scratch('bad3.jsonl', '{"turns": ["a"], "split": "dev"}\n'),
        ],
        1,
        /line 1: unknown "split": it is "train", "calibration" or "test"/,
      ],
      [['eval', tiny, heads, '--data', data, '-q'], 1, /is not calibrated: run exitlm calibrate/],
      [['eval', tiny, scratch('absent.exits.gguf'), '--data', data, '-q'], 1, /absent/],
    ]);
    for (const [args, status, message] of cases) {
      const result = run(args);
      assert.equal(result.status, status, `${args.join(' ')}: ${result.err}`);
      assert.match(result.err, message);
      assert.equal(result.out, '');
    }
    for (const name of ['train', 'calibrate', 'eval'])
      for (const line of good([name, '--help']).split('\n')) assert.ok(line.length <= 110, line);
  });
});
