// What a header alone tells: the tokens of a text for a model of any architecture, and whether a
// model runs, what it needs and what is missing. In the native program, in `npx exitlm` and in
// JavaScript.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, test } from 'node:test';
import { ExitLM } from '../../web/src/index.js';
import { bad, built, good, objects, root, scratch } from './support/cli.mjs';
import { ggufFile, key, vocabularyKeys } from './support/gguf.mjs';
import { modelServer } from './support/model-server.mjs';
import { tinyBytes, tinyPath } from './support/tiny-model.mjs';

const IQ4_NL = 20;
const unknownArchitecture = [
  key('general.architecture', 'mamba9'),
  key('general.name', 'a snake'),
  key('tokenizer.chat_template', '{% for m in messages %}[{{ m.content }}]{% endfor %}'),
];
/** Cut behind the last key, without padding, of a table of tensors that says nothing. */
const vocabularyOnly = ggufFile([...unknownArchitecture, ...vocabularyKeys()]);
const withTensors = ggufFile(
  [...unknownArchitecture, ...vocabularyKeys('never-heard-of')],
  [
    { name: 'a', type: IQ4_NL },
    { name: 'b', type: 99, offset: 32 },
  ],
  { data: 64 },
);

/** The tiny model with another type of one tensor, or without its weights. */
function retyped(/** @type {number} */ type) {
  const bytes = Buffer.from(tinyBytes);
  const name = 'blk.0.attn_q.weight';
  const at = bytes.indexOf(`${name}`) + name.length;
  bytes.writeUInt32LE(type, at + 4 + 8 * bytes.readUInt32LE(at));
  return bytes;
}

/** `npx exitlm` @param {string[]} args */
function npx(args) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [path.join(root, 'web/src/cli.mjs'), ...args],
    { encoding: 'utf8' },
  );
  assert.equal(stderr, '');
  assert.equal(status, 0);
  return stdout;
}

const file = scratch('vocabulary.gguf', vocabularyOnly);

describe('tokens from a header', () => {
  const ids = [259, 32, 259, 260];

  test('in JavaScript', async () => {
    const lm = await ExitLM.load(vocabularyOnly, { vocabularyOnly: true, worker: false });
    await lm.ready;
    assert.deepEqual(await lm.tokenize('hello hello<|end|>', { special: true }), ids);
    assert.equal(await lm.detokenize(ids), 'hello hello<|end|>');
    assert.equal(await lm.countTokens([{ role: 'user', content: 'hello' }]), 3);
    assert.equal(lm.info.architecture, 'mamba9');
    assert.equal(lm.info.vocabulary, 261);
    await assert.rejects(lm.complete('hello').result, { code: 'USAGE', message: /vocabulary/ });
    await lm.dispose();
    await assert.rejects(lm.tokenize('a'), { code: 'DISPOSED' });
  });

  test('of a model whose weights are there, or are not', async () => {
    const whole = await ExitLM.load(tinyPath, { worker: false, heads: false });
    const expected = await whole.tokenize('The quick brown fox');
    await whole.dispose();
    for (const bytes of [tinyBytes, tinyBytes.subarray(0, 40000), retyped(99)]) {
      const lm = await ExitLM.load(bytes, { vocabularyOnly: true, worker: false });
      assert.deepEqual(await lm.tokenize('The quick brown fox'), expected);
      await lm.dispose();
    }
  });

  test('a server is asked for the header alone', async () => {
    const server = await modelServer({
      '/big.gguf': Buffer.concat([vocabularyOnly, Buffer.alloc(8 << 20)]),
    });
    const lm = await ExitLM.load(`${server.address}/big.gguf`, {
      vocabularyOnly: true,
      worker: false,
    });
    assert.deepEqual(await lm.tokenize('hello'), [259]);
    await lm.dispose();
    const check = await ExitLM.check(`${server.address}/big.gguf`, { worker: false });
    assert.equal(check.bytes, vocabularyOnly.length + (8 << 20));
    await server.close();
    const sent = server.seen.reduce((sum, { sent: n }) => sum + n, 0);
    assert.ok(sent < 2 << 20, `${sent} bytes were sent`);
  });

  test('in npx exitlm', () => {
    assert.deepEqual(
      JSON.parse(
        npx(['tokenize', file, '-p', 'hello hello<|end|>', '--special', '--ids', '--json']),
      ),
      { ids },
    );
  });

  test('in the native program', { skip: !built }, () => {
    assert.deepEqual(
      objects(['tokenize', file, '-p', 'hello hello<|end|>', '--special', '--ids'])[0],
      { ids },
    );
    bad(1, /tokenizer 'bert'/, [
      'tokenize',
      scratch('bert.gguf', ggufFile([key('tokenizer.ggml.model', 'bert')])),
      '-p',
      'a',
    ]);
    bad(1, /pre-tokenizer 'never-heard-of'/, [
      'tokenize',
      scratch('pre.gguf', withTensors),
      '-p',
      'a',
    ]);
    bad(1, /truncated/, [
      'tokenize',
      scratch('cut.gguf', vocabularyOnly.subarray(0, 900)),
      '-p',
      'a',
    ]);
  });
});

describe('what a header says', () => {
  const lacks = [
    'architecture mamba9',
    'weight type IQ4_NL',
    'weight type 99',
    'pre-tokenizer never-heard-of',
  ];
  const cases = [
    { name: 'strange', bytes: withTensors, runs: false, missing: lacks, reason: /mamba9/ },
    {
      name: 'vocabulary',
      bytes: vocabularyOnly,
      runs: false,
      missing: ['architecture mamba9'],
      reason: /mamba9/,
    },
    {
      name: 'type',
      bytes: retyped(IQ4_NL),
      runs: false,
      missing: ['weight type IQ4_NL'],
      reason: /blk\.0\.attn_q\.weight.*IQ4_NL/,
    },
    {
      name: 'number',
      bytes: retyped(99),
      runs: false,
      missing: ['weight type 99'],
      reason: /blk\.0\.attn_q\.weight.*99/,
    },
    { name: 'tiny', bytes: tinyBytes, runs: true, missing: [], reason: /^runs here: .*memory/ },
  ];
  const header = () => {
    const [{ header_bytes: n }] = objects(['inspect', tinyPath]);
    return tinyBytes.subarray(0, n);
  };

  for (const { name, bytes, runs, missing, reason } of cases) {
    test(name, async () => {
      const check = await ExitLM.check(bytes, { worker: false });
      assert.deepEqual([check.runs, check.missing], [runs, missing]);
      assert.match(check.reason, reason);
      assert.equal(check.bytes, bytes.length);
      const path_ = scratch(`${name}-seen.gguf`, bytes);
      const seen = [JSON.parse(npx(['inspect', path_, '--json']))];
      if (built) seen.push(objects(['inspect', path_])[0]);
      for (const info of seen) {
        assert.deepEqual([info.runs, info.missing], [runs, missing]);
        assert.match(info.reason, reason);
        assert.equal(info.arch, runs || name !== 'strange' ? info.arch : 'mamba9');
        assert.equal(info.file_bytes, bytes.length);
        if (runs) assert.ok(info.memory.model_bytes > 0 && info.estimate.tokens_per_second > 0);
      }
      for (const text of [npx(['inspect', path_]), built ? good(['inspect', path_]) : '']) {
        if (!text) continue;
        for (const lack of missing) assert.match(text, new RegExp(`missing +${lack}`));
      }
    });
  }

  test('a header without weights: all is said, but it does not run', { skip: !built }, async () => {
    for (const bytes of [header(), header().subarray(0, -1)]) {
      const check = await ExitLM.check(bytes, { worker: false });
      assert.equal(check.runs, false);
      assert.match(check.reason, /header alone/);
      assert.ok(check.memory && check.memory.model > 0);
      const [info] = objects(['inspect', scratch('header.gguf', bytes)]);
      assert.deepEqual([info.runs, info.supported, info.complete], [false, true, false]);
      assert.match(info.reason, /header alone/);
      assert.equal(info.fingerprint, null);
      assert.ok(info.memory.model_bytes > 0);
    }
    const cut = await ExitLM.check(tinyBytes.subarray(0, -100), { worker: false });
    assert.equal(cut.runs, false);
    assert.match(cut.reason, /truncated/);
  });

  test('heads beside it', async () => {
    const server = await modelServer({
      '/tiny.gguf': tinyBytes,
      '/tiny.exits.gguf': vocabularyOnly,
      '/bare.gguf': tinyBytes,
    });
    const { heads } = await ExitLM.check(`${server.address}/tiny.gguf`, { worker: false });
    assert.deepEqual(heads, {
      name: `${server.address}/tiny.exits.gguf`,
      bytes: vocabularyOnly.length,
    });
    const bare = await ExitLM.check(`${server.address}/bare.gguf`, { worker: false });
    assert.deepEqual([bare.runs, bare.heads], [true, null]);
    await server.close();
  });
});
