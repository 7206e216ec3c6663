// exitlm/prompt-api: sessions as Chrome's LanguageModel has them.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ExitLMError } from '../../web/src/index.js';
import { LanguageModel } from '../../web/src/prompt-api.js';
import { code } from './support/errors.mjs';
import { loadTiny, tinyBytes, tinyPath } from './support/tiny-model.mjs';

const lm = await loadTiny();
after(() => lm.dispose());
const text = async (/** @type {ReadableStream<string>} */ stream) => {
  const pieces = [];
  for await (const piece of /** @type {any} */ (stream)) pieces.push(piece);
  return pieces;
};
const short = { mode: /** @type {const} */ ('full') };
/** The tiny model never ends by itself: sessions go up to the end of its context. */
const reply = (/** @type {{ role: string, content: string }[]} */ messages) =>
  lm.chat(messages, short).result.then((r) => r.text);

describe('prompt-api', () => {
  test('before there is a model', async () => {
    await assert.rejects(LanguageModel.create(), code('USAGE', /configure/));
    assert.throws(() => new /** @type {any} */ (LanguageModel)(), /Illegal constructor/);
    const { defaultTopK, maxTopK, defaultTemperature, maxTemperature } =
      await LanguageModel.params();
    assert.ok(defaultTopK <= maxTopK && defaultTemperature <= maxTemperature);
  });

  test('prompt and promptStreaming give what lm.chat gives, and remember', async () => {
    LanguageModel.configure({ model: lm });
    assert.equal(await LanguageModel.availability(), 'available');
    const system = { role: /** @type {const} */ ('system'), content: 'Be brief.' };
    const session = await LanguageModel.create({ ...short, initialPrompts: [system] });
    assert.equal(session.inputUsage, await lm.countTokens([system]));
    assert.deepEqual([session.inputQuota, session.contextWindow], [512, 512]);
    const first = await session.prompt('Hello');
    assert.equal(first, await reply([system, { role: 'user', content: 'Hello' }]));
    assert.ok(session.inputUsage > 100);
    assert.equal(session.contextUsage, session.inputUsage);
    assert.equal(session.exit?.meanDepth, 1);
    const other = await LanguageModel.create(short);
    /** @type {number[]} */
    const layers = [];
    other.addEventListener('token', (event) => layers.push(/** @type {any} */ (event).token.layer));
    const pieces = await text(
      other.promptStreaming([{ role: 'user', content: [{ type: 'text', value: 'Hello' }] }]),
    );
    assert.ok(pieces.length > 50 && pieces.every((piece) => typeof piece === 'string' && piece));
    assert.equal(pieces.join(''), await reply([{ role: 'user', content: 'Hello' }]));
    assert.ok(layers.length >= pieces.length && layers.every((layer) => layer === 6));
    session.destroy();
    other.destroy();
  });

  test('append, measure, and a clone that goes its own way', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    assert.equal(session.inputUsage, 0);
    const measured = await session.measureInputUsage('Hello there');
    assert.equal(measured, await lm.countTokens([{ role: 'user', content: 'Hello there' }]));
    await session.append([
      { role: 'user', content: 'Hello there' },
      { role: 'assistant', content: 'Hi.' },
    ]);
    const used = session.inputUsage;
    assert.equal(
      used,
      await lm.countTokens([
        { role: 'user', content: 'Hello there' },
        { role: 'assistant', content: 'Hi.' },
      ]),
    );
    const clone = await session.clone();
    assert.equal(clone.inputUsage, used);
    await clone.append('And more');
    assert.ok(clone.inputUsage > used);
    assert.equal(session.inputUsage, used);
    const before = [
      { role: 'user', content: 'Hello there' },
      { role: 'assistant', content: 'Hi.' },
    ];
    assert.equal(
      await session.prompt('Go on'),
      await reply([...before, { role: 'user', content: 'Go on' }]),
    );
    session.destroy();
    assert.ok((await clone.measureInputUsage('x')) > 0, 'the clone lives on');
    clone.destroy();
  });

  test('where the context is full the oldest turns go, the system prompt stays, and an event tells', async () => {
    const session = await LanguageModel.create({
      model: lm,
      ...short,
      initialPrompts: [{ role: 'system', content: 'S' }],
    });
    let overflows = 0;
    session.onquotaoverflow = () => overflows++;
    session.addEventListener('contextoverflow', () => overflows++);
    await session.prompt('Hello');
    assert.equal(overflows, 0);
    assert.equal(
      await session.prompt('Again'),
      await reply([
        { role: 'system', content: 'S' },
        { role: 'user', content: 'Again' },
      ]),
    );
    assert.equal(overflows, 2);
    await assert.rejects(session.prompt('word '.repeat(1000)), code('CONTEXT_FULL', /512/));
    await assert.rejects(
      LanguageModel.create({
        model: lm,
        initialPrompts: [{ role: 'system', content: 'word '.repeat(1000) }],
      }),
      code('CONTEXT_FULL'),
    );
    session.destroy();
  });

  test('prompts follow each other; abort, cancel and destroy stop', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    const [a, b] = await Promise.all([
      session.prompt('One'),
      session.prompt('Two').catch((error) => error),
    ]);
    assert.equal(a, await reply([{ role: 'user', content: 'One' }]));
    assert.equal(typeof b, 'string');
    const abort = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => abort.abort(reason), 20);
    await assert.rejects(
      session.prompt('Three', { signal: abort.signal }),
      (error) => error === reason,
    );
    await assert.rejects(
      session.prompt('Three', { signal: AbortSignal.abort(reason) }),
      (error) => error === reason,
    );
    for await (const _ of /** @type {any} */ (session.promptStreaming('Four'))) break;
    assert.ok(await session.prompt('Five'));
    const running = session.prompt('Six');
    setTimeout(() => session.destroy(), 20);
    await assert.rejects(running, { name: 'AbortError' });
    await assert.rejects(session.prompt('Seven'), code('DISPOSED', /destroyed/));
    await assert.rejects(session.clone(), code('DISPOSED'));
    const ending = new AbortController();
    const ended = await LanguageModel.create({ model: lm, signal: ending.signal });
    ending.abort();
    await assert.rejects(ended.append('x'), code('DISPOSED'));
  });

  test('who reads no further does not keep the session', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    const reader = session.promptStreaming('Hello').getReader();
    assert.equal((await reader.read()).done, false);
    reader.releaseLock(); // and nobody ever reads the rest
    assert.equal(typeof (await session.prompt('And now?')), 'string');
    session.destroy();
  });

  test('the same address with other options is another model', async () => {
    const make = (/** @type {number} */ contextLength) =>
      LanguageModel.create({
        model: tinyPath,
        load: { worker: false, heads: false, contextLength },
      });
    const [small, large, again] = [await make(64), await make(128), await make(128)];
    assert.deepEqual([small.inputQuota, large.inputQuota, again.inputQuota], [64, 128, 128]);
    for (const session of [small, large, again]) session.destroy();
  });

  test('each overflow event has its own listener', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    /** @type {string[]} */
    const heard = [];
    session.onquotaoverflow = ({ type }) => heard.push(`quota: ${type}`);
    session.oncontextoverflow = ({ type }) => heard.push(`context: ${type}`);
    for (let i = 0; i < 3; i++) await session.append('word '.repeat(60));
    while (!heard.length) await session.append('word '.repeat(60));
    assert.deepEqual(heard.slice(0, 2), ['quota: quotaoverflow', 'context: contextoverflow']);
    session.destroy();
  });

  test('a session that ends takes its monitor along', async () => {
    const { SharedModel } = await import('../../web/src/client/shared-model.js');
    const { release } = SharedModel.prototype;
    let left = -1;
    SharedModel.prototype.release = function (target) {
      release.call(this, target);
      left = this.monitors.size;
    };
    try {
      const session = await LanguageModel.create({ model: lm, ...short, monitor: () => {} });
      session.destroy();
      assert.equal(left, 0);
    } finally {
      SharedModel.prototype.release = release;
    }
  });

  test('what is not supported is refused', async () => {
    const session = await LanguageModel.create({ model: lm });
    await assert.rejects(
      session.prompt('x', { responseConstraint: {} }),
      code('USAGE', /responseConstraint/),
    );
    await assert.rejects(
      session.prompt([{ role: 'user', content: [{ type: 'image', value: null }] }]),
      code('UNSUPPORTED', /text only/),
    );
    await assert.rejects(
      session.prompt([{ role: 'assistant', content: '{', prefix: true }]),
      code('USAGE', /prefix/),
    );
    await assert.rejects(session.prompt([]), code('USAGE', /at least one/));
    await assert.rejects(session.prompt(/** @type {any} */ (5)), code('USAGE', /number/));
    await assert.rejects(
      LanguageModel.create({ model: lm, temperature: 3 }),
      code('USAGE', /temperature/),
    );
    await assert.rejects(
      LanguageModel.create({ model: lm, expectedInputs: [{ type: 'audio' }] }),
      code('UNSUPPORTED', /audio/),
    );
    assert.equal(
      await LanguageModel.availability({ model: lm, expectedInputs: [{ type: 'image' }] }),
      'unavailable',
    );
    session.destroy();
  });

  test('a model to download: availability, the monitor, sharing, letting go', async () => {
    /** @type {(value: unknown) => void} */
    let release = () => {};
    const gate = new Promise((resolve) => {
      release = resolve;
    });
    const model = 'https://example.invalid/tiny.gguf';
    const load = {
      cache: /** @type {const} */ ('none'),
      worker: false,
      heads: /** @type {const} */ (false),
      fetch: /** @type {any} */ (
        async (/** @type {string} */ url, /** @type {any} */ { headers = {} } = {}) => {
          const range = /bytes=(\d+)-(\d*)/.exec(new Headers(headers).get('range') ?? '');
          const from = range ? Number(range[1]) : 0;
          const to = range?.[2] ? Number(range[2]) + 1 : tinyBytes.length;
          if (from > 100000) await gate;
          return new Response(tinyBytes.subarray(from, to), {
            status: range ? 206 : 200,
            headers: {
              'content-length': String(to - from),
              ...(range ? { 'content-range': `bytes ${from}-${to - 1}/${tinyBytes.length}` } : {}),
            },
          });
        }
      ),
    };
    assert.equal(await LanguageModel.availability({ model, load }), 'downloadable');
    /** @type {number[]} */
    const seen = [];
    const creating = LanguageModel.create({
      model,
      load,
      monitor: (m) =>
        m.addEventListener('downloadprogress', (event) =>
          seen.push(/** @type {any} */ (event).loaded),
        ),
    });
    assert.equal(await LanguageModel.availability({ model, load }), 'downloading');
    release(undefined);
    const session = await creating;
    const second = await LanguageModel.create({ model, load });
    assert.ok((await second.prompt('Hello')).length > 50);
    while (seen.at(-1) !== 1) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(seen[0], 0);
    assert.ok(
      seen.every((part, i) => i === 0 || part >= seen[i - 1]),
      String(seen),
    );
    assert.equal(await LanguageModel.availability({ model, load }), 'available');
    session.destroy();
    assert.ok(await second.prompt('Hello'));
    second.destroy();
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(
      await LanguageModel.availability({ model, load }),
      'downloadable',
      'the last one lets the model go',
    );
    await assert.rejects(
      LanguageModel.create({ model: `${tinyPath}.missing`, load: { worker: false } }),
      (error) => error instanceof ExitLMError,
    );
    await assert.rejects(
      LanguageModel.create({
        model: tinyPath,
        load: { worker: false },
        signal: AbortSignal.abort(new Error('no')),
      }),
      /no/,
    );
  });
});
