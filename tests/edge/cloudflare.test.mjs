// The example Worker in the real workerd: what it answers, what it refuses, that it forgets nobody
// in the line, that it comes back after a crash. On the tiny model; the default one is in
// cloudflare-memory.test.mjs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ExitLM } from '../../web/src/edge.js';
import { packTiny } from './support/models.mjs';
import { ask, askBare, chunksOf, inspectIsolate, startWorker } from './support/worker.mjs';

/** The tiny model's context ends at 512 tokens. */
const forTiny = (/** @type {string} */ _, /** @type {string} */ text) =>
  text
    .replace('contextLength: 1024', 'contextLength: 512')
    .replace('maxPromptTokens: 768', 'maxPromptTokens: 200');
const hi = [{ role: 'user', content: 'Hi, how are you?' }];
const body = (/** @type {object} */ more = {}) => ({ messages: hi, max_tokens: 12, ...more });

/** @type {import('./support/worker.mjs').Worker} */
let worker;
/**
 * What the package answers in Node. @type {{ text: string, exits: { layer: number, head: number }[]
 * }}
 */
let expected;

const at = async (/** @type {string} */ route) => (await fetch(worker.url + route)).json();
const wait = (/** @type {number} */ ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

/** Waits until nobody is answered or waits. */
async function idle() {
  for (let i = 0; i < 1200; i++) {
    const { busy, waiting } = await at('/health');
    if (!busy && waiting === 0) return;
    await wait(50);
  }
  assert.fail('the Worker is still busy after a minute');
}

before(async () => {
  worker = await startWorker({
    model: packTiny,
    vars: { MODEL: 'tiny', OPEN: 1 },
    fixture: true,
    edit: forTiny,
  });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-expected-'));
  await packTiny(path.join(folder, 'tiny'));
  const lm = await ExitLM.load(path.join(folder, 'tiny/manifest.json'), {
    kvType: 'q8',
    contextLength: 512,
  });
  await lm.ready;
  /** @type {any[]} */
  const tokens = [];
  for await (const token of lm.chat(hi, { maxTokens: 12 })) tokens.push(token);
  expected = {
    text: tokens.map((t) => t.text).join(''),
    exits: tokens.map(({ layer, head }) => ({ layer, head })),
  };
  await lm.dispose();
  fs.rmSync(folder, { recursive: true });
  // Until all has arrived a first token may come from a shallower head than later: answers are
  // compared after that.
  assert.equal((await ask(worker.url, body())).status, 200);
  while ((await at('/health')).status !== 'ready') await wait(50);
});
after(() => worker?.stop());

describe('answers', () => {
  test('whole', async () => {
    const response = await ask(worker.url, body({ model: 'tiny' }));
    assert.equal(response.status, 200);
    const completion = await response.json();
    assert.equal(completion.object, 'chat.completion');
    assert.equal(completion.model, 'tiny');
    const [{ message, finish_reason: finish }] = completion.choices;
    assert.equal(message.content, expected.text, 'the same text as in Node');
    assert.deepEqual(
      message.exit.tokens.map((/** @type {any} */ { layer, head }) => ({ layer, head })),
      expected.exits,
      'the same exits as in Node',
    );
    assert.ok(expected.exits.some(({ head }) => head >= 0));
    assert.equal(finish, 'length');
    assert.equal(completion.usage.completion_tokens, 12);
    assert.ok(completion.usage.prompt_tokens > 10);
  });
  test('streamed, with the exit of each token', async () => {
    const response = await ask(
      worker.url,
      body({ stream: true, stream_options: { include_usage: true } }),
    );
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
    const data = [];
    for await (const chunk of chunksOf(response)) data.push(chunk);
    assert.equal(data.pop(), '[DONE]');
    const chunks = data.map((d) => JSON.parse(d));
    assert.ok(chunks.every((c) => c.object === 'chat.completion.chunk' && c.id === chunks[0].id));
    assert.equal(chunks[0].choices[0].delta.role, 'assistant');
    const deltas = chunks.map((c) => c.choices[0]?.delta).filter((d) => d?.exit);
    assert.equal(deltas.map((d) => d.content).join(''), expected.text);
    assert.deepEqual(
      deltas.map(({ exit: { layer, head } }) => ({ layer, head })),
      expected.exits,
    );
    for (const { exit } of deltas)
      assert.ok(
        exit.of === 6 && exit.depth === exit.layer / 6 && exit.work > 0 && exit.confidence <= 1,
      );
    assert.equal(chunks.at(-1).usage.completion_tokens, 12);
    assert.equal(chunks.at(-2).choices[0].finish_reason, 'length');
  });
  test('in every mode, sampled with a seed', async () => {
    const texts = [];
    for (const mode of ['full', 'lossless', 'full']) {
      const completion = await (
        await ask(worker.url, body({ mode, temperature: 0.8, seed: 5 }))
      ).json();
      assert.equal(completion.choices[0].message.exit.mode, mode);
      texts.push(completion.choices[0].message.content);
    }
    assert.equal(texts[0], texts[1], 'lossless is what full says');
    assert.equal(texts[0], texts[2], 'a seed repeats a reply');
  });
  test('where the clock stands still, as in a deployed Worker', async () => {
    await at('/v1/test/freeze');
    try {
      await at('/v1/test/trap'); // a new engine, which finds the clock standing
      assert.equal((await ask(worker.url, body())).status, 503);
      const response = await ask(worker.url, body({ stream: true }));
      let text = '';
      for await (const chunk of chunksOf(response)) {
        if (chunk !== '[DONE]') text += JSON.parse(chunk).choices[0].delta.content ?? '';
      }
      while ((await at('/health')).status !== 'ready') await wait(50);
      const whole = await (await ask(worker.url, body())).json();
      assert.equal(whole.choices[0].message.content, expected.text);
      assert.equal(whole.choices[0].message.exit.tokensPerSecond, null, 'no speed is made up');
      assert.ok(text.length > 0);
    } finally {
      await at('/v1/test/thaw');
      await at('/v1/test/trap'); // and one that finds it running
      assert.equal((await ask(worker.url, body())).status, 503);
      assert.equal((await ask(worker.url, body())).status, 200);
      while ((await at('/health')).status !== 'ready') await wait(50);
    }
  });
  test('models, the page, and what there is not', async () => {
    const list = await at('/v1/models');
    assert.deepEqual(
      list.data.map((/** @type {any} */ m) => m.id),
      ['tiny'],
    );
    assert.equal((await at('/v1/models/tiny')).id, 'tiny');
    const other = await fetch(`${worker.url}/v1/models/gpt`);
    assert.deepEqual([other.status, (await other.json()).error.code], [404, 'model_not_found']);
    const page = await fetch(worker.url);
    assert.match(page.headers.get('content-type') ?? '', /^text\/html/);
    assert.match(await page.text(), /ExitLM on the edge/);
    assert.equal((await fetch(`${worker.url}/v1/nothing`)).status, 404);
    const wrong = await fetch(`${worker.url}/v1/chat/completions`);
    assert.deepEqual([wrong.status, wrong.headers.get('allow')], [405, 'POST, OPTIONS']);
  });
  test('other origins', async () => {
    const preflight = await fetch(`${worker.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: {
        'origin': 'https://example.org',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'content-type,authorization',
      },
    });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers.get('access-control-allow-origin'), '*');
    assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /authorization/);
    const answer = await ask(worker.url, body({ max_tokens: 1 }), {
      headers: { origin: 'https://example.org' },
    });
    assert.equal(answer.headers.get('access-control-allow-origin'), '*');
  });
  test('nothing is compiled or evaluated there', async () => {
    const { compile, eval: evaluated, function: made } = await at('/v1/test/forbidden');
    for (const said of [compile, evaluated, made]) assert.match(said, /disallowed/);
  });
});

describe('refusals', () => {
  /** @type {[string, number, string, object | string, string | null][]} */
  const cases = [
    ['not JSON', 400, 'invalid_json', '{"messages":', null],
    ['a list', 400, 'invalid_json', '[]', null],
    ['no messages', 400, 'invalid_value', {}, 'messages'],
    [
      'an unknown role',
      400,
      'invalid_value',
      { messages: [{ role: 'cat', content: 'miaow' }] },
      'messages',
    ],
    [
      'a picture',
      400,
      'unsupported',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'messages',
    ],
    ['tools', 400, 'invalid_value', body({ tools: [{ type: 'function' }] }), 'tools'],
    [
      'a parameter without which it would mean something else',
      400,
      'invalid_value',
      body({ logit_bias: { 5: 1 } }),
      'logit_bias',
    ],
    ['a value out of range', 400, 'invalid_value', body({ temperature: -1 }), 'temperature'],
    [
      'a value out of range, streamed',
      400,
      'invalid_value',
      body({ accuracy: 3, stream: true }),
      'accuracy',
    ],
    ['a stream that is no boolean', 400, 'invalid_type', body({ stream: 'yes' }), 'stream'],
    [
      'too long a prompt',
      400,
      'context_length_exceeded',
      { messages: [{ role: 'user', content: 'one two three '.repeat(300) }] },
      'messages',
    ],
    ['another model', 404, 'model_not_found', body({ model: 'gpt-9' }), 'model'],
    [
      'too long a body',
      413,
      'request_too_large',
      { messages: [{ role: 'user', content: 'x'.repeat(70_000) }] },
      null,
    ],
  ];
  for (const [name, status, code, sent, param] of cases) {
    test(name, async () => {
      const response = await ask(worker.url, sent, { headers: { origin: 'https://example.org' } });
      const { error } = await response.json();
      assert.deepEqual(
        [response.status, error.code, error.param],
        [status, code, param],
        error.message,
      );
      assert.ok(error.message.length > 10 && typeof error.type === 'string');
      assert.match(response.headers.get('content-type') ?? '', /^application\/json/);
      assert.equal(response.headers.get('access-control-allow-origin'), '*', 'a page may read why');
    });
  }
  test('too long a body that does not say its length', async () => {
    let sent = 0;
    const long = new ReadableStream({
      async pull(controller) {
        await wait(2);
        if (sent >= 1e6) return controller.close();
        sent += 10_000;
        controller.enqueue(new Uint8Array(10_000).fill(32));
      },
    });
    const response = await fetch(
      `${worker.url}/v1/chat/completions`,
      /** @type {any} */ ({
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: long,
        duplex: 'half',
        signal: AbortSignal.timeout(30_000),
      }),
    );
    assert.equal(response.status, 413); // the rest of the connection may end under the writer
  });
});

describe('many at once', () => {
  test('100 questions: right answers or 503 with Retry-After, none hangs, memory stays', async () => {
    await at('/v1/test/forget');
    assert.equal((await ask(worker.url, body())).status, 200);
    const inspector = await inspectIsolate(worker);
    const starts = (await at('/health')).starts;
    const linear = (await at('/health')).memory_bytes;
    const round = async () => {
      const answers = await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const response = await ask(worker.url, body({ stream: i % 2 === 0 }), {
            signal: AbortSignal.timeout(120_000),
          });
          if (response.status !== 200)
            return {
              status: response.status,
              retry: response.headers.get('retry-after'),
              text: '',
              code: (await response.json()).error.code,
            };
          let text = '';
          if (i % 2) text = (await response.json()).choices[0].message.content;
          else
            for await (const chunk of chunksOf(response))
              text += chunk === '[DONE]' ? '' : (JSON.parse(chunk).choices[0].delta.content ?? '');
          return { status: 200, retry: null, text, code: '' };
        }),
      );
      const right = answers.filter(({ status }) => status === 200);
      for (const { text } of right) assert.equal(text, expected.text);
      for (const { status, retry, code } of answers) {
        if (status === 200) continue;
        assert.deepEqual([status, code], [503, 'overloaded']);
        assert.ok(Number(retry) >= 1);
      }
      return right.length;
    };
    assert.ok((await round()) >= 9, 'one is answered, eight wait');
    const used = async () => {
      const { heap, outside } = await inspector.usage();
      return heap + outside;
    };
    const first = await used();
    // What is garbage counts until V8 collects it, which nobody can ask for here: the lowest of the
    // later rounds.
    let last = Infinity;
    for (let i = 0; i < 5 || (i < 25 && last > first + 8e6); i++) {
      await round();
      if (i >= 4) last = Math.min(last, await used());
    }
    inspector.close();
    await idle();
    const health = await at('/health');
    assert.equal(health.starts, starts, 'one engine did it all');
    assert.equal(health.memory_bytes, linear);
    assert.ok(last < first + 8e6, `the heap went from ${first} to ${last} bytes`);
    assert.equal(
      (await (await ask(worker.url, body())).json()).choices[0].message.content,
      expected.text,
    );
  });
  test('clients that go away stop their answers and leave the line', async () => {
    const { served } = await at('/health');
    let asked = 0;
    for (const ms of [0, 5, 20, 50, 100, 200]) {
      for (const cut of [true, false]) {
        const all = await Promise.all(
          Array.from({ length: 6 }, (_, i) =>
            askBare(worker.url, body({ max_tokens: 256, stream: i % 2 === 0 })),
          ),
        );
        asked += all.length;
        await wait(ms);
        for (const one of all)
          if (cut) one.cut();
          else one.close();
        await idle();
      }
    }
    assert.equal(
      (await (await ask(worker.url, body())).json()).choices[0].message.content,
      expected.text,
    );
    assert.ok((await at('/health')).served < served + asked, 'some were stopped');
    assert.equal((await at('/health')).waiting, 0);
  });
  test('a connection cut in the middle of an answer', async () => {
    for (let i = 0; i < 5; i++) {
      const one = await askBare(worker.url, body({ max_tokens: 256, stream: true }));
      await one.begun;
      one.cut();
      assert.equal(
        (await (await ask(worker.url, body())).json()).choices[0].message.content,
        expected.text,
      );
    }
    await idle();
  });
  test("through wrangler's proxy too", async () => {
    const one = await askBare(worker.proxied, body({ max_tokens: 256, stream: true }));
    await one.begun;
    one.cut();
    assert.equal(
      (await (await ask(worker.proxied, body())).json()).choices[0].message.content,
      expected.text,
    );
  });
});

test('a crash of the engine: 503, and a new engine for the next question', async () => {
  const { starts } = await at('/health');
  await at('/v1/test/trap');
  const response = await ask(worker.url, body());
  assert.equal(response.status, 503);
  assert.equal(response.headers.get('retry-after'), '1');
  assert.equal((await response.json()).error.code, 'engine_failed');
  assert.equal((await ask(worker.url, body())).status, 200);
  while ((await at('/health')).status !== 'ready') await wait(50);
  assert.equal(
    (await (await ask(worker.url, body())).json()).choices[0].message.content,
    expected.text,
  );
  assert.equal((await at('/health')).starts, starts + 1);
});

describe('with a token, a limit a client, one origin', () => {
  /** @type {import('./support/worker.mjs').Worker} */
  let closed;
  before(async () => {
    closed = await startWorker({
      model: packTiny,
      vars: { MODEL: 'tiny', TOKEN: 'open sesame', PER_CLIENT: 2, ORIGINS: 'https://mine.example' },
      edit: forTiny,
    });
  });
  after(() => closed?.stop());
  const auth = { authorization: 'Bearer open sesame' };

  test('the token', async () => {
    for (const headers of [
      {},
      { authorization: 'Bearer open' },
      { authorization: 'Basic open sesame' },
    ]) {
      const response = await ask(closed.url, body(), { headers });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get('www-authenticate'), 'Bearer');
      assert.equal((await response.json()).error.code, 'invalid_api_key');
    }
    assert.equal((await fetch(`${closed.url}/v1/models`)).status, 401);
    assert.equal((await ask(closed.url, body(), { headers: auth })).status, 200);
  });
  test('429 beyond two questions at once', async () => {
    const all = await Promise.all(
      Array.from({ length: 12 }, async () => {
        const response = await ask(closed.url, body({ max_tokens: 200 }), { headers: auth });
        return {
          status: response.status,
          retry: response.headers.get('retry-after'),
          text: await response.text(),
        };
      }),
    );
    const refused = all.filter(({ status }) => status === 429);
    assert.ok(refused.length > 0); // how many depends on how fast the first two are answered
    for (const { retry, text } of refused)
      assert.ok(Number(retry) >= 1 && JSON.parse(text).error.code === 'rate_limit_exceeded');
    assert.ok(all.some(({ status }) => status === 200));
    assert.equal(
      (await ask(closed.url, body(), { headers: auth })).status,
      200,
      'and afterwards all is well',
    );
  });
  test('origins', async () => {
    const from = async (/** @type {string} */ origin) =>
      (await ask(closed.url, body({ max_tokens: 1 }), { headers: { ...auth, origin } })).headers;
    assert.equal(
      (await from('https://mine.example')).get('access-control-allow-origin'),
      'https://mine.example',
    );
    const other = await from('https://other.example');
    assert.equal(other.get('access-control-allow-origin'), null);
    assert.equal(other.get('vary'), 'Origin');
  });
});

test('a model that is damaged: an error that says so, and the right file later', async () => {
  const broken = await startWorker({
    vars: { MODEL: 'tiny', OPEN: 1 },
    edit: forTiny,
    model: async (/** @type {string} */ to) => {
      await packTiny(to);
      fs.writeFileSync(
        path.join(to, 'shard-0001.bin'),
        fs.readFileSync(path.join(to, 'shard-0001.bin')).fill(7, 100, 200),
      );
    },
  });
  try {
    for (let i = 0; i < 2; i++) {
      const response = await ask(broken.url, body());
      const text = await response.text();
      assert.equal(response.status, 503, text);
      assert.match(text, /SHA-256|CHECKSUM|checksum/i);
      assert.ok(response.headers.get('retry-after'));
    }
  } finally {
    await broken.stop();
  }
});
