// The component for `wasmtime serve` (web/edge/wasmtime/component): its answers are the native
// program's, with the model inside and with the model in a folder; refusals; clients that go away;
// many at once, each with an instance of its own.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildService } from '../../web/edge/wasmtime/component/build.mjs';
import { program } from '../js/support/cli.mjs';
import { tinyHeads, tinyPath } from '../js/support/tiny-model.mjs';
import { componentTools } from './support/component-tools.mjs';
import { runtimes } from './support/runtimes.mjs';
import { ask, askBare, chunksOf, freePort } from './support/worker.mjs';

const { wasmtime } = runtimes();
/** @type {{ wasmTools: string, adapter: string } | undefined} */
let tools;
let skip = '';
try {
  tools = componentTools();
} catch (error) {
  if (process.env.CI) throw error;
  skip = `wasm-tools cannot be installed here: ${/** @type {Error} */ (error).message}`;
}
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-component-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const question = 'Hi, how\nare you?';
const body = (/** @type {object} */ more = {}) => ({
  messages: [{ role: 'user', content: question }],
  max_tokens: 12,
  accuracy: 0.9,
  ...more,
});

async function serve(/** @type {string} */ component, /** @type {string[]} */ options = []) {
  const url = `http://127.0.0.1:${await freePort()}`;
  const child = spawn(
    wasmtime,
    ['serve', '-S', 'cli', '--addr', url.slice(7), ...options, component],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.on('data', (data) => {
    said += data;
  });
  for (let i = 0; i < 600; i++) {
    if (child.exitCode !== null) break;
    if ((await fetch(`${url}/v1/models`).catch(() => null))?.ok)
      return { url, stop: () => child.kill() };
    await new Promise((resolve) => {
      setTimeout(resolve, 200);
    });
  }
  child.kill();
  throw new Error(`wasmtime serve did not start: ${said}`);
}

for (const inside of [true, false]) {
  describe(
    inside ? 'a component with the model inside' : 'a component that reads the model from a folder',
    { skip: skip || false },
    () => {
      /** @type {Awaited<ReturnType<typeof serve>>} */
      let server;
      /** @type {any[]} */
      let expected;
      const text = () => expected.map((t) => t.text).join('');

      before(async () => {
        const model = path.join(folder, 'tiny.gguf');
        fs.copyFileSync(tinyPath, model);
        fs.writeFileSync(path.join(folder, 'tiny.exits.gguf'), await tinyHeads());
        const out = execFileSync(
          program,
          [
            'chat',
            model,
            '-p',
            '-',
            '--json',
            '--kv-type',
            'q8',
            '--max-tokens',
            '12',
            '--mode',
            'exit',
            '--accuracy',
            '0.9',
          ],
          { input: question, encoding: 'utf8' },
        );
        expected = out
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
          .filter(({ type }) => type === 'token');
        const component = path.join(folder, `service-${inside}.wasm`);
        await buildService({
          out: component,
          model: inside ? model : undefined,
          wasmtime,
          ...tools,
        });
        server = await serve(
          component,
          inside ? [] : ['--dir', `${folder}::models`, '--env', 'EXITLM_MODEL=models/tiny.gguf'],
        );
      });
      after(() => server?.stop());

      test('whole', async () => {
        const completion = await (await ask(server.url, body({ model: 'tiny' }))).json();
        const [{ message, finish_reason: finish }] = completion.choices;
        assert.equal(message.content, text());
        assert.deepEqual(
          message.exit.tokens.map((/** @type {any} */ t) => t.layer),
          expected.map((t) => t.layer),
        );
        assert.ok(
          expected.some((t) => t.layer < 6),
          'some left early',
        );
        assert.equal(finish, 'length');
        assert.equal(completion.usage.completion_tokens, 12);
      });

      test('streamed, and as often as it is asked', async () => {
        for (let i = 0; i < 3; i++) {
          const response = await ask(server.url, body({ stream: true }));
          assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
          const data = [];
          for await (const chunk of chunksOf(response)) data.push(chunk);
          assert.equal(data.pop(), '[DONE]');
          const deltas = data.map((d) => JSON.parse(d).choices[0].delta).filter((d) => d.exit);
          assert.equal(deltas.map((d) => d.content).join(''), text());
          assert.deepEqual(
            deltas.map((d) => d.exit.layer),
            expected.map((t) => t.layer),
          );
        }
      });

      test('conversations, modes, seeds', async () => {
        const messages = [
          { role: 'system', content: 'Be short.' },
          { role: 'user', content: 'One' },
          { role: 'assistant', content: 'Two' },
          { role: 'user', content: 'Three' },
        ];
        const say = async (/** @type {object} */ more) =>
          (await (await ask(server.url, { messages, max_tokens: 8, ...more })).json()).choices[0]
            .message.content;
        assert.equal(await say({ mode: 'full' }), await say({ mode: 'lossless' }));
        const drawn = { mode: 'full', temperature: 1, seed: 5 };
        assert.equal(await say(drawn), await say({ ...drawn, mode: 'lossless' }));
        assert.notEqual(await say(drawn), await say({ ...drawn, seed: 6 }));
      });

      test('what is refused', async () => {
        const { data } = await (await fetch(`${server.url}/v1/models`)).json();
        assert.deepEqual(
          data.map((/** @type {any} */ m) => m.id),
          ['tiny'],
        );
        for (const [sent, status, code] of /** @type {[any, number, string][]} */ ([
          ['{"messages":', 400, 'invalid_json'],
          ['', 400, 'invalid_json'],
          [{}, 400, 'invalid_value'],
          [{ messages: [] }, 400, 'invalid_value'],
          [{ messages: [{ role: 'tool', content: 'x' }] }, 400, 'invalid_value'],
          [{ messages: [{ role: 'user', content: 7 }] }, 400, 'invalid_value'],
          [body({ max_tokens: 0 }), 400, 'invalid_value'],
          [body({ max_tokens: 1e9 }), 400, 'invalid_value'],
          [body({ seed: -1 }), 400, 'invalid_value'],
          [body({ mode: 'fast' }), 400, 'invalid_value'],
          [body({ temperature: -3 }), 400, 'invalid_value'],
          [body({ accuracy: 7 }), 400, 'invalid_value'],
          [body({ model: 'gpt' }), 404, 'model_not_found'],
          [{ messages: [{ role: 'user', content: 'x'.repeat(70_000) }] }, 413, 'request_too_large'],
          [
            { messages: [{ role: 'user', content: 'one two three '.repeat(1000) }] },
            400,
            'context_length_exceeded',
          ],
        ])) {
          const response = await ask(server.url, sent);
          assert.deepEqual(
            [response.status, (await response.json()).error.code],
            [status, code],
            JSON.stringify(sent).slice(0, 80),
          );
        }
        assert.equal((await fetch(`${server.url}/v1/chat/completions`)).status, 405);
        assert.equal((await fetch(`${server.url}/v1/models`, { method: 'PATCH' })).status, 405);
        assert.equal((await fetch(`${server.url}/elsewhere?x=/v1/models`)).status, 404);
      });

      test('clients that go away, and many at once', async () => {
        for (let i = 0; i < 4; i++) {
          const one = await askBare(server.url, body({ stream: true }));
          if (i % 2) await one.begun;
          one.cut();
        }
        const answers = await Promise.all(
          Array.from(
            { length: 16 },
            async () => (await (await ask(server.url, body())).json()).choices[0].message.content,
          ),
        );
        assert.deepEqual([...new Set(answers)], [text()]);
      });
    },
  );
}
