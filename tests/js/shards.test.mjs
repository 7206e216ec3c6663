// Training and calibration in shards, on the tiny model: the same bytes from one part and from eight,
// workers that are killed, stand beside each other or fill the disk, and parts that do not belong
// together.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { before, describe, test } from 'node:test';
import {
  bad,
  built,
  canMake,
  good,
  makeTiny,
  program,
  run,
  scratch,
  tiny,
} from './support/cli.mjs';

const small = ['--rows', '64', '--vocabulary-rows', '128', '--batch', '64', '--epochs', '1'];
const heads = ['--layers', '4,6', '--map-tokens', '1000', ...small, '-q'];
const read = (/** @type {string} */ file) => fs.readFileSync(file);
const range = (/** @type {number} */ n) => Array.from({ length: n }, (_, i) => i + 1);

describe('shards', { skip: !built && 'the program is not built' }, () => {
  const turns = range(136).map((i) =>
    JSON.stringify({ turns: i % 7 ? [`say ${i} things`] : ['hello', `${i}?`] }),
  );
  const data = built ? scratch('turns.jsonl', `${turns.join('\n')}\n`) : '';
  const written = ['--data', data, '--self-chat', '6', '--answers', '1', '--reply-tokens', '8'];
  const plan = [...written, '--seed', '5'];
  const measured = ['--data', data, '--reply-tokens', '12', '-q'];

  /** One command for each shard: the parts. @param {number} n @param {string} name @param {string[]} command */
  const shards = (n, name, command) =>
    range(n).map((i) => {
      const part = scratch(`${name}.${i}`);
      good([...command, '--shard', `${i}/${n}`, '-o', part]);
      return part;
    });
  const gather = ['gather', tiny, '-q', ...plan];
  const train = (/** @type {string} */ name, /** @type {string[]} */ ...from) => {
    const file = scratch(`${name}.exits.gguf`);
    good(['train', tiny, '-o', file, ...heads, ...from]);
    return file;
  };
  /** A copy of heads that are not calibrated. @param {string} name */
  const copy = (name) => {
    const file = scratch(`${name}.exits.gguf`);
    fs.copyFileSync(whole, file);
    return file;
  };

  /** @type {string} */ let whole;
  /** @type {string[]} */ let one, parts, eighths;
  before(() => {
    whole = train('whole', ...plan);
    one = shards(1, 'one', gather);
    parts = shards(3, 'third', gather);
    eighths = shards(8, 'eighth', gather);
  });

  test('the heads of one part, of three and of eight are those of train alone, byte for byte', () => {
    for (const [name, list] of Object.entries({ one, parts, eighths }))
      assert.ok(read(train(name, '--gathered', ...list.toReversed())).equals(read(whole)), name);
    assert.ok(!fs.existsSync(`${parts[0]}.part`));
    // a part that is whole is not made again
    const { mtimeMs } = fs.statSync(one[0]);
    assert.match(good([...gather, '-o', one[0]]), /shard 1\/1, \d+ of \d+ conversations/);
    assert.equal(fs.statSync(one[0]).mtimeMs, mtimeMs);
  });

  test('a killed worker goes on, one that is cut off anywhere ends in the same bytes', async () => {
    const [all] = one;
    const part = scratch('killed');
    const command = [...gather, '-o', part];
    const child = spawn(program, command, { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    while (child.exitCode === null && !(fs.existsSync(`${part}.part`) && size(part) > 0))
      await new Promise((resolve) => setTimeout(resolve, 1));
    child.kill('SIGSTOP'); // so that it cannot end before the other one has looked
    bad(1, /killed\.part: another process is writing it/, command);
    child.kill('SIGKILL');
    await ended;
    assert.ok(!fs.existsSync(part), 'it was killed before its end');
    bad(1, /killed\.part: (not whole: |damaged from byte)/, [
      ...['train', tiny, '-o', scratch('x'), ...heads, '--gathered', `${part}.part`],
    ]);
    good(command);
    assert.ok(read(part).equals(read(all)));
    // in its head, in its first block, in its last one
    for (const bytes of [100, 5000, size(all, '') - 1000]) {
      const cut = scratch(`cut-${bytes}`);
      fs.writeFileSync(`${cut}.part`, read(all).subarray(0, bytes));
      good([...gather, '-o', cut]);
      assert.ok(read(cut).equals(read(all)), `${bytes}`);
    }
  });

  test('a full disk is said, and the same command goes on when there is room', () => {
    const part = scratch('full');
    const limited = spawnSync(
      'sh',
      ['-c', 'trap "" XFSZ; ulimit -f 400; exec "$@"', 'sh', program, ...gather, '-o', part],
      { encoding: 'utf8' },
    );
    assert.equal(limited.status, 1, limited.stderr);
    assert.match(limited.stderr, /^exitlm: .*full\.part: cannot be written: [^\n]+\n$/);
    assert.ok(!fs.existsSync(part));
    good([...gather, '-o', part]);
    assert.ok(read(train('after', '--gathered', part)).equals(read(whole)));
  });

  test('parts that are missing, doubled, foreign or damaged are refused by name', () => {
    const file = scratch('refused.exits.gguf');
    const refused = (/** @type {RegExp} */ says, /** @type {string[]} */ ...list) =>
      bad(1, says, ['train', tiny, '-o', file, ...heads, '--gathered', ...list]);
    const [first, second, third] = parts;
    const twin = scratch('twin', read(first));
    refused(/^exitlm: 1 of 3 parts are missing: shard 2\/3\n/, first, third);
    refused(/twin: shard 1\/3, as .*third\.1 is/, first, second, third, twin);
    refused(/eighth\.1: one of 8 shards, but .*third\.1 is one of 3/, first, scratch('eighth.1'));
    refused(/turns\.jsonl: this is no part that exitlm gather has written/, data);
    refused(/absent: cannot be opened: No such file/, scratch('absent'));
    const [other] = shards(1, 'other', [...gather, '--seed', '6']);
    refused(/other\.1: of another plan than .*third\.1/, first, second, third, other);
    for (const at of [100, 700, size(second, '') - 1]) {
      const bytes = Buffer.from(read(second));
      bytes[at] ^= 1;
      const damaged = scratch('damaged', bytes);
      refused(
        /damaged: (this is no part|damaged from byte \d+ on: .* --shard 2\/3)/,
        first,
        damaged,
      );
    }
    if (canMake) {
      const model = scratch('other.gguf');
      makeTiny(model, '--seed', '7');
      const [foreign] = shards(1, 'foreign', ['gather', model, '-q', '--self-chat', '9']);
      refused(/foreign\.1: of another model: its fingerprint is/, foreign);
    }
    bad(1, /third\.1: a part of another plan or shard is there/, [
      ...[...gather, '--shard', '2/3', '-o', first],
    ]);
    assert.ok(!fs.existsSync(file));
  });

  test('a calibration of one part, of three and in three stages is that of one machine, byte for byte', () => {
    const alone = copy('alone');
    run(['calibrate', tiny, alone, ...measured]);
    const command = ['calibrate', tiny, whole, ...measured];
    const thirds = shards(3, 'c', command);
    /** @param {string} name @param {string[]} list */
    const merged = (name, list) => {
      const file = copy(name);
      const result = run(['calibrate', tiny, file, '--merge', ...list]);
      assert.equal(result.status, 0, result.err);
      assert.ok(read(file).equals(read(alone)), name);
    };
    merged('m1', shards(1, 'd', command));
    merged('m3', thirds.toReversed());
    const path = shards(2, 'path', [...command, '--stage', 'path']);
    const trial = shards(2, 'trial', [...command, '--stage', 'trial', '--merge', ...path]);
    merged('m2', shards(2, 'levels', [...command, '--merge', ...path, ...trial]));
    assert.ok(read(whole).equals(read(copy('untouched'))));

    const file = copy('refusals');
    const refused = (/** @type {RegExp} */ says, /** @type {string[]} */ ...options) =>
      bad(1, says, ['calibrate', tiny, file, ...options]);
    refused(/2 of 3 parts are missing: shard 2\/3, 3\/3/, '--merge', scratch('c.1'));
    refused(/path\.1: the parts of the stage levels are missing/, '--merge', ...path);
    refused(/third\.1: this is no part that exitlm calibrate/, '--merge', scratch('third.1'));
    const seeds = scratch('seeds.jsonl', `${turns.slice(1).join('\n')}\n`);
    refused(/c\.1: measured on other data than --data/, '--data', seeds, '--merge', ...thirds);
    const trained = train('of-another-seed', ...plan, '--seed', '6');
    bad(1, /c\.1: measured with other heads than /, [
      ...['calibrate', tiny, trained, '--merge', ...thirds],
    ]);
    bad(2, /--temp: the parts were measured with another/, [
      ...['calibrate', tiny, file, '--temp', '0.5', '--merge', ...thirds],
    ]);
    for (const [options, says] of /** @type {[string[], RegExp][]} */ ([
      [['--shard', '1/2'], /--shard I\/N and -o PART go together/],
      [['--shard', '3/2', '-o', 'x'], /"3\/2" is not as 3\/8/],
      [['--shard', '1/2', '-o', 'x', '--default', '0.9'], /--shard leaves as it is/],
      [['--stage', 'path'], /--stage is for --shard/],
    ]))
      bad(2, says, ['calibrate', tiny, file, ...options]);
    assert.ok(read(file).equals(read(whole)));
  });

  test('wrong usage of gather and of --gathered', () => {
    bad(2, /-o PART/, ['gather', tiny]);
    bad(2, /"0\/3" is not as 3\/8/, ['gather', tiny, '-o', 'x', '--shard', '0/3']);
    bad(2, /the parts say what --self-chat does/, [
      ...['train', tiny, '-o', 'x', '--gathered', parts[0], '--self-chat', '1'],
    ]);
  });

  /** @param {string} part @param {string} [end] */
  const size = (part, end = '.part') => fs.statSync(part + end).size;
});
