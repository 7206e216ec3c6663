// exitlm/openai under the real client: OpenAI's shapes, the exit of each token, refusals, stopping.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import OpenAI from 'openai';
import { createHandler } from '../../web/src/edge.js';
import { openaiFetch } from '../../web/src/openai.js';
import { loadRoomy } from './support/tiny-model.mjs';

const lm = await loadRoomy();
after(() => lm.dispose());
/** Requests leave out what the client's types ask for, and give what is wrong. @type {any} */
const client = new OpenAI({ baseURL: 'http://exitlm/v1', apiKey: 'none', fetch: openaiFetch(lm) });
const messages = [
  { role: 'system', content: 'Be brief.' },
  {
    role: 'user',
    content: [
      { type: 'text', text: 'Hello ' },
      { type: 'text', text: 'there' },
    ],
  },
];

const weather = /** @type {const} */ ({
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather of a city',
    parameters: {
      type: 'object',
      properties: { city: { enum: ['Oslo', 'Rome'] } },
      required: ['city'],
      additionalProperties: false,
    },
  },
});
const plain = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hello there' },
];
const refused = (/** @type {RegExp} */ message) => (/** @type {any} */ error) => {
  assert.ok(error instanceof OpenAI.BadRequestError, String(error?.stack ?? error));
  assert.match(error.message, message);
  return true;
};
const collect = async (/** @type {AsyncIterable<any>} */ stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};

describe('openai', () => {
  test('a completion has the shape of OpenAI and the text of lm.chat', async () => {
    const expected = await lm.chat(plain, { maxTokens: 20 }).result;
    const completion = await client.chat.completions.create({
      model: 'my-model',
      messages,
      max_tokens: 20,
    });
    const { id, created, system_fingerprint: fingerprint, choices, usage, ...rest } = completion;
    assert.deepEqual(rest, { model: lm.info.name, object: 'chat.completion' });
    assert.match(id, /^chatcmpl-[0-9a-z]{20,}$/);
    assert.ok(Math.abs(created - Date.now() / 1000) < 60 && Number.isInteger(created));
    assert.equal(fingerprint, `exitlm-${lm.info.version}`);
    assert.equal(choices.length, 1);
    const [
      {
        message: { exit, ...message },
        ...choice
      },
    ] = choices;
    assert.deepEqual(message, { role: 'assistant', content: expected.text, refusal: null });
    assert.deepEqual(choice, { index: 0, finish_reason: 'length', logprobs: null });
    assert.equal(usage.prompt_tokens, expected.usage.promptTokens);
    assert.equal(usage.completion_tokens, 20);
    assert.equal(usage.total_tokens, usage.prompt_tokens + 20);
    assert.ok(
      usage.prompt_tokens_details.cached_tokens > 0,
      'the second time the prompt is there already',
    );
    assert.equal(exit.mode, 'exit');
    assert.equal(exit.tokens.length, 20);
    assert.ok(exit.meanDepth < 1 && exit.meanDepth > 0);
    assert.equal(
      Object.values(exit.exits).reduce((a, b) => a + b, 0),
      20,
    );
  });

  test('a stream: role first, the exit of each token, the finish, the usage', async () => {
    const whole = await client.chat.completions.create({ messages, max_completion_tokens: 20 });
    const stream = await client.chat.completions.create({
      messages,
      max_completion_tokens: 20,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await collect(stream);
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    for (const chunk of chunks)
      assert.deepEqual([chunk.object, chunk.model], ['chat.completion.chunk', lm.info.name]);
    assert.deepEqual(chunks[0].choices, [
      { index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null, logprobs: null },
    ]);
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, 20);
    const finish = chunks.pop();
    assert.deepEqual(finish.choices, [
      { index: 0, delta: {}, finish_reason: 'length', logprobs: null },
    ]);
    assert.ok(chunks.every(({ usage }) => usage === null));
    const tokens = chunks.slice(1).map(({ choices }) => choices[0].delta);
    assert.equal(tokens.map(({ content }) => content).join(''), whole.choices[0].message.content);
    assert.deepEqual(
      tokens.map(({ exit }) => exit.head),
      whole.choices[0].message.exit.tokens.map(({ head }) => head),
    );
    for (const { exit } of tokens) {
      assert.deepEqual(Object.keys(exit), ['layer', 'of', 'depth', 'work', 'head', 'confidence']);
      assert.equal(exit.of, 6);
      assert.equal(exit.depth, exit.layer / 6);
    }
    assert.ok(tokens.some(({ exit }) => exit.layer < 6));
  });

  test('without include_usage chunks carry no usage', async () => {
    const chunks = await collect(
      await client.chat.completions.create({ messages, max_tokens: 3, stream: true }),
    );
    assert.ok(chunks.every((chunk) => !('usage' in chunk) && chunk.choices.length === 1));
  });

  test('mode, seed, stop and null values are understood', async () => {
    const full = await client.chat.completions.create({
      messages,
      max_tokens: 30,
      mode: 'full',
      temperature: null,
      stop: null,
      tools: [],
      n: 1,
      user: 'me',
    });
    assert.deepEqual(
      full.choices[0].message.exit.tokens.map(({ depth }) => depth),
      Array(30).fill(1),
    );
    const text = full.choices[0].message.content;
    const stop = text.slice(8, 11);
    const stopped = await client.chat.completions.create({
      messages,
      max_tokens: 30,
      mode: 'full',
      stop: [stop],
    });
    assert.equal(stopped.choices[0].finish_reason, 'stop');
    assert.equal(stopped.choices[0].message.content, text.slice(0, text.indexOf(stop)));
    const sampled = (/** @type {number} */ seed) =>
      client.chat.completions
        .create({ messages, max_tokens: 12, temperature: 1, top_p: 0.9, seed })
        .then((c) => c.choices[0].message.content);
    const [a, b, c] = [await sampled(1), await sampled(1), await sampled(2)];
    assert.equal(a, b);
    assert.notEqual(a, c);
  });

  test('response_format: JSON, and JSON of a schema', async () => {
    const schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] };
    const answer = async (/** @type {any} */ response_format) => {
      const parameters = { messages, response_format, max_tokens: 100, seed: 2 };
      return (await client.chat.completions.create(parameters)).choices[0];
    };
    const { message, finish_reason } = await answer({
      type: 'json_schema',
      json_schema: { name: 'x', strict: true, schema },
    });
    assert.equal(finish_reason, 'stop');
    assert.match(message.content, /^\{"ok": (true|false)\}$/);
    assert.equal(message.exit.mode, 'lossless', 'what is shaped is the full model');
    assert.match((await answer({ type: 'json_object' })).message.content, /^[[{"\d\-tfn]/);
  });

  test('log-probabilities, whole and in chunks', async () => {
    const parameters = { messages, max_tokens: 8, logprobs: true, top_logprobs: 3, mode: 'full' };
    const { choices } = await client.chat.completions.create(parameters);
    const { content, refusal } = choices[0].logprobs;
    assert.equal(refusal, null);
    assert.equal(content.length, 8);
    for (const { token, logprob, bytes, top_logprobs: top } of content) {
      assert.ok(logprob <= 0 && top.length === 3);
      assert.deepEqual(Object.keys(top[0]), ['token', 'logprob', 'bytes']);
      assert.equal(top[0].logprob, logprob);
      if (!token.includes('\ufffd')) assert.deepEqual(bytes, [...Buffer.from(token)]);
    }
    const chunks = await collect(
      await client.chat.completions.create({ ...parameters, stream: true }),
    );
    assert.deepEqual(
      chunks.flatMap((chunk) => chunk.choices[0].logprobs?.content ?? []),
      content,
    );
    const alone = await client.chat.completions.create({ ...parameters, top_logprobs: undefined });
    assert.deepEqual(
      alone.choices[0].logprobs.content.map((t) => [t.logprob, t.top_logprobs]),
      content.map((t) => [t.logprob, []]),
    );
  });

  test('tools: calls, whole and in chunks, and answers to them', async () => {
    const asked = client.chat.completions;
    const parameters = /** @type {any} */ ({
      messages,
      tools: [weather],
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
      max_tokens: 100,
    });
    const { choices } = await asked.create(parameters);
    const { content, tool_calls: calls } = choices[0].message;
    assert.deepEqual([content, choices[0].finish_reason], [null, 'tool_calls']);
    assert.deepEqual(
      calls.map(({ type, function: { name } }) => [type, name]),
      [['function', 'get_weather']],
    );
    assert.match(JSON.parse(calls[0].function.arguments).city, /^(Oslo|Rome)$/);
    const chunks = await collect(await asked.create({ ...parameters, stream: true }));
    const deltas = chunks.map((chunk) => chunk.choices[0].delta);
    assert.equal(deltas.map((d) => d.content ?? '').join(''), '');
    const [streamed] = deltas.flatMap((d) => d.tool_calls ?? []);
    assert.deepEqual([streamed.index, streamed.function], [0, calls[0].function]);
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'tool_calls');
    const answered = await asked.create({
      messages: [
        ...messages,
        { role: 'assistant', content: null, tool_calls: calls },
        { role: 'tool', tool_call_id: calls[0].id, content: '12 degrees' },
      ],
      tools: [weather],
      max_tokens: 4,
    });
    assert.equal(answered.usage.completion_tokens, 4);
    const none = await asked.create({ ...parameters, tool_choice: 'none', max_tokens: 4 });
    assert.equal(none.choices[0].finish_reason, 'length');
  });

  test('what is not supported is refused by name', async () => {
    const cases = /** @type {[any, RegExp][]} */ ([
      [{ tools: [{ type: 'function', function: { name: 'a b' } }] }, /tools: number 1: its name/],
      [{ tools: [weather], tool_choice: 'clock' }, /toolChoice: "clock" is none of the tools/],
      [{ tool_choice: 'required' }, /toolChoice: there are no tools/],
      [{ top_logprobs: 2 }, /top_logprobs: needs logprobs/],
      [{ logprobs: true, top_logprobs: 21 }, /logprobs: an integer from 0 to 20/],
      [{ n: 9 }, /n: an integer from 1 to 8/],
      [{ response_format: { type: 'grammar' } }, /response_format: its type is/],
      [{ response_format: { type: 'json_schema' } }, /response_format: its type is/],
      [{ logit_bias: { 5: 1 } }, /logit_bias: not supported/],
      [{ web_search_options: {} }, /web_search_options: not supported/],
      [{ modalities: ['text', 'audio'] }, /modalities: not supported/],
      [{ max_tokens: 0 }, /maxTokens/],
      [{ temperature: -1 }, /temperature/],
    ]);
    for (const [parameters, message] of cases)
      await assert.rejects(
        client.chat.completions.create({ messages, ...parameters }),
        refused(message),
        JSON.stringify(parameters),
      );
    await assert.rejects(
      client.chat.completions.create(/** @type {any} */ ({})),
      refused(/messages/),
    );
    const broken = { id: '1', type: 'function', function: { name: 'f', arguments: '{' } };
    await assert.rejects(
      client.chat.completions.create({ messages: [{ role: 'assistant', tool_calls: [broken] }] }),
      refused(/tool_calls\[0\]\.function\.arguments: JSON/),
    );
    await assert.rejects(
      client.chat.completions.create({ messages: [{ role: 'robot', content: 'x' }] }),
      refused(/role.*robot/),
    );
    await assert.rejects(
      client.chat.completions.create({
        messages: [{ role: 'user', content: [{ type: 'image_url' }] }],
      }),
      refused(/text only/),
    );
    assert.equal(
      (await client.chat.completions.create({ messages, max_tokens: 2 })).usage.completion_tokens,
      2,
      'and it goes on working',
    );
  });

  test('what is not known is ignored, and a header says so', async () => {
    const warningOf = async (/** @type {any} */ more, { stream = false } = {}) => {
      const asked = { messages, max_tokens: 2, stream, ...more };
      const { response } = await client.chat.completions.create(asked).withResponse();
      await response.body?.cancel().catch(() => {});
      return response.headers.get('x-exitlm-warning');
    };
    assert.equal(await warningOf({ presence_penalty: 0, n: 1, user: 'me' }), null);
    const asked = { presence_penalty: 0.5, max_token: 5, ['a\nb']: 1 };
    for (const stream of [false, true])
      assert.equal(
        await warningOf(asked, { stream }),
        'ignored parameters: presence_penalty, max_token, a?b',
      );
    const { response } = await client.responses
      .create({ input: 'x', max_output_tokens: 2, moderation: 'low' })
      .withResponse();
    assert.equal(response.headers.get('x-exitlm-warning'), 'ignored parameters: moderation');
    for (const parameter of ['conversation', 'prompt'])
      await assert.rejects(
        client.responses.create({ input: 'x', [parameter]: { id: 'x' } }),
        refused(/not supported/),
      );
  });

  test('several choices: each its own, together one usage', async () => {
    const asked = { messages, max_tokens: 6, n: 3, temperature: 1, seed: 5 };
    const { choices, usage } = await client.chat.completions.create(asked);
    const alone = await client.chat.completions.create({ ...asked, n: 1, seed: 7 });
    assert.deepEqual(
      choices.map((/** @type {any} */ c) => c.index),
      [0, 1, 2],
    );
    assert.equal(choices[2].message.content, alone.choices[0].message.content);
    assert.notEqual(choices[0].message.content, choices[1].message.content);
    assert.deepEqual(
      [usage.prompt_tokens, usage.completion_tokens],
      [alone.usage.prompt_tokens, 18],
    );
    const streamed = await client.chat.completions.stream({ ...asked }).finalChatCompletion();
    assert.deepEqual(
      streamed.choices.map((/** @type {any} */ c) => c.message.content),
      choices.map((/** @type {any} */ c) => c.message.content),
    );
  });

  test("a server's refusals are the client's errors", async () => {
    const asked = /** @type {any} */ ({ model: 'x', messages });
    const kinds = /** @type {[any, any][]} */ ([
      [{ maxPerClient: 0 }, OpenAI.RateLimitError],
      [{ token: 'word' }, OpenAI.AuthenticationError],
      [{ cors: false }, OpenAI.PermissionDeniedError],
      [{ model: 'y' }, OpenAI.NotFoundError],
      [
        { load: () => Promise.reject(new Error('gone')), onError: () => {} },
        OpenAI.InternalServerError,
      ],
    ]);
    for (const [options, kind] of kinds) {
      const answer = createHandler({ model: 'x', load: () => lm, ...options });
      const one = new OpenAI({
        baseURL: 'http://exitlm/v1',
        apiKey: 'none',
        maxRetries: 0,
        defaultHeaders: { origin: 'http://other.example' },
        fetch: (input, init) => answer(new Request(input, /** @type {any} */ (init))),
      });
      await assert.rejects(one.chat.completions.create(asked), (error) => error instanceof kind);
    }
  });

  test('break, controller.abort() and a signal stop the work', async () => {
    const long = { messages, max_tokens: 1900, stream: /** @type {const} */ (true) };
    for await (const chunk of await client.chat.completions.create(long))
      if (chunk.choices[0].delta.content) break;
    const stream = await client.chat.completions.create(long);
    let n = 0;
    for await (const _ of stream) if (++n === 5) stream.controller.abort();
    assert.ok(n < 1900); // what had come already is read
    const abort = new AbortController();
    for await (const _ of await client.chat.completions.create(long, { signal: abort.signal }))
      abort.abort();
    await assert.rejects(
      client.chat.completions.create({ messages }, { signal: AbortSignal.abort() }),
      OpenAI.APIUserAbortError,
    );
    assert.equal(
      (await client.chat.completions.create({ messages, max_tokens: 2 })).usage.completion_tokens,
      2,
    );
  });
});
