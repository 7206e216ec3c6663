// Log-probabilities: those of full depth are `exitlm score`'s, those of an exit are a distribution's,
// and without being asked for there are none.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { built, chat, objects, scratch, tiny } from './support/cli.mjs';
import { loadTiny } from './support/tiny-model.mjs';

const prompt = 'Why is the sky blue?';
/** @type {import('../../web/src/index.js').ExitLM} */
let lm;
before(async () => {
  lm = await loadTiny();
});
after(() => lm.dispose());

/** @param {object} options @returns {Promise<any[]>} */
async function tokensOf(options) {
  const tokens = [];
  for await (const token of lm.complete(prompt, { maxTokens: 24, ...options })) tokens.push(token);
  return tokens;
}

const near = (/** @type {number} */ a, /** @type {number} */ b, what = '') =>
  assert.ok(Math.abs(a - b) < 1e-4, `${what} ${a} and ${b}`);

test('full depth: what score says', { skip: !built }, async () => {
  const [{ ids: before_ }] = objects(['tokenize', tiny, '-p', prompt, '--ids']);
  for (const temperature of [0, 1.2]) {
    const { tokens, ids } = chat(
      tiny,
      ...['--raw', '-p', prompt, '--mode', 'full', '--max-tokens', '24', '--logprobs', '5'],
      ...['--kv-type', 'f32'], // as in JavaScript
      ...(temperature ? ['--temp', `${temperature}`, '--seed', '4'] : []),
    );
    const file = scratch('ids.txt', [...before_, ...ids].join(' '));
    const scored = objects(['score', tiny, '--ids', file, '--top', '5']).filter(
      ({ type }) => type === 'position',
    );
    for (const [i, token] of tokens.entries()) {
      const { id, logprob, top } = scored[before_.length - 1 + i];
      assert.equal(id, token.id);
      near(token.logprob, logprob, `token ${i}`);
      assert.deepEqual(
        token.top.map((/** @type {any} */ t) => t.id),
        top.map((/** @type {any} */ t) => t.id),
      );
      for (const [k, { logit }] of top.entries())
        near(token.top[k].logprob - token.top[0].logprob, logit - top[0].logit, `top ${k}`);
    }
    const own = await tokensOf({ mode: 'full', logprobs: 5, temperature, seed: 4 });
    assert.deepEqual(
      own.map(({ id, logprob, top }) => ({ id, logprob: Math.fround(logprob), n: top.length })),
      tokens.map(({ id, logprob }) => ({ id, logprob: Math.fround(logprob), n: 5 })),
      'JavaScript says the same',
    );
    for (const { top } of own)
      for (const { id, text } of top) assert.equal(text, await lm.detokenize([id]));
  }
});

test('lossless says the same as full, greedy and sampled', async () => {
  for (const options of [{}, { temperature: 1, topK: 40, seed: 3 }, { temperature: 1, seed: 8 }]) {
    const [full, lossless] = await Promise.all(
      ['full', 'lossless'].map((mode) => tokensOf({ ...options, mode, logprobs: 20 })),
    );
    const said = (/** @type {any[]} */ tokens) =>
      tokens.map(({ id, logprob, top }) => ({ id, logprob, top }));
    assert.deepEqual(said(lossless), said(full));
  }
});

test('an exit says what its head does, audited or not', async () => {
  for (const audit of [0, 1])
    for (const temperature of [0, 1]) {
      const tokens = await tokensOf({
        mode: 'exit',
        accuracy: 0.9,
        logprobs: 20,
        seed: 2,
        temperature,
        audit,
        maxTokens: 60,
      });
      const exits = tokens.filter(({ head }) => head >= 0);
      assert.ok(exits.length > 10, `${exits.length} exits`);
      for (const { id, logprob, top, head, confidence } of exits) {
        const mass = top.reduce((sum, t) => sum + Math.exp(t.logprob), 0);
        assert.ok(mass <= 1 + 1e-5 && logprob <= 0, `${mass}`);
        assert.equal(new Set(top.map((t) => t.id)).size, top.length);
        for (let k = 1; k < top.length; k++) assert.ok(top[k].logprob <= top[k - 1].logprob);
        const listed = top.find((t) => t.id === id);
        if (listed) assert.equal(listed.logprob, logprob);
        if (temperature === 0) assert.equal(top[0].id, id, `head ${head} at ${confidence}`);
      }
    }
});

test('before a shape and a penalty; forced tokens have none', async () => {
  const schema = { enum: ['first of all', 'second to none'] };
  const tokens = await tokensOf({ schema, mode: 'full', logprobs: 1 });
  const forced = tokens.filter((t) => t.forced);
  assert.ok(forced.length > 0);
  for (const { logprob, top } of forced) assert.deepEqual([logprob, top], [0, []]);
  const [chosen] = tokens.filter((t) => !t.forced);
  const [free] = await tokensOf({ mode: 'full', logprobs: 1, maxTokens: 1 });
  if (tokens[0] === chosen) assert.deepEqual(chosen.top, free.top);
});

test('how many, and none', async () => {
  for (const token of await tokensOf({})) assert.ok(!('logprob' in token) && !('top' in token));
  for (const { logprob, top } of await tokensOf({ logprobs: 0 })) {
    assert.ok(logprob < 0);
    assert.deepEqual(top, []);
  }
  for (const logprobs of [21, -1, 1.5, true])
    await assert.rejects(tokensOf({ logprobs }), { code: 'USAGE', message: /logprobs/ });
});
