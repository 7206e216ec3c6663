// lm.calibrate: thresholds for the caller's own text. On the tiny random model, whose heads are
// wrong often, so that accuracies are asked for that such heads can have, and some that they
// cannot.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { calibrate, settingsFor } from '../../web/src/client/calibrate.js';
import { startEngine } from '../../web/src/engine/instance.js';
import { risk as riskOf } from '../../web/src/engine/risk.js';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { loadTiny, tinyHeads, tinyPath } from './support/tiny-model.mjs';

const { engine } = await startEngine({ wasm: null, threads: 1, inWorker: false });
/** @param {import('../../web/src/link/protocol.js').RiskQuestion} question */
const risk = (question) => riskOf(engine, question);
const delta = 0.05;

describe("the engine's bounds", () => {
  const pValue = (/** @type {number[]} */ xs, /** @type {number} */ alpha) =>
    risk({ of: 'p', xs, planned: xs.length, alpha, delta });
  const needed = (/** @type {number[]} */ xs) => risk({ of: 'needed', xs, alpha: 0.05, delta });
  const noisy = Array.from({ length: 200 }, (_, i) => ((i * 37) % 100) / 1000); // 0 … 0.099

  test('p-values are those of another implementation', () => {
    const near = (/** @type {number} */ actual, /** @type {number} */ expected) =>
      assert.ok(Math.abs(actual - expected) < 1e-9, `${actual}, ${expected} was expected`);
    near(pValue(noisy, 0.06), 0.129294850291);
    near(pValue(noisy, 0.1), 2.68097466831e-5);
    near(risk({ of: 'p', xs: noisy, planned: 200, alpha: 0.04, delta: 0.1 }), 0.986736694067);
    near(pValue(noisy.slice(0, 50), 0.08), 0.199742067087);
    near(pValue(new Array(80).fill(0), 0.05), 0.0179130040572);
  });
  test('bounds and numbers of conversations', () => {
    const bound = risk({ of: 'upper', xs: noisy, planned: 200, delta });
    assert.ok(bound > 0.0495 && bound < 0.08, `${bound}`);
    assert.ok(pValue(noisy, bound) <= 0.05 && pValue(noisy, bound - 2e-4) > 0.05);
    const least = needed([]);
    // no bound can do with fewer than log .05 / log .95 = 58.4
    assert.ok(least > 58 && least < 100, `${least}`);
    assert.ok(
      pValue(new Array(least).fill(0), 0.05) <= 0.05 &&
        pValue(new Array(least - 1).fill(0), 0.05) > 0.05,
    );
    const some = needed([0, 0.1, 0]);
    assert.ok(some > least && some < 2000, `${some}`);
    assert.equal(needed([0.1, 0.2]), 0);
  });
});

test('settings go from safe to bold, and come from the heads file alone', () => {
  const exits = /** @type {any} */ ({
    layers: [1, 2],
    levels: [
      [0.99, 0.1],
      [0.95, 0.2],
      [0.9, 0.3],
      [0.8, 0.3],
      [0.7, 0.5],
    ].map(([accuracy, t]) => ({ strategy: 'risk', certified: true, accuracy, threshold: [t, t] })),
  });
  const first = (/** @type {number} */ accuracy) =>
    settingsFor(exits, accuracy).map(([t]) => Number(t.toFixed(4)));
  // beside the level's own, halfway to its neighbours
  assert.deepEqual(first(0.9), [0.1, 0.2, 0.2449, 0.3, 0.3873, 0.5]);
  assert.deepEqual(first(0.99), [0.025, 0.05, 0.0707, 0.1, 0.1414, 0.2, 0.3, 0.5]);
  assert.deepEqual(first(0.95), [0.05, 0.1, 0.1414, 0.2, 0.2449, 0.3, 0.5]);
  const [level] = exits.levels.splice(1, 1);
  exits.levels.push(
    { ...level, threshold: [0.15, 0.15], maxTokens: 384 },
    { ...level, maxTokens: 96 },
  );
  assert.deepEqual(first(0.9), [0.1, 0.2, 0.2449, 0.3, 0.3873, 0.5], 'the row of usual replies');
  const none = settingsFor(/** @type {any} */ ({ layers: [1, 2], levels: [] }), 0.9);
  assert.ok(
    none.length > 3 && none.every((s, i) => s.length === 2 && (i === 0 || s[0] > none[i - 1][0])),
  );
});

/**
 * A model whose exits are wrong at a given rate. @param {(setting: number, asked: number) =>
 * number} wrongOf of ten exits each
 */
function pretend(wrongOf) {
  const exits = /** @type {any} */ ({
    layers: [1, 2],
    kv: 'exact',
    levels: [
      [0.99, 0.1],
      [0.95, 0.2],
      [0.9, 0.3],
      [0.8, 0.4],
    ].map(([accuracy, t]) => ({ strategy: 'risk', certified: true, accuracy, threshold: [t, t] })),
  });
  let asked = 0;
  const chat = (/** @type {any} */ _, /** @type {any} */ { thresholds }) => ({
    result: Promise.resolve(
      /** @type {any} */ ({
        text: 'x',
        usage: { completionTokens: 20 },
        exits: { '0': 6, '1': 4, '-1': 10 },
        audited: 10,
        auditDisagreed: wrongOf(thresholds[0], asked++),
      }),
    ),
  });
  return { exits, layers: 4, chat, risk };
}

describe('decisions', () => {
  const many = Array.from({ length: 200 }, (_, i) => `${i}`);
  test('the boldest setting before the first that fails', async () => {
    const made = await calibrate(
      pretend((t, i) => (t > 0.22 ? 4 : Number(i % 8 === 0))),
      many,
      { accuracy: 0.95 },
    );
    assert.equal(made.certified, true);
    assert.deepEqual(made.threshold, [0.2, 0.2]);
    assert.deepEqual(made.coverage, [0.3, 0.2]);
    assert.ok(Math.abs(made.meanDepth - (1 - 0.3 * 0.75 - 0.2 * 0.5)) < 1e-12);
    assert.ok(made.bound !== null && made.bound <= 0.05);
    assert.match(made.reason, /^certified with \d+ conversations/);
  });
  test('exits that are wrong too often', async () => {
    const made = await calibrate(
      pretend(() => 4),
      many,
      { accuracy: 0.95 },
    );
    assert.deepEqual(
      [made.certified, made.threshold, made.needed, made.measured],
      [false, null, null, 200],
    );
    assert.match(made.reason, /does not hold on these conversations.*20\.0 %.*as they were/);
  });
  test('exits that are right often enough, but too few conversations to know it', async () => {
    const made = await calibrate(
      pretend((_, i) => Number(i % 2 === 0)),
      many.slice(0, 90),
      { accuracy: 0.95 },
    );
    assert.equal(made.certified, false);
    assert.ok(made.needed !== null && made.needed > 90, `${made.needed}`);
    const enough = await calibrate(
      pretend((_, i) => Number(i % 2 === 0)),
      Array.from({ length: made.needed ?? 0 }, (_, i) => `${i}`),
      { accuracy: 0.95 },
    );
    assert.equal(enough.certified, true, 'what it asked for is enough');
  });
  test('a list sorted by topic: the easy ones at its head prove nothing', async () => {
    const model = pretend(() => 0);
    const sorted = Array.from({ length: 600 }, (_, i) => (i < 200 ? `easy ${i}` : `hard ${i}`));
    const { chat } = model;
    // 10 % of the tokens of every hard one, so .067 of all
    model.chat = (messages, options) => ({
      result: chat(messages, options).result.then((r) => ({
        ...r,
        auditDisagreed: messages[0].content.startsWith('hard') ? 2 : 0,
      })),
    });
    const made = await calibrate(model, sorted, { accuracy: 0.95 });
    assert.deepEqual([made.certified, made.measured], [false, 600]);
    assert.ok(Math.abs(made.agreement - (1 - 40 / 600)) < 1e-9);
  });
  test('a conversation that is empty or too long is left out, and said', async () => {
    const model = pretend(() => 0);
    const { chat } = model;
    model.chat = (messages, options) =>
      messages[0].content === 'long'
        ? { result: Promise.reject(new ExitLMError('CONTEXT_FULL', 'too long')) }
        : chat(messages, options);
    const few = await calibrate(model, ['a', ' ', ['long', 'more']], { accuracy: 0.95 });
    assert.deepEqual([few.certified, few.conversations, few.leftOut], [false, 3, 1]);
    assert.match(few.reason, /with 2 distinct conversations \(1 left out: empty/);
    const made = await calibrate(model, [...many, '', 'long'], { accuracy: 0.95 });
    assert.deepEqual([made.certified, made.conversations, made.leftOut], [true, 202, 2]);
    assert.ok(made.measured < 200);
  });
  test('an exit that nobody verified counts as wrong', async () => {
    const model = pretend(() => 0);
    const { chat } = model;
    model.chat = (a, b) => ({ result: chat(a, b).result.then((r) => ({ ...r, audited: 2 })) });
    assert.equal((await calibrate(model, many, { accuracy: 0.95 })).certified, false);
  });
});

const asked = (/** @type {number} */ n) =>
  Array.from({ length: n }, (_, i) => `Tell me about number ${i}.`);
const brief = { maxTokens: 6 };

for (const worker of [false, true]) {
  describe(worker ? 'in a worker' : "in the caller's thread", () => {
    /** @type {ExitLM} */
    let lm;
    before(async () => {
      const ofQ8 = { accuracy: 0.5, kvType: 'q8', ...brief, thresholds: [0.4, 0.4, 0.5] };
      lm = await loadTiny({ worker, heads: await tinyHeads(undefined, tinyPath, [ofQ8]) });
    });
    after(() => lm.dispose());

    test('too few conversations: it says how many it takes, and nothing changes', async () => {
      const before = lm.exits;
      const made = await lm.calibrate(asked(5), { accuracy: 0.95 });
      assert.equal(made.certified, false);
      assert.equal(made.conversations, 5);
      assert.equal(made.needed, risk({ of: 'needed', xs: [], alpha: 1 - 0.95, delta }));
      assert.equal(made.threshold, null);
      assert.equal(made.tokens, 0, 'no work for what cannot succeed');
      assert.match(made.reason, /cannot be certified with 5 distinct conversations.*it takes \d+/);
      assert.equal(lm.exits, before);
    });

    test('the same conversation over and over counts once', async () => {
      const made = await lm.calibrate(new Array(500).fill('Hi.'), { accuracy: 0.6, ...brief });
      assert.equal(made.conversations, 1);
      assert.equal(made.certified, false);
    });

    test('stops when it is told to, and the model goes on', async () => {
      const abort = new AbortController();
      const reason = new Error('enough');
      const seen = /** @type {any[]} */ ([]);
      const running = lm.calibrate(asked(100), {
        accuracy: 0.6,
        ...brief,
        signal: abort.signal,
        onProgress: (p) => {
          seen.push(p);
          if (p.conversation === 3) abort.abort(reason);
        },
      });
      await assert.rejects(running, (e) => e === reason);
      assert.ok(seen.length < 10);
      assert.deepEqual(
        { ...seen[0], tokens: 0 },
        { setting: 1, settings: seen[0].settings, conversation: 1, conversations: 100, tokens: 0 },
      );
      assert.ok((await lm.complete('Once', brief).result).text.length > 0);
      await assert.rejects(lm.calibrate(asked(3), { signal: abort.signal }), (e) => e === reason);
    });

    test('a level that holds is in use from then on', async () => {
      const accuracy = 0.5;
      const file = lm.exits?.levels;
      const conversations = [
        ...asked(150),
        ['One turn.', 'And another.'],
        [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'Hi.' },
          { role: 'assistant', content: 'Hello!' },
          { role: 'user', content: 'Bye.' },
        ],
      ];
      const made = await lm.calibrate(conversations, { accuracy, delta: 0.3, ...brief });
      assert.equal(made.certified, true, made.reason);
      assert.ok(made.bound !== null && made.bound <= 0.5 && 1 - made.agreement <= made.bound);
      assert.ok(made.measured <= made.conversations);
      const level = lm.exits?.levels.find((l) => l.onDevice);
      assert.deepEqual(level?.threshold, made.threshold);
      assert.equal(level?.accuracy, accuracy);
      assert.deepEqual(
        lm.exits?.levels,
        [level, ...(file ?? [])],
        "the file's rows are still there",
      );
      const given = await lm.complete('Once upon a time', {
        mode: 'exit',
        kv: 'exact',
        thresholds: made.threshold ?? undefined,
        maxTokens: 30,
      }).result;
      const used = await lm.complete('Once upon a time', { accuracy, maxTokens: 30 }).result;
      assert.deepEqual([used.text, used.exits], [given.text, given.exits]);
      assert.match(String(used.uncertified), /longer/);
      const short = await lm.complete('Once upon a time', { accuracy, ...brief }).result;
      assert.deepEqual([short.certified, short.usage.completionTokens], [true, brief.maxTokens]);
      const stricter = await lm.complete('Once upon a time', { accuracy: 0.95, maxTokens: 30 })
        .result;
      assert.equal(
        stricter.exits[-1] >= used.exits[-1],
        true,
        "above it the file's own levels count",
      );
    });

    test("a verified exit is wrong exactly where the text leaves the full model's", async () => {
      const options = { kv: /** @type {const} */ ('exact'), thresholds: [0.4, 0.4, 0.5], audit: 1 };
      const read = async (/** @type {any} */ more) => {
        const ids = [];
        for await (const token of lm.complete('Once upon a time', { maxTokens: 40, ...more }))
          ids.push(token.id);
        return ids;
      };
      const [full, exit] = [await read({ mode: 'full' }), await read({ mode: 'exit', ...options })];
      const parted = exit.findIndex((id, i) => id !== full[i]);
      assert.ok(parted > 0, 'random heads are wrong before long');
      for (const [maxTokens, wrong] of [
        [parted, 0],
        [parted + 1, 1],
      ]) {
        const result = await lm.complete('Once upon a time', {
          mode: 'exit',
          ...options,
          maxTokens,
        }).result;
        assert.equal(result.auditDisagreed, wrong);
        assert.equal(result.audited, result.exits[0] + result.exits[1] + result.exits[2]);
      }
    });
  });
}

test('wrong usage', async () => {
  const without = await ExitLM.load(tinyPath, { heads: false, worker: false });
  const code = (/** @type {RegExp} */ message) => (/** @type {any} */ e) =>
    e instanceof ExitLMError && e.code === 'USAGE' && message.test(e.message);
  await assert.rejects(without.calibrate(['x']), code(/needs exit heads/));
  await assert.rejects(without.complete('x', { thresholds: [0.1] }).result, code(/no exit heads/));
  await without.dispose();
  const lm = await loadTiny();
  await assert.rejects(lm.calibrate(/** @type {any} */ ('x')), code(/a list of conversations/));
  await assert.rejects(
    lm.calibrate([[{ role: 'assistant', content: 'x' }]]),
    code(/conversations\[0\]/),
  );
  await assert.rejects(lm.calibrate(['x'], { accuracy: 1 }), code(/accuracy/));
  await assert.rejects(lm.complete('x', { thresholds: [0.1] }).result, code(/3 numbers/));
  await lm.dispose();
  await assert.rejects(lm.calibrate(['x']), (e) => /** @type {any} */ (e).code === 'DISPOSED');
});
