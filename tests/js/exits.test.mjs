// Exit heads through the package: what is told of them, the three modes, events. On the tiny random
// model with heads made for the test.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { ExitLM } from '../../web/src/index.js';
import { defaultModel } from '../answers/tools.mjs';
import { built, good, run, scratch, tiny } from './support/cli.mjs';
import { modelServer } from './support/model-server.mjs';
import { loadTiny, tinyBytes, tinyHeads } from './support/tiny-model.mjs';

/** @type {ExitLM} */
let lm;
before(async () => {
  lm = await loadTiny();
});
after(() => lm.dispose());

const all = async (/** @type {AsyncIterable<any>} */ reply) => {
  const out = [];
  for await (const item of reply) out.push(item);
  return out;
};

test('what is told of the heads', () => {
  const { exits } = lm;
  assert.ok(exits);
  assert.deepEqual(exits.layers, [2, 4, 6]);
  assert.equal(exits.heads.length, 3);
  assert.equal(exits.heads[0].rows, 200);
  assert.ok(['entropy', 'maxprob', 'margin', 'logistic', 'regret'].includes(exits.metric));
  assert.match(exits.fingerprint, /^[0-9a-f]{64}$/);
  assert.equal(exits.fingerprint, lm.info.fingerprint);
  const level = exits.levels.find((l) => l.accuracy === 0.9); // not the nearest float
  assert.ok(level);
  assert.equal(level.threshold.length, 3);
  assert.equal(level.strategy, 'risk');
  // what a file that does not say it was made with
  assert.deepEqual([level.kvType, level.temperature, level.maxTokens], ['f32', 0, 96]);
});

test('the level is the one that the heads name, else their strictest', async () => {
  const named = await loadTiny({ heads: await tinyHeads(0.9) });
  const answer = async (
    /** @type {ExitLM} */ model,
    /** @type {{ accuracy?: number }} */ options,
  ) => (await model.complete('Once upon a time', { maxTokens: 40, ...options }).result).exits;
  assert.deepEqual([lm.exits?.defaultAccuracy, named.exits?.defaultAccuracy], [0.95, 0.9]);
  const [strict, bold] = [
    await answer(lm, { accuracy: 0.95 }),
    await answer(lm, { accuracy: 0.9 }),
  ];
  assert.notDeepEqual(strict, bold);
  assert.deepEqual(await answer(lm, {}), strict);
  assert.deepEqual(await answer(named, {}), bold);
  assert.deepEqual(await answer(named, { accuracy: 0.95 }), strict);
  await named.dispose();
});

test('an accuracy above the strictest certified level: a warning, once, and no exits', async () => {
  /** @type {string[]} */
  const said = [];
  const model = await loadTiny({ onWarning: (message) => said.push(message) });
  const answer = async (/** @type {object} */ options) =>
    (await model.complete('Once upon a time', { maxTokens: 8, ...options }).result).exits;
  assert.deepEqual(await answer({ accuracy: 0.99 }), { '0': 0, '1': 0, '2': 0, '-1': 8 });
  await answer({ accuracy: 0.99 });
  assert.deepEqual(said, [
    'accuracy 0.99 is above the strictest certified level of strategy risk, 0.95: no exits are taken',
  ]);
  for (const options of [{ accuracy: 0.95 }, {}, { accuracy: 0.99, mode: 'full' }])
    await answer(options);
  assert.equal(said.length, 1);
  await model.dispose();
});

test('a reply says whether it lies inside what its accuracy is certified for', async () => {
  const said = async (/** @type {object} */ options) => {
    const { certified, uncertified } = await lm.complete('Once upon a time', {
      accuracy: 0.9,
      maxTokens: 8,
      ...options,
    }).result;
    return [certified, uncertified ?? ''];
  };
  assert.deepEqual(await said({}), [true, '']);
  assert.deepEqual(await said({ mode: 'full', temperature: 1 }), [true, '']);
  const [certified, why] = await said({ temperature: 0.7, seed: 1 });
  assert.equal(certified, false);
  assert.match(String(why), /drawn/);
});

test(
  'a level for drawn tokens is told of, and certifies replies up to its temperature',
  { skip: !built && 'the program is not built' },
  async () => {
    const heads = scratch('drawn.exits.gguf');
    const data = scratch(
      'drawn.jsonl',
      Array.from({ length: 48 }, (_, i) => `{"turns": ["say ${i}"]}\n`).join(''),
    );
    fs.writeFileSync(heads, await tinyHeads());
    const added = run([
      ...['calibrate', tiny, heads, '--data', data, '--accuracy', '0.6', '--temp', '0.7', '-q'],
    ]);
    assert.equal(added.status, 0, added.err);
    const drawing = await loadTiny({ heads: new Uint8Array(fs.readFileSync(heads)) });
    const levels = drawing.exits?.levels ?? [];
    assert.equal(levels.length, (lm.exits?.levels.length ?? 0) + 1);
    const { certified, kvType, temperature, maxTokens } = levels[levels.length - 1];
    assert.deepEqual([certified, kvType, temperature, maxTokens], [true, 'f32', 0.7, 96]);
    const said = async (/** @type {number} */ temperature_) =>
      (
        await drawing.complete('Once upon a time', {
          accuracy: 0.6,
          maxTokens: 8,
          temperature: temperature_,
          seed: 1,
        }).result
      ).uncertified;
    assert.equal(await said(0.7), null);
    assert.match(String(await said(1)), /higher temperature/);
    await drawing.dispose();
  },
);

test(
  'the default model: replies of the kinds that its heads have rows for are certified',
  { skip: !fs.existsSync(defaultModel) && 'the default model is not here' },
  async () => {
    const model = await ExitLM.load(defaultModel, { worker: false, threads: 1 });
    await model.ready;
    const accuracy = model.exits?.defaultAccuracy ?? 1;
    /** Does a row of f32 and exact K/V hold for such replies at the default level? */
    const row = (/** @type {number} */ temperature, /** @type {number} */ maxTokens) =>
      !!model.exits?.levels.some(
        (l) =>
          l.strategy === 'risk' &&
          l.certified &&
          l.kv === 'exact' &&
          l.kvType === 'f32' &&
          l.accuracy >= accuracy - 1e-6 &&
          l.temperature >= temperature - 1e-6 &&
          l.maxTokens >= maxTokens,
      );
    assert.ok(row(0, 384));
    const said = async (/** @type {string} */ content, /** @type {object} */ options) => {
      const reply = model.chat([{ role: 'user', content }], { seed: 1, ...options });
      const { certified, uncertified, usage } = await reply.result;
      return { certified, why: String(uncertified), n: usage.completionTokens };
    };
    const short = { maxTokens: 8 },
      drawn = { ...short, temperature: 0.7 };
    assert.equal((await said('Name three fruits.', short)).certified, true);
    const one = await said('Name three fruits.', drawn);
    assert.equal(one.certified, row(0.7, 8), one.why);
    assert.match((await said('Name three fruits.', { ...drawn, temperature: 0.8 })).why, /drawn/);
    const bold = { ...drawn, accuracy: 0.9 }; // which has a row for drawn ones
    assert.equal((await said('Name three fruits.', bold)).certified, true);
    // as the Prompt API draws by itself
    const cut = await said('Name three fruits.', { ...bold, topK: 40 });
    assert.equal(cut.certified, false);
    // a short reply is certified whatever it might have been, a long one as far as the row says
    assert.equal((await said('Say only: yes.', { maxTokens: 400 })).certified, true);
    const long = await said('Write a long story about a fox.', { maxTokens: 120 });
    assert.equal(long.n, 120);
    assert.equal(long.certified, row(0, 120), long.why);
    await model.dispose();
  },
);

test('exit is the default; tokens tell how deep they went', async () => {
  const reply = lm.complete('Once upon a time', { accuracy: 0.9, maxTokens: 40 });
  const tokens = await all(reply);
  const result = await reply.result;
  assert.ok(
    tokens.some((t) => t.head >= 0),
    'some leave early',
  );
  for (const t of tokens) {
    assert.equal(t.of, 6);
    assert.equal(t.layer, t.head === -1 ? 6 : [2, 4, 6][t.head]);
    assert.equal(t.depth, t.layer / 6);
    assert.ok(t.confidence >= 0 && t.confidence <= 1);
    assert.ok(t.work > 0 && t.work < 1.5);
  }
  for (const head of [-1, 0, 1, 2])
    assert.equal(result.exits[head], tokens.filter((t) => t.head === head).length);
  assert.ok(
    Math.abs(result.meanDepth - tokens.reduce((sum, t) => sum + t.depth, 0) / tokens.length) < 1e-6,
  );
});

test('lossless gives the words of full, greedy and sampled', async () => {
  for (const sampling of [
    {},
    { temperature: 0.9, seed: 11 },
    { temperature: 1.2, topK: 20, topP: 0.9, seed: 12 },
  ]) {
    const full = await lm.complete('There was a', { mode: 'full', maxTokens: 40, ...sampling })
      .result;
    const reply = lm.complete('There was a', { mode: 'lossless', maxTokens: 40, ...sampling });
    const tokens = await all(reply);
    const result = await reply.result;
    assert.equal(result.text, full.text);
    assert.ok(tokens.every((t) => t.layer === 6 && t.head === -1));
    assert.equal(tokens.filter((t) => t.drafted).length, result.accepted);
    assert.ok(tokens.filter((t) => t.drafted).every((t) => t.draftHead >= 0 || t.draftHead === -2));
    assert.ok(result.accepted <= result.drafted);
  }
});

test('events', async () => {
  const items = await all(
    lm.complete('There was a', {
      mode: 'lossless',
      draftLayer: 2,
      draftLength: 3,
      maxTokens: 40,
      events: true,
    }),
  );
  const types = new Set(items.map((i) => i.type));
  assert.ok(types.has('token') && types.has('draft'));
  for (const type of types) assert.ok(['token', 'draft', 'accept', 'reject'].includes(type), type);
  const count = (/** @type {string} */ type) => items.filter((i) => i.type === type).length;
  assert.ok(count('accept') + count('reject') <= count('draft'));
  assert.ok((await all(lm.complete('There', { maxTokens: 3 }))).every((t) => t.type === undefined));
});

test('heads of another model', async () => {
  const heads = await tinyHeads();
  const at = Buffer.from(heads).indexOf(lm.exits?.fingerprint ?? '?');
  heads[at] = heads[at] === 0x30 ? 0x31 : 0x30;
  await assert.rejects(
    async () => {
      const other = await loadTiny({ heads });
      await other.ready;
    },
    (/** @type {any} */ e) =>
      e.code === 'HEADS_MISMATCH' && e.message.includes(String(lm.info.fingerprint).slice(0, 8)),
  );
});

test('heads beside the model are used without being named; rows of the shortlist come first', async () => {
  const server = await modelServer({
    '/tiny.gguf': new Uint8Array(tinyBytes),
    '/tiny.exits.gguf': await tinyHeads(),
  });
  const found = await ExitLM.load(`${server.address}/tiny.gguf`, { worker: false });
  assert.deepEqual(found.exits?.layers, [2, 4, 6]);
  const options = { accuracy: 0.9, maxTokens: 30 };
  const text = (await found.complete('Once upon a time', options).result).text;
  await found.ready;
  assert.equal(
    text,
    (await lm.complete('Once upon a time', options).result).text,
    'waiting, never guessing',
  );
  await found.dispose();
  await server.close();
});

test('a model that is loaded from a slow line answers with the same words in every mode', async () => {
  const server = await modelServer(
    { '/tiny.gguf': new Uint8Array(tinyBytes) },
    { bytesPerSecond: tinyBytes.length },
  );
  for (const mode of /** @type {const} */ (['exit', 'lossless', 'full'])) {
    const slow = await ExitLM.load(`${server.address}/tiny.gguf`, {
      worker: false,
      heads: await tinyHeads(),
    });
    const options = { mode, accuracy: 0.9, maxTokens: 30 };
    assert.equal(
      (await slow.complete('Once upon a time', options).result).text,
      (await lm.complete('Once upon a time', options).result).text,
      mode,
    );
    await slow.dispose();
  }
  await server.close();
});

test('heads that are here already bring their K/V maps; where they are left out, replies that want them say so', async () => {
  const options = /** @type {const} */ ({ accuracy: 0.9, kv: 'maps', maxTokens: 12 });
  const local = await ExitLM.load(defaultModel, { worker: false, threads: 1, contextLength: 256 });
  await local.ready;
  assert.equal((await all(local.complete('The sea is', options))).length, 12);
  await local.dispose();
  const lean = await ExitLM.load(defaultModel, {
    worker: false,
    threads: 1,
    contextLength: 256,
    kvMaps: false,
  });
  await lean.ready;
  await assert.rejects(lean.complete('The sea is', options).result, { code: 'USAGE' });
  assert.equal((await all(lean.complete('The sea is', { ...options, kv: 'exact' }))).length, 12);
  await lean.dispose();
});

/** Tiny heads with levels for both K/V policies. */
function headsOfBothPolicies() {
  const data = scratch(
    'exits-turns.jsonl',
    Array.from({ length: 360 }, (_, i) =>
      JSON.stringify({ split: i < 60 ? 'train' : 'calibration', turns: [`say ${i} things`] }),
    ).join('\n') + '\n',
  );
  const heads = scratch('both/tiny.exits.gguf', '');
  good([
    'train',
    tiny,
    '-o',
    heads,
    '--layers',
    '4,6',
    '--self-chat',
    '80',
    '--rows',
    '64',
    '--vocabulary-rows',
    '128',
    '--batch',
    '64',
    '--map-tokens',
    '1000',
    '--epochs',
    '2',
    '-q',
  ]);
  for (const kv of ['exact', 'maps'])
    good([
      'calibrate',
      tiny,
      heads,
      '--data',
      data,
      '--reply-tokens',
      '16',
      '--strategy',
      'risk',
      '--kv',
      kv,
      '-q',
    ]);
  return new Uint8Array(fs.readFileSync(heads));
}

test(
  'K/V maps come after the weights, or when a reply waits for them; then the cheapest policy answers',
  { skip: !built && 'the program is not built' },
  async () => {
    const heads = headsOfBothPolicies();
    const server = await modelServer({
      '/tiny.gguf': new Uint8Array(fs.readFileSync(tiny)),
      '/tiny.exits.gguf': heads,
    });
    /** @type {string[]} */
    const warnings = [];
    const found = await ExitLM.load(`${server.address}/tiny.gguf`, {
      worker: false,
      threads: 1,
      contextLength: 256,
      onWarning: (w) => warnings.push(w),
    });
    const levels = (found.exits?.levels ?? []).filter((l) => l.strategy === 'risk' && l.certified);
    assert.deepEqual([...new Set(levels.map((l) => l.kv))], ['exact', 'maps']);
    const accuracy = Math.min(...levels.filter((l) => l.kv === 'maps').map((l) => l.accuracy));
    // asked before the maps are here: the policy is the one that would answer later
    const early = found.complete('The sea is', { accuracy, maxTokens: 24 }).result;
    const maps = /** @type {const} */ ({ accuracy, kv: 'maps', maxTokens: 24 });
    const local = await ExitLM.load(tiny, { heads, worker: false, threads: 1, contextLength: 256 });
    await local.ready;
    for (const kv of /** @type {const} */ (['maps', undefined])) {
      const want = await local.complete('The sea is', { ...maps, kv }).result;
      const got = await found.complete('The sea is', { ...maps, kv }).result;
      assert.deepEqual([got.text, got.meanWork], [want.text, want.meanWork], String(kv));
      const soon = await early;
      if (!kv)
        assert.deepEqual([soon.text, soon.meanWork], [want.text, want.meanWork], 'asked early');
    }
    assert.deepEqual(warnings, []);
    await local.dispose();
    await found.dispose();
    const line = await modelServer(
      { '/tiny.gguf': new Uint8Array(fs.readFileSync(tiny)), '/tiny.exits.gguf': heads },
      { bytesPerSecond: 1e6 },
    );
    const asked = () => line.seen.filter(({ url }) => url === '/tiny.exits.gguf').length;
    const slow = await ExitLM.load(`${line.address}/tiny.gguf`, { worker: false, threads: 1 });
    const before = asked();
    const reply = slow.complete('The sea is', { accuracy, maxTokens: 24 }).result;
    await slow.ready;
    assert.ok(asked() > before, 'a reply that waits for them does not wait for the weights first');
    assert.equal((await reply).text, (await early).text);
    await slow.dispose();
    await line.close();
    const lean = await ExitLM.load(`${server.address}/tiny.gguf`, {
      worker: false,
      threads: 1,
      contextLength: 256,
      kvMaps: false,
    });
    await lean.ready;
    await new Promise((resolve) => setTimeout(resolve, 300));
    await assert.rejects(lean.complete('The sea is', maps).result, { code: 'USAGE' });
    await lean.dispose();
    await server.close();
  },
);
