// The HTTP service that embeds Wasmtime (web/edge/wasmtime/serve.py): the native program's answers,
// streamed and whole; refusals; clients that go away; more questions than instances.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { program, root } from '../js/support/cli.mjs';
import { tinyHeads, tinyPath } from '../js/support/tiny-model.mjs';
import { runtimes } from './support/runtimes.mjs';
import { ask, askBare, chunksOf } from './support/worker.mjs';

const { python, pythonPath } = runtimes();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-serve-'));
const options = ['--max-tokens', '12', '--mode', 'exit', '--accuracy', '0.9'];
const body = (/** @type {object} */ more = {}) => ({
  messages: [{ role: 'user', content: 'Hi, how\nare you?' }],
  ...more,
});
/** @type {import('node:child_process').ChildProcess} */
let server;
let url = '';
/** @type {any[]} */
let expected;

before(async () => {
  fs.copyFileSync(tinyPath, path.join(folder, 'tiny.gguf'));
  fs.writeFileSync(path.join(folder, 'tiny.exits.gguf'), await tinyHeads());
  const out = execFileSync(
    program,
    ['chat', 'tiny.gguf', '-p', '-', '--json', '--threads', '1', ...options],
    { cwd: folder, input: 'Hi, how\nare you?', encoding: 'utf8' },
  );
  expected = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'token');
  server = spawn(
    python,
    [
      path.join(root, 'web/edge/wasmtime/serve.py'),
      path.join(folder, 'tiny.gguf'),
      '--module',
      path.join(root, 'build/exitlm.wasm'),
      '--pool',
      '2',
      '--port',
      '0',
      '--',
      ...options,
    ],
    { env: { ...process.env, PYTHONPATH: pythonPath }, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  url = await new Promise((resolve, reject) => {
    server.stdout?.once('data', (data) => resolve(new URL(String(data)).origin));
    server.once('exit', (code) => reject(new Error(`serve.py ended with ${code}`)));
  });
});
after(() => {
  server?.kill();
  fs.rmSync(folder, { recursive: true, force: true });
});

const text = () => expected.map((t) => t.text).join('');
const layers = () => expected.map((t) => t.layer);

test('whole', async () => {
  const completion = await (await ask(url, body({ model: 'tiny' }))).json();
  const [{ message, finish_reason: finish }] = completion.choices;
  assert.equal(message.content, text());
  assert.deepEqual(
    message.exit.tokens.map((/** @type {any} */ t) => t.layer),
    layers(),
  );
  assert.ok(
    layers().some((layer) => layer < 6),
    'some left early',
  );
  assert.equal(finish, 'length');
  assert.equal(completion.usage.completion_tokens, 12);
});
test('streamed', async () => {
  const response = await ask(url, body({ stream: true }));
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
  const data = [];
  for await (const chunk of chunksOf(response)) data.push(chunk);
  assert.equal(data.pop(), '[DONE]');
  const deltas = data.map((d) => JSON.parse(d).choices[0].delta).filter((d) => d.exit);
  assert.equal(deltas.map((d) => d.content).join(''), text());
  assert.deepEqual(
    deltas.map((d) => d.exit.layer),
    layers(),
  );
});
test('what is refused', async () => {
  assert.deepEqual(
    (await (await fetch(`${url}/v1/models`)).json()).data.map((/** @type {any} */ m) => m.id),
    ['tiny'],
  );
  for (const [sent, status, code] of /** @type {[any, number, string][]} */ ([
    ['{"messages":', 400, 'invalid_json'],
    [{}, 400, 'invalid_value'],
    [body({ model: 'gpt' }), 404, 'model_not_found'],
    [body({ temperature: 1 }), 400, 'unknown_parameter'],
    [{ messages: [{ role: 'user', content: 'x'.repeat(70_000) }] }, 413, 'request_too_large'],
    [{ messages: [{ role: 'user', content: 'one two three '.repeat(1000) }] }, 400, 'failed'],
  ])) {
    const response = await ask(url, sent);
    assert.deepEqual([response.status, (await response.json()).error.code], [status, code]);
  }
});
test('a page of another site has nothing computed', async () => {
  for (const [headers, status] of /** @type {[Record<string, string>, number][]} */ ([
    [{ 'content-type': 'text/plain' }, 415],
    [{ origin: 'https://other.example' }, 403],
    [{ origin: url }, 200],
  ]))
    assert.equal((await ask(url, body(), { headers })).status, status);
  const named = (/** @type {string} */ host) =>
    new Promise((resolve, reject) => {
      const headers = { host, 'content-type': 'application/json', 'content-length': 0 };
      http
        .request(`${url}/v1/chat/completions`, { method: 'POST', headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
        .on('error', reject)
        .end();
    });
  assert.equal(await named('other.example'), 403, 'a name that was led to this machine');
  assert.equal(await named('localhost:1'), 400);
});

test('more questions than instances, and clients that go away', async () => {
  for (let i = 0; i < 4; i++) {
    const one = await askBare(url, body({ stream: true }));
    if (i % 2) await one.begun;
    one.cut();
  }
  const answers = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const response = await ask(url, body());
      return {
        status: response.status,
        retry: response.headers.get('retry-after'),
        body: await response.json(),
      };
    }),
  );
  for (const { status, retry, body: said } of answers) {
    if (status === 200) assert.equal(said.choices[0].message.content, text());
    else assert.ok(status === 503 && Number(retry) >= 1);
  }
  assert.ok(answers.filter(({ status }) => status === 200).length >= 2);
  assert.equal((await (await ask(url, body())).json()).choices[0].message.content, text());
});
