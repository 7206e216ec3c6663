// OpenAI's own clients, the real ones: of npm in front of a model in the same program (openaiFetch)
// and of `npx exitlm serve`; of PyPI in front of the latter.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { openaiFetch } from '../../web/src/openai.js';
import { close, listen, serverOf } from '../../web/src/serve/node.js';
import { installOnce, nameOf } from '../install-once.mjs';
import { scratch } from './support/cli.mjs';
import { loadRoomy, roomyBytes, tinyHeads } from './support/tiny-model.mjs';

const messages = /** @type {const} */ ([{ role: 'user', content: 'Hello there' }]);
const collect = async (/** @type {AsyncIterable<any>} */ stream) => {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
};

/** @param {string[]} args @param {Record<string, string>} [env] */
async function serve(args, env = {}) {
  const child = spawn(process.execPath, ['web/src/cli.mjs', 'serve', ...args], {
    env: { ...process.env, ...env },
  });
  let said = '';
  child.stderr.on('data', (data) => {
    said += data;
  });
  const ended = new Promise((/** @type {(status: number | null) => void} */ resolve) => {
    child.once('exit', resolve);
  });
  const line = await new Promise((resolve) => {
    child.stdout.once('data', (data) => resolve(String(data)));
    ended.then(() => resolve(''));
  });
  const [, url = '', key = ''] = /^OPENAI_BASE_URL=(\S+) OPENAI_API_KEY=(\S+)\n$/.exec(line) ?? [];
  const stop = async () => {
    child.kill('SIGTERM');
    return ended;
  };
  return { url, key, stop, ended, said: () => said };
}

const lm = await loadRoomy();
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
let model = '';
before(async () => {
  model = scratch('tiny.gguf', roomyBytes);
  scratch('tiny.exits.gguf', await tinyHeads(undefined, roomyBytes));
  server = await serve([model, '--port', '0']);
});
after(async () => {
  await lm.dispose();
  await server.stop();
});

for (const [where, connect] of /** @type {[string, () => OpenAI][]} */ ([
  [
    'openaiFetch',
    () => new OpenAI({ baseURL: 'http://exitlm/v1', apiKey: 'none', fetch: openaiFetch(lm) }),
  ],
  ['npx exitlm serve', () => new OpenAI({ baseURL: server.url, apiKey: server.key })],
])) {
  describe(`openai of npm, ${where}`, () => {
    /** @type {OpenAI} */
    let client;
    let name = '';
    let expected = '';
    before(async () => {
      client = connect();
      expected = (await lm.chat([...messages], { maxTokens: 12 }).result).text;
    });

    test('models', async () => {
      const [{ id }] = (await client.models.list()).data;
      assert.equal((await client.models.retrieve(id)).id, id);
      name = id;
      await assert.rejects(client.models.retrieve('none'), OpenAI.NotFoundError);
    });
    test('a chat completion, whole, streamed, and by the helper', async () => {
      const asked = { model: name, messages: [...messages], max_tokens: 12 };
      const whole = await client.chat.completions.create(asked);
      assert.equal(whole.choices[0].message.content, expected);
      assert.equal(whole.choices[0].finish_reason, 'length');
      assert.equal(whole.usage?.completion_tokens, 12);
      const chunks = await collect(
        await client.chat.completions.create({ ...asked, stream: true }),
      );
      assert.equal(chunks.map((c) => c.choices[0].delta.content ?? '').join(''), expected);
      assert.equal(chunks.filter((c) => c.choices[0].delta.exit?.depth <= 1).length, 12);
      const helper = client.chat.completions.stream(asked);
      assert.equal(await helper.finalContent(), expected);
    });
    test('JSON of a schema, parsed by the client', async () => {
      const completion = await client.chat.completions.parse({
        model: name,
        messages: [...messages],
        max_tokens: 40,
        response_format: {
          type: 'json_schema',
          json_schema: {
            name: 'answer',
            schema: {
              type: 'object',
              properties: { yes: { type: 'boolean' } },
              required: ['yes'],
              additionalProperties: false,
            },
          },
        },
      });
      assert.equal(typeof JSON.parse(completion.choices[0].message.content ?? '').yes, 'boolean');
    });
    test('a completion continues a text as it stands', async () => {
      const { text } = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
      const asked = { model: name, prompt: 'Once upon a time', max_tokens: 12 };
      const whole = await client.completions.create(asked);
      assert.equal(whole.choices[0].text, text);
      const chunks = await collect(await client.completions.create({ ...asked, stream: true }));
      assert.equal(chunks.map((c) => c.choices[0].text).join(''), text);
      assert.equal(chunks.at(-1)?.choices[0].finish_reason, 'length');
    });
    test('log-probabilities of a completion, whole and streamed', async () => {
      /** @type {import('exitlm').Token[]} */
      const tokens = [];
      for await (const token of lm.complete('Once upon a time', { maxTokens: 12, logprobs: 2 }))
        tokens.push(token);
      const said = {
        tokens: tokens.map(({ text }) => text),
        token_logprobs: tokens.map(({ logprob }) => logprob),
        top_logprobs: tokens.map(({ top = [] }) =>
          Object.fromEntries([...top].reverse().map(({ text, logprob }) => [text, logprob])),
        ),
        text_offset: tokens.map(
          (_, i) =>
            [
              ...tokens
                .slice(0, i)
                .map(({ text }) => text)
                .join(''),
            ].length,
        ),
      };
      const asked = { model: name, prompt: 'Once upon a time', max_tokens: 12, logprobs: 2 };
      const whole = await client.completions.create(asked);
      assert.deepEqual(whole.choices[0].logprobs, said);
      const chunks = await collect(await client.completions.create({ ...asked, stream: true }));
      for (const key of /** @type {(keyof typeof said)[]} */ (Object.keys(said)))
        assert.deepEqual(
          chunks.flatMap((c) => c.choices[0].logprobs?.[key] ?? []),
          said[key],
          key,
        );
      assert.equal(
        (await client.completions.create({ ...asked, logprobs: null })).choices[0].logprobs,
        null,
      );
    });
    test('a response, whole, streamed, and by the helper', async () => {
      const asked = { model: name, input: 'Hello there', max_output_tokens: 12 };
      const whole = await client.responses.create(asked);
      assert.equal(whole.output_text, expected);
      assert.equal(whole.status, 'incomplete');
      assert.deepEqual(whole.incomplete_details, { reason: 'max_output_tokens' });
      assert.equal(whole.usage?.output_tokens, 12);
      const events = await collect(await client.responses.create({ ...asked, stream: true }));
      assert.deepEqual(
        events.map((event) => event.sequence_number),
        events.map((_, i) => i),
      );
      const text = events.flatMap((e) => (e.type === 'response.output_text.delta' ? e.delta : []));
      assert.equal(text.join(''), expected);
      assert.equal(events.at(-1).type, 'response.incomplete');
      const final = await client.responses.stream(asked).finalResponse();
      assert.equal(final.output_text, expected);
    });
    test('a response goes on with items and instructions, as messages do', async () => {
      const system = { role: 'system', content: 'Be brief.' };
      const said = { role: 'assistant', content: 'Hi.' };
      const { text } = await lm.chat([system, ...messages, said, ...messages], { maxTokens: 8 })
        .result;
      const response = await client.responses.create({
        model: name,
        instructions: system.content,
        input: [
          { role: 'user', content: [{ type: 'input_text', text: 'Hello there' }] },
          {
            type: 'message',
            id: 'msg_1',
            status: 'completed',
            role: 'assistant',
            content: [{ type: 'output_text', text: 'Hi.', annotations: [] }],
          },
          { role: 'user', content: 'Hello there' },
        ],
        max_output_tokens: 8,
      });
      assert.equal(response.output_text, text);
      const stored = client.responses.create({
        model: name,
        input: 'x',
        previous_response_id: 'resp_1',
      });
      await assert.rejects(stored, /previous_response_id.*nothing is stored/);
    });
    test('what is wrong is an error of the client', async () => {
      const wrong = { model: name, messages: [...messages], temperature: 1000 };
      await assert.rejects(client.chat.completions.create(wrong), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.equal(error.param, 'temperature');
        return true;
      });
    });
    test('an abort stops the work', async () => {
      const controller = new AbortController();
      const stream = await client.chat.completions.create(
        { model: name, messages: [...messages], max_tokens: 1900, stream: true },
        { signal: controller.signal },
      );
      let seen = 0;
      for await (const _ of stream) if (++seen === 4) controller.abort();
      assert.ok(seen < 1900);
      const next = { model: name, messages: [...messages], max_tokens: 2 };
      assert.equal((await client.chat.completions.create(next)).usage?.completion_tokens, 2);
    });
  });
}

test('openaiFetch: a name that was given is the only one', async () => {
  const fetch = openaiFetch(Promise.resolve(lm), { model: 'mine' });
  const client = new OpenAI({ baseURL: 'http://exitlm/v1', apiKey: 'none', fetch });
  const ask = (/** @type {string} */ name) =>
    client.chat.completions.create({ model: name, messages: [...messages], max_tokens: 1 });
  assert.equal((await ask('mine')).model, 'mine');
  await assert.rejects(ask('other'), OpenAI.NotFoundError);
  assert.throws(() => openaiFetch(/** @type {any} */ ({})), /an ExitLM was expected/);
});

describe('npx exitlm serve', () => {
  const statusOf = (/** @type {string} */ at, /** @type {Record<string, string>} */ headers) =>
    new Promise((resolve, reject) => {
      http
        .get(new URL(at, server.url), { headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
        .on('error', reject);
    });

  test('says which kernel it runs', () => {
    assert.match(server.said(), /kernel (simd128|relaxed)/);
    if (/kernel simd128/.test(server.said())) assert.match(server.said(), /relaxed SIMD/);
  });
  test('health, metrics', async () => {
    const health = await (await fetch(new URL('/health', server.url))).json();
    assert.deepEqual([health.status, health.model], ['ready', 'tiny']);
    assert.deepEqual(await (await fetch(new URL('/ready', server.url))).json(), {
      ready: true,
      full: false,
    });
    const text = await (await fetch(new URL('/metrics', server.url))).text();
    assert.match(text, /^# TYPE exitlm_completion_tokens_total counter\n/m);
    assert.ok(Number(/^exitlm_completion_tokens_total (\d+)$/m.exec(text)?.[1]) > 12);
    const value = (/** @type {string} */ name) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')[1],
      );
    const asked = (/** @type {string} */ of) => value(`exitlm_http_requests_total{path=${of}}`);
    assert.ok(asked('"/v1/chat/completions",status="200",code=""') > 3);
    assert.ok(asked('"other",status="404",code="model_not_found"') > 0);
    assert.ok(value('exitlm_answers_total{reason="abort"}') > 0);
    assert.ok(value('exitlm_time_to_first_token_seconds_count') > 3);
    assert.ok(value('exitlm_answer_tokens_per_second_sum') > 0);
    assert.ok(value('exitlm_memory_bytes') > 1e5 && value('process_cpu_seconds_total') > 0);
    assert.deepEqual(
      ['ready', 'sessions_in_use', 'queue_length', 'engine_starts_total'].map((name) =>
        value(`exitlm_${name}`),
      ),
      [1, 0, 0, 1],
    );
  });
  test('what it ignores in requests is said once', async () => {
    for (let i = 0; i < 2; i++) {
      const body = { model: 'tiny', messages, max_tokens: 1, moderation: 'low' };
      const headers = { 'content-type': 'application/json' };
      const init = { method: 'POST', headers, body: JSON.stringify(body) };
      const answered = await fetch(`${server.url}/chat/completions`, init);
      assert.equal(answered.status, 200);
      await answered.text();
    }
    assert.equal(server.said().split('ignored parameters: moderation\n').length, 2);
  });
  test("another's name for this machine, and a page of another's, get nothing", async () => {
    assert.equal(await statusOf('/v1/models', {}), 200);
    assert.equal(await statusOf('/v1/models', { Host: 'localhost:1' }), 200);
    assert.equal(await statusOf('/v1/models', { Host: 'evil.example' }), 403);
    assert.equal(await statusOf('/v1/models', { Origin: 'https://evil.example' }), 403);
  });
  test('a token, and where it is needed', async () => {
    const open = await serve([model, '--port', '0', '--host', '0.0.0.0']);
    assert.equal(await open.ended, 2);
    assert.match(open.said(), /^exitlm: serve: --host 0.0.0.0: .*--token/);
    const closed = await serve([model, '--port', '0', '--host', '0.0.0.0', '--token', 'word']);
    const list = (/** @type {string} */ apiKey) =>
      new OpenAI({ baseURL: closed.url.replace('0.0.0.0', '127.0.0.1'), apiKey }).models.list();
    assert.equal(closed.key, 'word');
    assert.equal((await list('word')).data.length, 1);
    await assert.rejects(list('other'), OpenAI.AuthenticationError);
    assert.equal(await closed.stop(), 0);
  });
  test('a port that is taken, a model that is none', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => {
      taken.once('listening', resolve);
    });
    const { port } = /** @type {net.AddressInfo} */ (taken.address());
    const second = await serve([model, '--port', String(port)]);
    assert.equal(await second.ended, 1);
    assert.match(second.said(), /port \d+ is taken; --port N/);
    taken.close();
    const none = await serve(['none.gguf', '--port', '0']);
    assert.equal(await none.ended, 1);
    assert.match(none.said(), /^exitlm: none\.gguf: no such file/, 'and not that it is loading');
  });
  test('what is being answered ends first when it is stopped', async () => {
    const own = await serve([model, '--port', '0']);
    const client = new OpenAI({ baseURL: own.url, apiKey: own.key, maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model: 'tiny',
      messages: [...messages],
      max_tokens: 60,
      stream: true,
    });
    let seen = 0;
    let finish;
    for await (const { choices } of stream) {
      if (++seen === 2) own.stop();
      finish = choices[0].finish_reason ?? finish;
    }
    assert.equal(finish, 'length');
    assert.equal(await own.ended, 0);
  });
  test('a stopped server takes nothing over a connection that is kept', async () => {
    let end = () => {};
    const start = (/** @type {ReadableStreamDefaultController} */ to) => {
      to.enqueue(Buffer.from('a'));
      end = () => to.close();
    };
    const own = serverOf(async () => new Response(new ReadableStream({ start })), '127.0.0.1');
    const url = await listen(own, 0, '127.0.0.1');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const [first] = await once(http.get(url, { agent }), 'response');
    const closed = close(own, 60_000);
    end();
    await once(first.resume(), 'end');
    await assert.rejects(once(http.get(url, { agent }), 'response'));
    await closed;
  });
  test('who is not done when patience ends is cut off', async () => {
    const start = (/** @type {ReadableStreamDefaultController} */ to) =>
      to.enqueue(Buffer.from('a'));
    const endless = serverOf(async () => new Response(new ReadableStream({ start })), '127.0.0.1');
    const response = await fetch(await listen(endless, 0, '127.0.0.1'));
    await close(endless, 10);
    await assert.rejects(response.text());
  });
  test('a stop while the model loads', async () => {
    const silent = http.createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = /** @type {net.AddressInfo} */ (silent.address());
    const from = `http://127.0.0.1:${port}/model.gguf`;
    const child = spawn(process.execPath, ['web/src/cli.mjs', 'serve', from, '--port', '0']);
    await once(silent, 'request');
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    silent.close();
  });
});

const python = process.env.PYTHON ?? 'python3';
const pip = spawnSync(python, ['-m', 'pip', '--version']).status === 0;
describe('openai of PyPI', { skip: !pip && `${python} has no pip` }, () => {
  test('npx exitlm serve: chat completions, streams, completions, responses, models, errors', () => {
    const recipe = 'tests/js/support/clients/requirements.txt';
    const folder = installOnce(
      nameOf('clients', [recipe]),
      'the openai client of PyPI (20 MB, once)',
      (work) => fs.writeFileSync(path.join(work, 'package.json'), '{ "private": true }'),
      (work) => {
        const args = ['install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:'];
        const { status, stderr } = spawnSync(
          python,
          ['-m', 'pip', ...args, '--target', path.join(work, 'python'), '-r', recipe],
          { encoding: 'utf8' },
        );
        assert.equal(status, 0, stderr);
      },
    );
    const { status, stdout, stderr } = spawnSync(python, ['tests/js/support/clients/client.py'], {
      encoding: 'utf8',
      env: {
        ...process.env,
        PYTHONPATH: path.join(folder, 'python'),
        OPENAI_BASE_URL: server.url,
        OPENAI_API_KEY: server.key,
      },
    });
    assert.equal(status, 0, stdout + stderr);
    assert.equal(stdout, 'all right\n');
  });
});
