// exitlm/prompt-api: sessions as Chrome's LanguageModel has them.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { ExitLMError } from '../../web/src/index.js';
import { LanguageModel } from '../../web/src/prompt-api.js';
import { hasReal } from './support/cli.mjs';
import { examplesOf } from './support/examples.mjs';
import { loadRoomy, loadTiny, tinyBytes, tinyPath } from './support/tiny-model.mjs';
import { tscAccepts } from './support/tsc.mjs';

const lm = await loadTiny();
after(() => lm.dispose());
const text = async (/** @type {ReadableStream<string>} */ stream) => {
  const pieces = [];
  for await (const piece of /** @type {any} */ (stream)) pieces.push(piece);
  return pieces;
};
const greedy = { samplingMode: /** @type {const} */ ('most-predictable') };
const short = { ...greedy, mode: /** @type {const} */ ('full') };
/** @param {string} name @param {RegExp} [message] @param {object} [fields] */
const dom = (name, message, fields) => (/** @type {any} */ error) => {
  assert.ok(error instanceof DOMException, String(error?.stack ?? error));
  assert.equal(error.name, name);
  if (message) assert.match(error.message, message);
  for (const [key, value] of Object.entries(fields ?? {})) assert.equal(error[key], value, key);
  return true;
};
/** @param {any} given what the types do not allow */
const wrong = (given) => given;
/** The tiny model never ends by itself: sessions go up to the end of its context. */
const reply = (/** @type {{ role: string, content: string }[]} */ messages) =>
  lm.chat(messages, { mode: 'full' }).result.then((r) => r.text);

describe('prompt-api', () => {
  test('before there is a model', async () => {
    assert.equal(await LanguageModel.availability(), 'unavailable');
    await assert.rejects(LanguageModel.create(), dom('NotSupportedError', /configure/));
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
    const long = 'word '.repeat(1000);
    const empty = await LanguageModel.create({ model: lm });
    const tooLong = dom('QuotaExceededError', /512/, {
      requested: await empty.measureContextUsage(long),
      quota: empty.contextWindow,
    });
    await assert.rejects(empty.prompt(long), tooLong);
    await assert.rejects(empty.append(long), tooLong);
    await assert.rejects(text(empty.promptStreaming(long)), tooLong);
    assert.equal(empty.contextUsage, 0);
    empty.destroy();
    const system = { role: /** @type {const} */ ('system'), content: long };
    await assert.rejects(
      LanguageModel.create({ model: lm, initialPrompts: [system] }),
      dom('QuotaExceededError', /512/, { requested: await lm.countTokens([system]), quota: 512 }),
    );
    session.destroy();
  });

  test('prompts follow each other; abort, cancel and destroy stop', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    const other = await session.clone();
    const [a, b] = await Promise.all([
      session.prompt('One'),
      session.prompt('Two').catch((error) => error),
    ]);
    assert.equal(a, await reply([{ role: 'user', content: 'One' }]));
    assert.equal(typeof b, 'string');
    const abort = new AbortController();
    const reason = new Error('enough');
    session.addEventListener('token', () => abort.abort(reason), { once: true });
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
    session.addEventListener('token', () => session.destroy(), { once: true });
    await assert.rejects(running, dom('InvalidStateError'));
    for (const call of [
      () => session.prompt('Seven'),
      () => text(session.promptStreaming('Seven')),
      () => session.append('Seven'),
      () => session.measureContextUsage('Seven'),
      () => session.clone(),
    ])
      await assert.rejects(call(), dom('InvalidStateError', /destroyed/));
    assert.equal(typeof session.contextUsage, 'number');
    const ending = new AbortController();
    const ended = await LanguageModel.create({ model: lm, signal: ending.signal });
    ending.abort();
    await assert.rejects(ended.append('x'), dom('InvalidStateError'));
    const aborted = AbortSignal.abort();
    for (const call of [
      () => LanguageModel.create({ model: lm, signal: aborted }),
      () => other.prompt('x', { signal: aborted }),
      () => other.append('x', { signal: aborted }),
      () => other.clone({ signal: aborted }),
      () => other.measureContextUsage('x', { signal: aborted }),
    ])
      await assert.rejects(call(), dom('AbortError'));
    other.destroy();
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
    assert.deepEqual(
      [small, large, again].map((session) => session.contextWindow),
      [64, 128, 128],
    );
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

  test('input is taken as the specification says', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    await session.append([]);
    assert.equal(session.contextUsage, 0);
    await session.append(wrong({}));
    const said = [{ role: 'user', content: '[object Object]' }];
    assert.equal(session.contextUsage, await lm.countTokens(said));
    session.destroy();
    const empty = await LanguageModel.create({ model: lm, ...short });
    assert.equal(await empty.prompt([]), await reply([{ role: 'user', content: '' }]));
    empty.destroy();
    const first = await LanguageModel.create({ model: lm, ...short });
    const system = { role: /** @type {const} */ ('system'), content: 'S' };
    const asked = [system, { role: /** @type {const} */ ('user'), content: 'Hi' }];
    assert.equal(await first.prompt(asked), await reply(asked));
    assert.equal(
      await first.prompt('Again'),
      await reply([system, { role: 'user', content: 'Again' }]),
      'it stays when room is made',
    );
    const image = { type: /** @type {const} */ ('image'), value: null };
    const user = /** @type {const} */ ('user');
    for (const [input, error] of /** @type {[any, any][]} */ ([
      [asked, TypeError], // the system prompt comes too late
      [[{ role: 'robot', content: 'x' }], TypeError],
      [[{ role: user }], TypeError],
      [[{ role: user, content: [{ type: 'text', value: 5 }] }], TypeError],
      [[{ role: user, content: [{ type: 'smell', value: '' }] }], TypeError],
      [[{ role: user, content: [image] }], dom('NotSupportedError', /text only/)],
      [[{ role: user, content: 'x', prefix: true }], dom('SyntaxError', /prefix/)],
      [
        [
          { role: 'assistant', content: 'x', prefix: true },
          { role: user, content: 'y' },
        ],
        dom('SyntaxError', /prefix/),
      ],
    ])) {
      await assert.rejects(first.prompt(input), error, JSON.stringify(input));
      await assert.rejects(text(first.promptStreaming(input)), error);
      await assert.rejects(first.append(input), error);
    }
    first.destroy();
    for (const initialPrompts of [
      [{ role: user, content: 'x' }, system],
      [system, system],
    ])
      await assert.rejects(LanguageModel.create({ model: lm, initialPrompts }), TypeError);
  });

  test('a prefix: the reply goes on from it', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    const user = { role: /** @type {const} */ ('user'), content: 'Hello' };
    const begun = {
      role: /** @type {const} */ ('assistant'),
      content: '<|im_end|> ab',
      prefix: true,
    };
    const answer = await session.prompt([user, begun]);
    const { text: direct, usage } = await lm.chat([user, begun], { mode: 'full' }).result;
    assert.equal(answer, direct);
    assert.equal(usage.promptTokens, await lm.countTokens([user, begun]));
    const before = await lm.countTokens([user]);
    assert.equal(
      usage.promptTokens,
      before + (await lm.tokenize(begun.content, { special: false, bos: false })).length,
      'what it says is text, right behind the opened turn',
    );
    session.destroy();
    for (const messages of [[begun, user], [{ ...user, prefix: true }]])
      await assert.rejects(lm.chat(messages).result, /prefix: only the last message/);
  });

  test('samplingMode, and temperature with topK as they were before', async () => {
    const make = (/** @type {any} */ options) => LanguageModel.create({ model: lm, ...options });
    const got = async (/** @type {any} */ options) => {
      const { samplingMode, temperature, topK } = await make(options);
      return [samplingMode, temperature, topK];
    };
    const { defaultTemperature, defaultTopK, maxTemperature, maxTopK } =
      await LanguageModel.params();
    assert.deepEqual(await got({}), ['balanced', defaultTemperature, defaultTopK]);
    assert.equal((await got(greedy))[1], 0);
    const temperatures = await Promise.all(
      ['predictable', 'balanced', 'creative', 'most-creative'].map(
        async (samplingMode) => (await make({ samplingMode })).temperature,
      ),
    );
    assert.deepEqual(
      temperatures,
      [...temperatures].sort((a, b) => a - b),
    );
    assert.deepEqual((await got({ temperature: 0.6, topK: 3.7 })).slice(1), [0.6, 3]);
    assert.deepEqual((await got({ temperature: Infinity, topK: Infinity })).slice(1), [
      maxTemperature,
      maxTopK,
    ]);
    await assert.rejects(make({ temperature: -0.5 }), RangeError);
    await assert.rejects(make({ topK: 0 }), RangeError);
    await assert.rejects(make({ samplingMode: 'wild' }), TypeError);
    await assert.rejects(make({ samplingMode: 'creative', topK: 3 }), TypeError);
    const [a, b] = [await make({ samplingMode: 'most-creative' }), await make({})];
    assert.notEqual(await a.prompt('Hello'), await b.prompt('Hello'), 'they do sample');
  });

  test('languages and kinds of content', async () => {
    const at = (/** @type {any} */ options) =>
      LanguageModel.availability({ model: lm, ...options });
    const inText = (/** @type {string[]} */ ...languages) => [{ type: 'text', languages }];
    assert.equal(await at({ expectedInputs: inText('EN', 'en-US') }), 'available');
    assert.equal(await at({ expectedOutputs: inText('ja') }), 'unavailable');
    assert.equal(await at({ expectedOutputs: inText('ja'), languages: ['en', 'ja'] }), 'available');
    assert.equal(await at({ expectedInputs: [{ type: 'image' }] }), 'unavailable');
    assert.equal(await at({ expectedInputs: [{ type: 'tool-response' }] }), 'available');
    await assert.rejects(at({ expectedInputs: inText('en-abc-invalid') }), RangeError);
    await assert.rejects(at({ expectedInputs: [{ type: 'smell' }] }), TypeError);
    const make = (/** @type {any} */ options) => LanguageModel.create({ model: lm, ...options });
    await assert.rejects(make({ expectedOutputs: inText('ja') }), dom('NotSupportedError', /ja/));
    await assert.rejects(make({ expectedInputs: [{ type: 'audio' }] }), dom('NotSupportedError'));
    await assert.rejects(make({ expectedInputs: inText('en-abc-invalid') }), RangeError);
  });

  test('responseConstraint: a schema, a RegExp, and what cannot be held', async () => {
    const session = await LanguageModel.create({ model: lm, ...short });
    const schema = {
      type: 'object',
      properties: { rating: { type: 'integer', minimum: 0, maximum: 5 } },
      required: ['rating'],
      additionalProperties: false,
    };
    const answer = await session.prompt('Rate it.', { responseConstraint: schema });
    assert.ok(JSON.parse(answer).rating <= 5, answer);
    const omit = { responseConstraint: schema, omitResponseConstraintInput: true };
    assert.equal(
      await session.measureContextUsage('x', omit),
      await session.measureContextUsage('x'),
    );
    assert.ok(
      (await session.measureContextUsage('x', { responseConstraint: schema })) >
        (await session.measureContextUsage('x', omit)),
      'the model is told of the schema',
    );
    assert.match(
      (await text(session.promptStreaming('x', omit))).join(''),
      /^\{"rating": [0-5]\}$/,
    );
    const pattern = /-?\d/;
    assert.match(await session.prompt('x', { responseConstraint: pattern }), /^-?\d$/);
    const used = session.contextUsage;
    const loop = {};
    loop.self = loop;
    for (const [options, error] of /** @type {[any, any][]} */ ([
      [{ responseConstraint: loop }, dom('NotSupportedError', /no JSON Schema/)],
      [{ responseConstraint: { not: {} } }, dom('NotSupportedError', /#\/not/)],
      [{ responseConstraint: /(?=a)/ }, dom('NotSupportedError')],
      [{ responseConstraint: 'a' }, TypeError],
      [{ omitResponseConstraintInput: true }, TypeError],
      [
        { responseConstraint: { type: 'array', items: {}, minItems: 600 } },
        dom('SyntaxError', /context ended/),
      ],
    ])) {
      await assert.rejects(session.prompt('x', options), error, String(error));
      assert.equal(session.contextUsage, used, 'nothing of it was said');
    }
    const goingOn = (/** @type {string} */ content) => [
      { role: /** @type {const} */ ('user'), content: 'Rate it.' },
      { role: /** @type {const} */ ('assistant'), content, prefix: true },
    ];
    for (const [begun, rest] of /** @type {[string, RegExp][]} */ ([
      ['{ "rating": ', /^[0-5]\}$/],
      ['{"rating"', /^: [0-5]\}$/],
    ])) {
      const said = await session.prompt(goingOn(begun), { responseConstraint: schema });
      assert.match(said, rest);
      assert.ok(JSON.parse(begun + said).rating <= 5);
      const result = await lm.chat(goingOn(begun), { schema }).result;
      assert.deepEqual(result.json, JSON.parse(begun + result.text));
    }
    await assert.rejects(
      session.prompt(goingOn('{"stars"'), { responseConstraint: schema }),
      (error) => error instanceof TypeError && /stars.*cannot go on/.test(error.message),
    );
    session.destroy();
  });

  test('tools are run while the model answers', async () => {
    const own = await loadRoomy();
    const last = (/** @type {any[]} */ messages) => messages[messages.length - 1].role;
    // the tiny model would never call by itself
    const model = /** @type {typeof own} */ (
      wrong({
        info: own.info,
        exits: own.exits,
        countTokens: own.countTokens.bind(own),
        chat: (/** @type {any[]} */ messages, /** @type {any} */ options) =>
          own.chat(messages, {
            ...options,
            ...(options.tools && { toolChoice: last(messages) === 'tool' ? 'none' : 'required' }),
            maxTokens: 120,
          }),
      })
    );
    /** @type {any[]} */
    const ran = [];
    const weather = {
      name: 'get_weather',
      description: 'The weather of a city',
      inputSchema: {
        type: 'object',
        properties: { city: { enum: ['Oslo', 'Rome'] } },
        required: ['city'],
      },
      execute: async (/** @type {any} */ given) => {
        ran.push(given);
        return '{"sky":"rain"}';
      },
    };
    const options = {
      model,
      ...short,
      tools: [weather],
      expectedOutputs: [{ type: /** @type {const} */ ('tool-call') }],
    };
    const session = await LanguageModel.create(options);
    assert.ok(await session.prompt('Hello'));
    assert.ok(ran.length > 0);
    for (const { city } of ran) assert.match(city, /^(Oslo|Rome)$/);
    const calls = ran.length;
    assert.match(await session.prompt('x', { responseConstraint: /[a-c]{3}/ }), /^[a-c]{3}$/);
    assert.ok(ran.length > calls, 'calls come before what is held to a shape');
    session.destroy();
    const broken = { ...weather, execute: () => Promise.reject(new Error('no line')) };
    const failing = await LanguageModel.create({ ...options, tools: [broken] });
    await assert.rejects(failing.prompt('Hello'), /^Error: no line$/);
    failing.destroy();
    const loop = { type: 'object' };
    /** @type {any} */ (loop).self = loop;
    for (const tools of [
      [weather, weather],
      [{ ...weather, name: '' }],
      [{ ...weather, description: '' }],
      [{ ...weather, execute: undefined }],
      ...[null, 'x', {}, { type: 'string' }, { type: 'object', required: 'x' }, loop].map(
        (inputSchema) => [{ ...weather, inputSchema }],
      ),
    ])
      await assert.rejects(LanguageModel.create({ ...options, tools: wrong(tools) }), TypeError);
    await own.dispose();
  });

  test("it has the types of Chrome's", () => {
    const { status, stdout } = tscAccepts(
      `
import { LanguageModel as Own } from '../../../web/src/prompt-api.js';
const same: typeof LanguageModel = Own;
const options: LanguageModelCreateOptions = { samplingMode: 'creative', initialPrompts: [{ role: 'user', content: 'x' }] };
const session: LanguageModel = await Own.create({
  ...options,
  monitor: (monitor) => { monitor.ondownloadprogress = ({ loaded }) => void loaded.toFixed(); },
});
session.oncontextoverflow = null;
const used: number = await session.measureContextUsage('x', { responseConstraint: { type: 'string' } });
// @ts-expect-error there is no such mode
Own.create({ samplingMode: 'wild' });
export { same, used };
`,
      ['node', 'dom-chromium-ai'],
    );
    assert.equal(status, 0, stdout);
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
    // the last one lets the model go
    while ((await LanguageModel.availability({ model, load })) !== 'downloadable')
      await new Promise((resolve) => setTimeout(resolve, 5));
    await assert.rejects(
      LanguageModel.create({ model: `${tinyPath}.missing`, load: { worker: false } }),
      (error) => dom('NetworkError')(error) && error.cause instanceof ExitLMError,
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

test('docs/prompt-api.md: its example runs as it stands', { skip: !hasReal }, () => {
  const [said] = examplesOf('docs/prompt-api.md');
  assert.match(said, /^0\n/, 'the monitor tells');
  assert.match(said, /\n(true|false)\n$/);
});

test('docs/prompt-api.md: the back end for the polyfill', async () => {
  const [, code = ''] =
    /```javascript\n(.*?)```/s.exec(fs.readFileSync('docs/prompt-api.md', 'utf8')) ?? [];
  const folder = 'build/readme/backends'; // inside the package, so that it finds `exitlm` by its name
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(
    `${folder}/base.js`,
    'export default class { constructor(name) { this.modelName = name; } }',
  );
  fs.writeFileSync(`${folder}/exitlm.js`, code);
  const { default: Backend } = await import(path.resolve(folder, 'exitlm.js'));
  assert.equal(Backend.availability({ expectedInputs: [{ type: 'image' }] }), 'unavailable');
  const backend = new Backend({ model: tinyPath, load: { worker: false, heads: false } });
  const session = { systemInstruction: 'S', generationConfig: { responseSchema: /[a-z]{4}/ } };
  const own = await backend.createSession({}, session);
  const contents = [{ role: 'user', parts: [{ text: 'Hel' }, { text: 'lo' }] }];
  const { text: whole, usage } = await backend.generateContent(contents);
  assert.match(whole, /^[a-z]{4}$/);
  const messages = [
    { role: 'system', content: 'S' },
    { role: 'user', content: 'Hello' },
  ];
  assert.equal(await backend.countTokens(contents), await own.countTokens(messages));
  assert.ok(usage > (await own.countTokens(messages)));
  const pieces = [];
  for await (const piece of await backend.generateContentStream(contents))
    pieces.push(piece.text());
  assert.equal(pieces.join(''), whole);
  await own.dispose();
});
