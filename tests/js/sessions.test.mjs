// Several conversations of one model: side by side, cloned, saved and restored, disposed of, and one
// that outgrows its context. On the tiny random model with random heads.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ExitLM as EdgeLM } from '../../web/src/edge.js';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { code } from './support/errors.mjs';
import { ENDLESS, loadTiny, roomyBytes, tinyHeads, tinyPath } from './support/tiny-model.mjs';

/** @type {ExitLM} */
let lm;
before(async () => {
  lm = await loadTiny();
  await lm.ready;
});
after(() => lm.dispose());

const ask = (/** @type {string} */ content) => [{ role: 'user', content }];
/** @type {import('../../web/src/index.js').GenerateOptions[]} */
const kinds = [
  { mode: 'full' },
  { mode: 'full', temperature: 0.9, seed: 3, repeatPenalty: 1.2 },
  { mode: 'exit', accuracy: 0.9 },
  { mode: 'exit', temperature: 0.7, seed: 5 },
  { mode: 'lossless' },
  { mode: 'lossless', temperature: 0.8, seed: 7 },
  { mode: 'full', pattern: /[a-z]{3,9}( [a-z]{2,7}){4}/ },
  { mode: 'lossless', pattern: /[a-z]{3,9}( [a-z]{2,7}){4}/ },
];

/** What of a reply must not depend on others. @param {import('../../web/src/client/reply.js').Reply<any>} reply */
const said = async (reply) => {
  const tokens = [];
  for await (const { id, layer, head, work, text } of reply)
    tokens.push({ id, layer, head, work, text });
  const { text, reason, exits, usage } = await reply.result;
  return { tokens, text, reason, exits, usage };
};

for (const where of ['here', 'in a worker', 'in exitlm/edge'])
  test(`replies side by side are those of each alone, ${where}`, async () => {
    const options = { heads: await tinyHeads(), worker: where === 'in a worker' };
    const model =
      where === 'in exitlm/edge'
        ? await EdgeLM.load(tinyPath, { heads: options.heads })
        : await ExitLM.load(tinyPath, options);
    const prompt = (/** @type {number} */ i) => 'Once upon a time '.repeat(1 + 3 * (i % 3));
    const alone = [];
    for (const [i, kind] of kinds.entries()) {
      const session = model.session();
      alone.push(await said(session.complete(prompt(i), { maxTokens: 30, ...kind })));
      await session.dispose();
    }
    const sessions = kinds.map(() => model.session());
    const beside = await Promise.all(
      kinds.map((kind, i) => said(sessions[i].complete(prompt(i), { maxTokens: 30, ...kind }))),
    );
    for (const [i, reply] of alone.entries())
      assert.deepEqual(beside[i], reply, JSON.stringify(kinds[i]));
    await Promise.all(sessions.map((session) => session.dispose()));
    await model.dispose();
  });

test('several write at once, one after the other in each', async () => {
  // Long ones: a worker hears of the next request some milliseconds after it began the first, in
  // which a fast machine says tens of this model's tokens.
  const far = await ExitLM.load(roomyBytes, { worker: true, heads: false });
  await far.ready;
  const [a, b] = [far.session(), far.session()];
  /** @type {string[]} */
  const order = [];
  const follow = async (/** @type {string} */ name, /** @type {AsyncIterable<any>} */ reply) => {
    for await (const token of reply) order.push(name + (token.index === 0 ? '!' : ''));
  };
  await Promise.all([
    follow('a', a.complete('Once', ENDLESS)),
    follow('A', a.complete('Twice', { mode: 'full', maxTokens: 3 })),
    follow('b', b.complete('Once', ENDLESS)),
    follow('own', far.complete('Once', { mode: 'full', maxTokens: 3 })),
  ]);
  assert.ok(order.indexOf('b!') < order.lastIndexOf('a'), 'b begins before a has ended');
  assert.ok(order.indexOf('own!') < order.lastIndexOf('b'), "and lm's own before b");
  assert.ok(order.indexOf('A!') > order.lastIndexOf('a'), 'two of one session do not mix');
  await far.dispose();
});

test('one that is stopped or wrong does not touch the others', async () => {
  const [a, b, c] = [lm.session(), lm.session(), lm.session()];
  const going = a.complete('Once upon', { mode: 'full', maxTokens: 60 });
  const stopped = b.complete('Once upon', { mode: 'full' });
  const wrong = c.complete('Once upon', { mode: 'full', temperature: -1 });
  await assert.rejects(wrong.result, code('USAGE', /temperature/));
  for await (const token of stopped) if (token.index === 3) break;
  assert.equal((await stopped.result).reason, 'abort');
  assert.equal((await going.result).usage.completionTokens, 60);
  await Promise.all([a, b, c].map((session) => session.dispose()));
});

test('a clone goes on by itself, and so does what it was made of', async () => {
  const a = lm.session();
  const first = await a.chat(ask('Hi'), { mode: 'full', maxTokens: 12 }).result;
  const b = a.clone();
  const turn = (/** @type {string} */ content) => [
    ...ask('Hi'),
    { role: 'assistant', content: first.text },
    ...ask(content),
  ];
  const options = /** @type {const} */ ({ mode: 'full', maxTokens: 12 });
  const [one, two] = await Promise.all([
    a.chat(turn('And then?'), options).result,
    b.chat(turn('Why?'), options).result,
  ]);
  assert.ok(one.usage.reusedTokens > first.usage.promptTokens);
  assert.ok(two.usage.reusedTokens > first.usage.promptTokens);
  await a.dispose();
  assert.equal((await b.chat(turn('And then?'), options).result).text, one.text);
  await b.dispose();
});

describe('saved', () => {
  const options = /** @type {const} */ ({ mode: 'full', maxTokens: 16 });
  const begin = async (/** @type {ExitLM} */ model) => {
    const session = model.session();
    const { text } = await session.chat(ask('Hi, how are you?'), options).result;
    return {
      session,
      next: [
        ...ask('Hi, how are you?'),
        { role: 'assistant', content: text },
        ...ask('What else?'),
      ],
    };
  };

  test('it goes on where it was, in another engine too', async () => {
    const { session, next } = await begin(lm);
    const bytes = await session.save();
    const expected = await session.chat(next, options).result;
    await session.dispose();
    const other = await loadTiny({ worker: true });
    const restored = await other.restore(bytes);
    const { text, usage } = await restored.chat(next, options).result;
    assert.deepEqual([text, usage], [expected.text, expected.usage]);
    assert.ok(usage.reusedTokens > 20);
    assert.ok(bytes.length > 0, "the caller's bytes stay");
    await other.dispose();
  });

  test('one that is damaged, cut, foreign or nothing of the kind is refused', async () => {
    const { session } = await begin(lm);
    const bytes = await session.save();
    await session.dispose();
    const refused = (/** @type {Uint8Array} */ wrong, /** @type {string} */ expected) =>
      assert.rejects(lm.restore(wrong), code(expected));
    for (const at of [300, 5000, bytes.length >> 1, bytes.length - 1]) {
      const damaged = bytes.slice();
      damaged[at] ^= 16;
      await assert.rejects(lm.restore(damaged), ExitLMError);
    }
    await refused(bytes.slice(0, -1), 'BAD_MODEL');
    await refused(bytes.slice(0, 100), 'BAD_MODEL');
    await refused(new Uint8Array([...bytes, 0]), 'BAD_MODEL');
    await refused(new Uint8Array(500), 'BAD_MODEL');
    await refused(new Uint8Array(0), 'BAD_MODEL');
    await assert.rejects(lm.restore(/** @type {any} */ ('bytes')), code('USAGE', /Uint8Array/));
    const q8 = await loadTiny({ kvType: 'q8' });
    await q8.ready;
    await assert.rejects(q8.restore(bytes), code('USAGE', /K\/V cache/));
    await q8.dispose();
    const restored = await lm.restore(bytes); // and the right ones still are taken
    await restored.dispose();
  });
});

test('a session that is disposed of says so', async () => {
  const session = lm.session();
  const reply = session.complete('Once upon', { mode: 'full' });
  for await (const token of reply) if (token.index === 2) break;
  const running = session.complete('Once upon', { mode: 'full' });
  await session.dispose();
  await session.dispose();
  assert.equal((await running.result).reason, 'abort');
  const gone = code('DISPOSED', /session was disposed of/);
  await assert.rejects(session.complete('Once').result, gone);
  await assert.rejects(session.chat(ask('Hi')).result, gone);
  await assert.rejects(session.save(), gone);
  assert.throws(() => session.clone(), gone);
  await lm.complete('Once', { maxTokens: 2 }).result; // lm's own is another one
});

test('options of a session', async () => {
  assert.throws(
    () => lm.session(/** @type {any} */ ({ contextlength: 5 })),
    code('USAGE', /contextLength/),
  );
  assert.throws(() => lm.session({ contextLength: 0 }), code('USAGE', /contextLength/));
  const small = lm.session({ contextLength: 24 });
  const long = 'Once upon a time '.repeat(20);
  await assert.rejects(small.complete(long).result, code('CONTEXT_FULL'));
  assert.equal((await small.complete('Once').result).reason, 'length');
  await assert.rejects(
    lm.session({ contextLength: 1 }).complete('Once').result,
    code('USAGE', /context/),
  );
  const ended = await loadTiny();
  const session = ended.session();
  await ended.dispose();
  await assert.rejects(session.complete('Once').result, code('DISPOSED'));
  await session.dispose();
  assert.throws(() => ended.session(), code('DISPOSED'));
  await small.dispose();
});

describe('a conversation that outgrows its context', () => {
  const turn = (/** @type {number} */ i) => [
    { role: 'user', content: `Question ${i}: what about the ${i} apples in the garden of Anna?` },
    { role: 'assistant', content: `Answer ${i}: they are red.` },
  ];
  const system = { role: 'system', content: 'Be brief.' };

  test('is an error by default', async () => {
    const session = lm.session({ contextLength: 200 });
    const messages = [system, ...Array.from({ length: 40 }, (_, i) => turn(i)).flat(), ...ask('?')];
    await assert.rejects(session.chat(messages).result, code('CONTEXT_FULL'));
    await assert.rejects(
      session.chat(messages, /** @type {any} */ ({ overflow: 'yes' })).result,
      code('USAGE', /overflow/),
    );
    await session.dispose();
  });

  test('goes on with drop: the system message stays, and it seldom reads anew', async () => {
    const session = lm.session({ contextLength: 400 });
    /** @type {{ role: string, content: string }[]} */
    const messages = [system];
    const systemTokens = await lm.countTokens([system]);
    let anew = 0;
    let last = 0;
    for (let i = 0; i < 30; i++) {
      messages.push(turn(i)[0]);
      const { usage, text, dropped } = await session.chat(messages, {
        overflow: 'drop',
        mode: 'full',
        maxTokens: 8,
      }).result;
      assert.ok(usage.promptTokens < 400 && usage.promptTokens > systemTokens);
      assert.equal(dropped === 0, anew === 0 && usage.promptTokens > last);
      if (usage.promptTokens < last) anew++;
      else if (i > 0) assert.ok(usage.reusedTokens >= last, `turn ${i} goes on`);
      last = usage.promptTokens;
      messages.push({ role: 'assistant', content: text });
    }
    assert.ok(anew >= 1 && anew <= 10, `${anew} times of 30`);
    // A new conversation in the same session has all its turns.
    const few = [system, ...turn(1), ...ask('And?')];
    const { usage } = await session.chat(few, { overflow: 'drop', maxTokens: 2 }).result;
    assert.equal(usage.promptTokens, await lm.countTokens(few));
    await session.dispose();
  });
});
