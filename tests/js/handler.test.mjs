// The server of exitlm/edge in Node: what a request may ask for, and the line before the engine
// with a clock of the test's own. In the real workerd: tests/edge/cloudflare.test.mjs.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createHandler, ExitLM } from '../../web/src/edge.js';
import { deferred } from '../../web/src/link/platform.js';
import { BEAT_MS, Lane, SILENT_BEATS } from '../../web/src/serve/lane.js';
import { Places } from '../../web/src/serve/places.js';
import { tinyPath } from './support/tiny-model.mjs';

const hi = [{ role: 'user', content: 'Hi, how are you?' }];
const model = ExitLM.load(tinyPath, { heads: false });
after(async () => (await model).dispose());

/** @param {Partial<Parameters<typeof createHandler>[0]>} options */
const server = (options = {}) => createHandler({ model: 'tiny', load: () => model, ...options });
const ask = (/** @type {object} */ body, /** @type {Record<string, string>} */ headers = {}) =>
  new Request('http://exitlm/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ messages: hi, ...body }),
  });

describe('requests', () => {
  test('what a request leaves out comes from defaults', async () => {
    const answer = server({ defaults: { maxTokens: 5, audit: 0, maxDraft: 2 } });
    const short = await (await answer(ask({}))).json();
    assert.equal(short.usage.completion_tokens, 5);
    assert.equal(short.choices[0].finish_reason, 'length');
    assert.equal((await (await answer(ask({ max_tokens: 3 }))).json()).usage.completion_tokens, 3);
  });
  test('without defaults, the most that is allowed', async () => {
    const { usage } = await (await server({ maxOutputTokens: 7 })(ask({}))).json();
    assert.equal(usage.completion_tokens, 7);
  });
  test('more than is allowed: as much as is', async () => {
    const { choices, usage } = await (
      await server({ maxOutputTokens: 7 })(ask({ max_tokens: 4096 }))
    ).json();
    assert.deepEqual([usage.completion_tokens, choices[0].finish_reason], [7, 'length']);
  });
  test('names that every object has are unknown parameters, too', async () => {
    for (const name of ['constructor', 'toString', 'tools_']) {
      const response = await server()(ask({ [name]: 1, max_tokens: 1 }));
      assert.equal(response.status, 200, name);
      assert.equal(response.headers.get('x-exitlm-warning'), `ignored parameters: ${name}`);
      await response.text();
    }
  });
  test('a page of another site has nothing computed', async () => {
    let loads = 0;
    const load = () => (loads++, model);
    const status = async (/** @type {any} */ cors, /** @type {Record<string, string>} */ headers) =>
      (await server({ load, cors })(ask({ max_tokens: 1 }, headers))).status;
    const other = 'https://other.example';
    assert.equal(await status('*', { 'content-type': 'text/plain' }), 415);
    assert.equal(await status(false, { origin: other }), 403);
    assert.equal(await status(['https://mine.example'], { origin: other }), 403);
    assert.equal(loads, 0);
    assert.equal(await status(false, { origin: 'http://exitlm' }), 200);
    assert.equal(await status([other], { origin: other }), 200);
  });
  test('a model whose name is no URI is not there', async () => {
    for (const [name, expected] of /** @type {[string, number][]} */ ([
      ['%E0%A4%A', 404],
      ['tiny', 200],
    ])) {
      const request = new Request(`http://exitlm/v1/models/${name}`);
      assert.equal((await server()(request)).status, expected, name);
    }
  });
  test('tools are called; what is wrong with them is said with the field', async () => {
    const tool = (/** @type {object} */ parameters) => ({
      tools: [{ type: 'function', function: { name: 'f', parameters } }],
      tool_choice: 'required',
    });
    const good = tool({ type: 'object', properties: { a: { enum: [1, 2] } }, required: ['a'] });
    const { choices } = await (
      await server()(ask({ ...good, parallel_tool_calls: false, max_tokens: 60 }))
    ).json();
    assert.equal(choices[0].finish_reason, 'tool_calls');
    assert.match(choices[0].message.tool_calls[0].function.arguments, /^\{"a":[12]\}$/);
    const refused = await server()(ask(tool({ type: 'object', not: {} })));
    assert.equal(refused.status, 400);
    const { error } = await refused.json();
    assert.deepEqual([error.param, /#\/not/.test(error.message)], ['tools', true]);
    const long = await server({ maxPromptTokens: 60 })(ask(good));
    assert.equal((await long.json()).error.code, 'context_length_exceeded', 'tools count');
  });
  test('a stream and a whole answer say the same', async () => {
    const whole = await (await server()(ask({ max_tokens: 6 }))).json();
    const events = (
      await (
        await server()(
          ask({ max_tokens: 6, stream: true, stream_options: { include_usage: true } }),
        )
      ).text()
    )
      .trim()
      .split('\n\n');
    assert.equal(events.pop(), 'data: [DONE]');
    const chunks = events.map((event) => JSON.parse(event.slice('data: '.length)));
    assert.equal(
      chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''),
      whole.choices[0].message.content,
    );
    assert.deepEqual(chunks.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
    assert.equal(chunks.at(-1).model, 'tiny');
  });
  test('ready where a question would be taken; one too many is refused at once', async () => {
    const loaded = deferred();
    const load = async () => (await loaded.promise, model);
    await (
      await model
    ).ready;
    const answer = server({ load, eager: true, maxWaiting: 0 });
    const at = async (/** @type {string} */ path) => {
      const response = await answer(new Request(`http://exitlm${path}`));
      return [response.status, await response.json()];
    };
    assert.deepEqual(await at('/ready'), [503, { ready: false, full: false }]);
    loaded.resolve(undefined);
    const stop = new AbortController();
    const asked = ask({ max_tokens: 400, stream: true });
    const first = await answer(new Request(asked, { signal: stop.signal }));
    assert.deepEqual(await at('/ready'), [503, { ready: false, full: true }]);
    const second = await answer(ask({}));
    assert.deepEqual([second.status, second.headers.get('retry-after')], [503, '1']);
    stop.abort();
    await first.text();
    assert.deepEqual(await at('/ready'), [200, { ready: true, full: false }]);
    const [status, { error }] = await at('/metrics');
    assert.equal(status, 404, 'only where somebody counts');
    assert.doesNotMatch(error.message, /there is .*metrics/);
  });
});

describe('the line', () => {
  const turn = () => ({ started: false, settled: Promise.resolve() });
  const never = new AbortController().signal;
  /** Notes when each has its turn. */
  const enter = (
    /** @type {Lane} */ lane,
    /** @type {string[]} */ order,
    /** @type {string} */ name,
    signal = never,
  ) => {
    const mine = turn();
    return { mine, entered: lane.acquire(mine, signal).then(() => void order.push(name)) };
  };
  const settle = () =>
    new Promise((resolve) => {
      setImmediate(resolve);
    });

  test('one after the other, in order', async () => {
    const lane = new Lane(2, assert.fail);
    /** @type {string[]} */
    const order = [];
    const [a, b, c] = ['a', 'b', 'c'].map((name) => enter(lane, order, name));
    await settle();
    assert.deepEqual([order, lane.answering, lane.waiting], [['a'], 1, 2]);
    lane.release(b.mine); // not its turn
    await settle();
    assert.deepEqual(order, ['a']);
    lane.release(a.mine);
    await b.entered;
    lane.release(b.mine);
    await c.entered;
    lane.release(c.mine);
    assert.deepEqual([order, lane.answering, lane.waiting], [['a', 'b', 'c'], 0, 0]);
  });

  test('several have the engine, and of those who wait the client with the fewest is next', async () => {
    const lane = new Lane(9, assert.fail, 2);
    /** @type {string[]} */
    const order = [];
    const turns = ['a', 'a', 'a', 'a', 'b'].map((client) => {
      const mine = { ...turn(), client };
      const name = `${client}${order.length}`;
      return { mine, entered: lane.acquire(mine, never).then(() => void order.push(client)), name };
    });
    await settle();
    assert.deepEqual([order, lane.waiting], [['a', 'a'], 3]);
    lane.release(turns[0].mine);
    await settle();
    assert.deepEqual(order, ['a', 'a', 'b']);
    for (const { mine } of turns) lane.release(mine);
    await settle();
    assert.deepEqual([order.join(''), lane.waiting, lane.answering], ['aabaa', 0, 0]);
  });

  test('it has an end, and who leaves makes room', async () => {
    const lane = new Lane(1, assert.fail);
    const first = turn();
    await lane.acquire(first, never);
    const stop = new AbortController();
    const waiting = lane.acquire(turn(), stop.signal);
    await assert.rejects(
      lane.acquire(turn(), never),
      (/** @type {any} */ error) => error.status === 503 && error.headers['Retry-After'] === '2',
    );
    stop.abort(new Error('gone'));
    await assert.rejects(waiting, /gone/);
    assert.equal(lane.waiting, 0);
    await assert.rejects(
      lane.acquire(turn(), stop.signal),
      /gone/,
      'who is gone already does not wait',
    );
    assert.equal(lane.waiting, 0);
  });

  test('who gives no sign of life loses the engine, not before its time', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    let lost = 0;
    const lane = new Lane(2, () => lost++);
    const first = turn();
    await lane.acquire(first, never);
    first.started = true;
    /** @type {string[]} */
    const order = [];
    const [b] = ['b', 'c'].map((name) => enter(lane, order, name));
    t.mock.timers.tick(BEAT_MS * (SILENT_BEATS - 1));
    lane.beat(first);
    t.mock.timers.tick(BEAT_MS * SILENT_BEATS);
    await settle();
    assert.deepEqual([order, lost], [[], 0], 'a sign of life starts the count anew');
    t.mock.timers.tick(BEAT_MS);
    await settle();
    assert.deepEqual(
      [order, lost],
      [['b'], 1],
      'the first of the line has its turn, and the engine is given up',
    );
    lane.release(first);
    await settle();
    assert.deepEqual(order, ['b'], 'who lost it cannot give it away');
    t.mock.timers.tick(BEAT_MS * SILENT_BEATS + BEAT_MS);
    await settle();
    assert.deepEqual(
      [order, lost],
      [['b', 'c'], 1],
      'one that had not begun leaves the engine whole',
    );
    lane.release(b.mine);
    assert.equal(lane.answering, 1);
  });
});

describe('conversations that are kept', () => {
  const said = (/** @type {string[]} */ ...texts) =>
    texts.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));

  test('a question goes where its conversation lies, else to room, else to the longest unused', async () => {
    let made = 0;
    const lm = /** @type {any} */ ({
      name: 'own',
      session: () => {
        if (made === 2)
          return { ready: Promise.reject(Object.assign(new Error(), { code: 'OUT_OF_MEMORY' })) };
        return { name: `s${++made}`, ready: Promise.resolve() };
      },
    });
    const places = new Places(lm, 5); // of which only three find room
    const takeFor = async (/** @type {string[]} */ ...texts) => {
      const { session, leave } = await places.take(said(...texts));
      return { name: /** @type {any} */ (session).name, leave };
    };
    const visit = async (/** @type {string[]} */ ...texts) => {
      const { name, leave } = await takeFor(...texts);
      leave();
      return name;
    };
    assert.deepEqual([await visit('a'), await visit('b'), await visit('c')], ['own', 's1', 's2']);
    assert.equal(await visit('a', 'A', 'a2'), 'own');
    assert.equal(await visit('d'), 's1', 'b is the one that nobody has used for longest');
    assert.equal(await visit('c', 'C', 'c2'), 's2');
    const busy = await takeFor('a', 'A', 'a2', 'A2', 'a3');
    assert.equal(busy.name, 'own');
    assert.equal(
      await visit('a', 'A', 'a2', 'A2', 'a3'),
      's1',
      'a place that is busy is not waited for',
    );
    busy.leave();
  });

  test('two clients in turn: neither costs the other what was read', async () => {
    const lm = await ExitLM.load(tinyPath, { heads: false });
    /** @type {number[]} */
    const cached = [];
    const answer = server({ load: () => lm, sessions: 2, maxOutputTokens: 8 });
    const talks = [said('Hi, I am Anna.'), said('Hi, I am Bob, and who are you?')];
    for (let round = 0; round < 3; round++)
      await Promise.all(
        talks.map(async (messages) => {
          const { choices, usage } = await (await answer(ask({ messages }))).json();
          cached.push(usage.prompt_tokens_details.cached_tokens);
          messages.push(choices[0].message, { role: 'user', content: `And ${round}?` });
        }),
      );
    const { busy } = await (await answer(new Request('http://exitlm/health'))).json();
    assert.equal(busy, false);
    assert.ok(
      cached.slice(2).every((n) => n > 20),
      `${cached}`,
    );
    await lm.dispose();
  });
});
