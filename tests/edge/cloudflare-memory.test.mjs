// The example Worker with the default model and its heads, as published and packed by `exitlm
// pack`: does it fit into an isolate's 128 MB? workerd at home does not enforce them, so the
// isolate is asked: linear memory by the fixture, V8's heap by its inspector.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { hasReal, real } from '../js/support/cli.mjs';
import { pack, realHeads } from './support/models.mjs';
import {
  ask,
  chunksOf,
  inspectIsolate,
  linearMemory,
  startBare,
  startWorker,
} from './support/worker.mjs';

const LIMIT_BYTES = 124e6; // 4 MB less than an isolate has, whichever megabytes are meant
const LARGEST_ASSET_BYTES = 25 * 2 ** 20;
const skip =
  hasReal && fs.existsSync(realHeads) ? false : 'npm run model fetches the default model';

describe('the default model in 128 MB', { skip }, () => {
  /** @type {import('./support/worker.mjs').Worker} */
  let worker;
  /** @type {Awaited<ReturnType<typeof inspectIsolate>>} */
  let inspector;
  let peak = 0;

  const at = async (/** @type {string} */ route) => (await fetch(worker.url + route)).json();
  const wait = (/** @type {number} */ ms) =>
    new Promise((resolve) => {
      setTimeout(resolve, ms);
    });
  const linear = () => linearMemory(worker.url);
  const megabytes = (/** @type {number} */ n) => `${(n / 1e6).toFixed(1)} MB`;
  const question = (/** @type {string} */ content, /** @type {object} */ more) => ({
    messages: [{ role: 'user', content }],
    ...more,
  });

  /** What is in use, in words, too: garbage is collected before. */
  async function inUse() {
    const memory = await linear();
    const { heap, outside } = await inspector.inUse();
    const total = memory + heap + outside;
    const text = `linear memory ${megabytes(memory)}, heap ${megabytes(heap)}, outside it ${megabytes(outside)}: ${megabytes(total)} of 128`;
    return { memory, total, text };
  }

  before(async () => {
    worker = await startWorker({
      model: (/** @type {string} */ to) => pack(to, real),
      fixture: true,
      vars: { OPEN: 1 },
    });
    inspector = await inspectIsolate(worker);
  });
  after(async () => {
    inspector?.close();
    await worker?.stop();
  });

  test('the first answer streams while the weights arrive, each asset small enough', async (t) => {
    for (const name of fs.readdirSync(`${worker.project}/public/model`)) {
      assert.ok(
        fs.statSync(`${worker.project}/public/model/${name}`).size <= LARGEST_ASSET_BYTES,
        name,
      );
    }
    let loading = true;
    const watching = (async () => {
      while (loading) {
        const { heap, outside } = await inspector.usage();
        peak = Math.max(peak, heap + outside + (await linear()));
        await wait(50);
      }
    })();
    const response = await ask(
      worker.url,
      question('Why is the sky blue?', { max_tokens: 24, stream: true }),
    );
    assert.equal(response.status, 200);
    let text = '';
    for await (const chunk of chunksOf(response))
      text += chunk === '[DONE]' ? '' : (JSON.parse(chunk).choices[0]?.delta.content ?? '');
    while ((await at('/health')).status !== 'ready') await wait(50);
    loading = false;
    await watching;
    assert.match(text, /\w+ \w+/);
    const { total, text: inWords } = await inUse();
    t.diagnostic(`while loading at most ${megabytes(peak)}, garbage included; then ${inWords}`);
    assert.ok(total < LIMIT_BYTES, `${total} bytes are in use after loading`);
  });

  test('memory in use after a context of 1,024 tokens', async (t) => {
    // As many tokens as the Worker takes and gives, in each mode; 768 of prompt and 256 of answer
    // fill the context.
    for (const mode of ['full', 'exit', 'lossless']) {
      const response = await ask(
        worker.url,
        question(`Go on counting in words: ${'one two three four five six seven '.repeat(104)}`, {
          max_tokens: 256,
          mode,
          temperature: 1,
          seed: 7,
        }),
      );
      const { usage, error } = await response.json();
      assert.equal(response.status, 200, error?.message);
      assert.ok(
        usage.prompt_tokens > 700 && usage.prompt_tokens + usage.completion_tokens > 720,
        JSON.stringify(usage),
      );
    }
    const { memory, total, text } = await inUse();
    t.diagnostic(text);
    assert.ok(memory > 98e6, 'the weights are in it');
    assert.ok(total < LIMIT_BYTES, `${total} bytes are in use`);
  });

  test('100 questions at once: right answers or 503, and memory stays', async (t) => {
    const asked = question('Name three primary colours.', { max_tokens: 3 });
    const right = (await (await ask(worker.url, asked)).json()).choices[0].message.content;
    const before = await inUse();
    const answers = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const response = await ask(worker.url, asked, { signal: AbortSignal.timeout(300_000) });
        return {
          status: response.status,
          retry: response.headers.get('retry-after'),
          body: await response.json(),
        };
      }),
    );
    for (const { status, retry, body } of answers) {
      if (status === 200) assert.equal(body.choices[0].message.content, right);
      else
        assert.ok(
          status === 503 && Number(retry) >= 1 && body.error.code === 'overloaded',
          JSON.stringify(body),
        );
    }
    const done = answers.filter(({ status }) => status === 200).length;
    assert.ok(done >= 9, 'one is answered, eight wait');
    const now = await inUse();
    t.diagnostic(
      `${done} answers, ${100 - done} times 503; ${megabytes(before.total)} before, ${megabytes(now.total)} after`,
    );
    assert.equal(now.memory, before.memory, 'linear memory did not grow');
    assert.ok(now.total < before.total + 4e6, `${before.total} bytes became ${now.total}`);
    assert.equal((await (await ask(worker.url, asked)).json()).choices[0].message.content, right);
  });

  test('loads and answers where V8 has what an isolate leaves beside the linear memory', async (t) => {
    const heap = Math.floor((128e6 - (await linear())) / 2 ** 20);
    // Left to itself, V8 gives new objects so much of a small heap that little is left for old ones.
    const flags = [`--max-heap-size=${heap}`, '--max-semi-space-size=1'];
    const bare = await startBare(worker, flags);
    t.after(bare.stop);
    t.diagnostic(`V8's heap is at most ${heap} MiB`);
    const answer = ask(bare.url, question('Name three primary colours.', { max_tokens: 24 })).then(
      async (response) => (await response.json()).choices[0].message.content,
    );
    assert.match(await Promise.race([answer, bare.ended.then(String)]), /red/i);
    while ((await (await fetch(`${bare.url}/health`)).json()).status !== 'ready') await wait(50);
  });
});
