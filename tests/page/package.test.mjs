// The package in real Chromium: worker, cache, threads, crashes, content security policy. Mostly on
// the tiny random model.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { good, scratch, tiny as tinyPath } from '../js/support/cli.mjs';
import { modelServer } from '../js/support/model-server.mjs';
import { start } from './browser.mjs';

const policy =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'nonce-test'; connect-src 'self'; worker-src 'self'; img-src data:";
const SLOW = 2_000_000;
const STANDING = 10_000;
const isolated = await start();
const plain = await start({ isolation: false, headers: { 'Content-Security-Policy': policy } });
const withoutWorkers = await start({
  isolation: false,
  headers: { 'Content-Security-Policy': policy.replace("worker-src 'self'", "worker-src 'none'") },
});
/** Of the slow line, in bits a second. */
let rate = () => SLOW;
const slow = await start({ bitsPerSecond: (url) => (url.endsWith('.gguf') ? rate() : 0) });
after(() => Promise.all([isolated, plain, withoutWorkers, slow].map((it) => it.close())));

const tiny = fs.statSync(new URL('../data/tiny.gguf', import.meta.url)).size;
const real = new URL('../../models/smollm2-135m-instruct.gguf', import.meta.url);

/** The slow line carries half of the model, and next to nothing from then on. */
function standStill() {
  let left = tiny / 2;
  rate = () => ((left -= SLOW / 8 / 50) > 0 ? SLOW : STANDING); // asked before each fiftieth of a second
}

/** Runs a function in a page, with ExitLM at hand. */
const within = (
  /** @type {import('playwright-core').Page} */ page,
  /** @type {(ExitLM: any, arg: any) => any} */ body,
  /** @type {any} */ arg,
) =>
  page.evaluate(
    async ([source, value]) => {
      const { ExitLM } = await import('/web/src/index.js');
      return (
        await import(
          URL.createObjectURL(new Blob([`export default ${source}`], { type: 'text/javascript' }))
        )
      ).default(ExitLM, value);
    },
    /** @type {[string, any]} */ ([String(body), arg]),
  );

/** The same where a policy forbids modules from Blobs. */
const underPolicy = (
  /** @type {import('playwright-core').Page} */ page,
  /** @type {any} */ options,
) =>
  page.evaluate(async (given) => {
    const { ExitLM } = await import('/web/src/index.js');
    const lm = await ExitLM.load('/tests/data/tiny.gguf', given);
    const { text } = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
    await lm.ready;
    const { threads, kernel } = lm.info;
    await lm.dispose();
    return { text, threads, kernel };
  }, options);

/** @type {string} */
let expected;

test('loads, answers, keeps a copy, answers from it without a connection', async () => {
  const page = await isolated.open('/tests/page/blank.html');
  const run = () =>
    within(
      page,
      async (ExitLM) => {
        /** @type {any[]} */
        const progress = [];
        const lm = await ExitLM.load('/tests/data/tiny.gguf', {
          heads: false,
          onProgress: (/** @type {any} */ p) => progress.push(p),
        });
        const reply = lm.complete('Once upon a time', { maxTokens: 12 });
        let text = '';
        for await (const token of reply) text += token.text;
        await lm.ready;
        const { networkBytes } = await lm.memory();
        const { kernel } = lm.info;
        await lm.dispose();
        return {
          text,
          networkBytes,
          kernel,
          source: progress[progress.length - 1].source,
          list: await ExitLM.cache.list(),
          size: await ExitLM.cache.size(),
        };
      },
      null,
    );
  const first = await run();
  expected = first.text;
  // either of its two tables, by what this processor does faster
  assert.match(first.kernel, /^relaxed/);
  assert.equal(first.source, 'network');
  assert.ok(first.networkBytes > 0.9 * tiny && first.networkBytes <= tiny);
  assert.equal(first.list.length, 1);
  assert.equal(first.list[0].complete, true);
  assert.match(first.list[0].url, /tiny\.gguf$/);
  assert.equal(first.size, first.list[0].bytes);
  await page.reload();
  await isolated.open('/tests/page/blank.html').then((other) => other.close());
  await page.evaluate(() => import('/web/src/index.js'));
  const second = await run();
  assert.deepEqual(
    { text: second.text, networkBytes: second.networkBytes, source: second.source },
    { text: first.text, networkBytes: 0, source: 'cache' },
  );
  // the model's server is gone
  await page.route('**/*.gguf', (route) => route.abort());
  assert.equal((await run()).text, first.text);
  const gone = await within(
    page,
    async (ExitLM) => [
      await ExitLM.cache.delete('/tests/data/tiny.gguf'),
      await ExitLM.cache.delete('/tests/data/tiny.gguf'),
      await ExitLM.cache.size(),
    ],
    null,
  );
  assert.deepEqual(gone, [true, false, 0]);
  assert.deepEqual(isolated.errors, []);
});

test('a manifest of another origin, compressed: its length tells nothing', async () => {
  const folder = scratch('packed');
  good(['pack', tinyPath, '-o', folder, '--heads', 'none']);
  const files = fs
    .readdirSync(folder)
    .map((name) => [`/${name}`, fs.readFileSync(`${folder}/${name}`)]);
  const server = await modelServer(Object.fromEntries(files), {
    gzip: 'where accepted', // not for weights: a browser that sends Range accepts no compression
    ranges: false,
    headers: { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' },
  });
  const page = await isolated.open('/tests/page/blank.html');
  const text = await within(
    page,
    async (ExitLM, address) => {
      const lm = await ExitLM.load(address, { heads: false, cache: 'none' });
      const reply = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
      await lm.ready;
      await lm.dispose();
      return reply.text;
    },
    `${server.address}/manifest.json`,
  ).finally(() => server.close());
  assert.equal(text, expected);
});

test('a download that a closed page broke off is continued', async () => {
  const context = await slow.browser.newContext();
  const first = await context.newPage();
  await first.goto(`${slow.address}/tests/page/blank.html`);
  standStill();
  await within(
    first,
    async (ExitLM, enough) => {
      /** @type {any} */
      let lm;
      await new Promise((resolve) => {
        const onProgress = (/** @type {any} */ { loaded }) => loaded > enough && resolve(null);
        lm = ExitLM.load('/tests/data/tiny.gguf', { heads: false, onProgress });
      });
      await (await lm).dispose();
    },
    tiny / 3,
  );
  await first.close();
  rate = () => SLOW;
  const second = await context.newPage();
  await second.goto(`${slow.address}/tests/page/blank.html`);
  const { networkBytes, text } = await within(
    second,
    async (ExitLM) => {
      const lm = await ExitLM.load('/tests/data/tiny.gguf', { heads: false });
      const reply = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
      await lm.ready;
      return { ...(await lm.memory()), text: reply.text };
    },
    null,
  );
  assert.equal(text, expected);
  assert.ok(networkBytes > 0 && networkBytes < 0.9 * tiny, `${networkBytes} of ${tiny}`);
  await context.close();
});

test('two tabs at once', async () => {
  const context = await slow.browser.newContext();
  const pages = [await context.newPage(), await context.newPage()];
  for (const page of pages) await page.goto(`${slow.address}/tests/page/blank.html`);
  const texts = await Promise.all(
    pages.map((page) =>
      within(
        page,
        async (ExitLM) => {
          const lm = await ExitLM.load('/tests/data/tiny.gguf', { heads: false });
          const { text } = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
          await lm.ready;
          await lm.dispose();
          return text;
        },
        null,
      ),
    ),
  );
  assert.deepEqual(texts, [expected, expected]);
  const list = await within(pages[0], (ExitLM) => ExitLM.cache.list(), null);
  assert.equal(list.length, 1);
  assert.equal(list[0].complete, true);
  await context.close();
});

test('deleting waits for another tab that is loading', async () => {
  const context = await slow.browser.newContext();
  const [loading, other] = [await context.newPage(), await context.newPage()];
  for (const page of [loading, other]) await page.goto(`${slow.address}/tests/page/blank.html`);
  standStill();
  const loaded = within(
    loading,
    async (ExitLM) => {
      const lm = await ExitLM.load('/tests/data/tiny.gguf', { heads: false });
      await lm.ready;
      await lm.dispose();
    },
    null,
  );
  const seen = await within(
    other,
    async (ExitLM) => {
      while (!(await ExitLM.cache.list()).length) await new Promise((r) => setTimeout(r, 20));
      return (await ExitLM.cache.list())[0].complete;
    },
    null,
  );
  assert.equal(seen, false);
  const deleting = within(
    other,
    async (ExitLM) => [
      await ExitLM.cache.delete('/tests/data/tiny.gguf'),
      await ExitLM.cache.list(),
    ],
    null,
  );
  rate = () => SLOW;
  assert.deepEqual(await deleting, [true, []]);
  await loaded;
  await context.close();
});

test("the Cache API, in a worker and in the page's own thread", async () => {
  for (const worker of [true, false]) {
    const page = await isolated.open('/tests/page/blank.html');
    const run = () =>
      within(
        page,
        async (ExitLM, inWorker) => {
          const lm = await ExitLM.load('/tests/data/tiny.gguf', {
            heads: false,
            cache: 'cache-api',
            worker: inWorker,
          });
          const { text } = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
          await lm.ready;
          const { networkBytes } = await lm.memory();
          await lm.dispose();
          return { text, networkBytes, list: await ExitLM.cache.list() };
        },
        worker,
      );
    const first = await run();
    assert.equal(first.text, expected);
    assert.equal(first.list[0]?.complete, true);
    assert.deepEqual({ ...(await run()), list: 0 }, { text: expected, networkBytes: 0, list: 0 });
    await page.context().close();
  }
});

test('a damaged copy is repaired', async () => {
  const page = await isolated.open('/tests/page/blank.html');
  const result = await within(
    page,
    async (ExitLM) => {
      const load = async () => {
        const lm = await ExitLM.load('/tests/data/tiny.gguf', { heads: false });
        const { text } = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
        await lm.ready;
        const { networkBytes } = await lm.memory();
        await lm.dispose();
        return { text, networkBytes };
      };
      await load();
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('exitlm');
      for await (const dir of /** @type {any} */ (folder).values()) {
        const handle = await dir.getFileHandle('file-0');
        const writable = await handle.createWritable({ keepExistingData: true });
        await writable.write({ type: 'write', position: 5000, data: new Uint8Array(100) });
        await writable.close();
        const journal = await dir.getFileHandle('journal');
        const text = await (await journal.getFile()).text();
        const cut = await journal.createWritable();
        await cut.write(`${text}0123abcd {"pieces":[[0,`); // a line that was cut off
        await cut.close();
      }
      return [await load(), await load()];
    },
    null,
  );
  assert.equal(result[0].text, expected);
  assert.ok(result[0].networkBytes > 0);
  assert.deepEqual(result[1], { text: expected, networkBytes: 0 });
  await page.context().close();
});

test('under a strict policy, without isolation: the same words, one thread', async () => {
  const page = await plain.open('/tests/page/blank.html');
  const one = await underPolicy(page, { heads: false, threads: 4 });
  assert.match(one.kernel, /^relaxed/);
  assert.deepEqual(one, { text: expected, threads: 1, kernel: one.kernel });
  const own = await underPolicy(page, { heads: false, worker: false });
  assert.equal(own.text, expected);
  assert.deepEqual(plain.errors, []);
});

test("where a worker cannot be started, the page's own thread does the work, and all of it", async () => {
  const page = await withoutWorkers.open('/tests/page/blank.html');
  const own = await underPolicy(page, { heads: false });
  assert.equal(own.text, expected);
  const { runs } = await page.evaluate(async () =>
    (await import('/web/src/index.js')).ExitLM.check('/tests/data/tiny.gguf'),
  );
  assert.equal(runs, true);
  await page.context().close();
});

test('with isolation, several threads: the same words', async () => {
  const page = await isolated.open('/tests/page/blank.html');
  const several = await underPolicy(page, { heads: false, threads: 3 });
  assert.match(several.kernel, /^relaxed/);
  assert.deepEqual(several, { text: expected, threads: 3, kernel: several.kernel });
  await page.context().close();
});

test('a killed worker rejects what is pending with WORKER, and loading works again', async () => {
  const page = await isolated.open('/tests/page/blank.html');
  const result = await within(
    page,
    async (ExitLM) => {
      /** @type {Worker[]} */
      const workers = [];
      const Native = Worker;
      globalThis.Worker = class extends Native {
        constructor(/** @type {[any, any]} */ ...args) {
          super(...args);
          workers.push(this);
        }
      };
      const lm = await ExitLM.load('/tests/data/tiny.gguf', { heads: false });
      await lm.ready;
      const reply = lm.complete('Once upon a time', { maxTokens: 400 });
      for await (const token of reply) {
        if (token.index === 2) break;
      }
      const pending = lm.complete('Once upon a time', { maxTokens: 400 });
      workers[0].terminate();
      const error = await pending.result.catch((/** @type {any} */ e) => e);
      const next = await lm.tokenize('x').catch((/** @type {any} */ e) => e);
      const again = await ExitLM.load('/tests/data/tiny.gguf', { heads: false });
      const { text } = await again.complete('Once upon a time', { maxTokens: 12 }).result;
      await again.dispose();
      return { code: error.code, name: error.name, next: next.code, text };
    },
    null,
  );
  assert.deepEqual(result, {
    code: 'WORKER',
    name: 'ExitLMError',
    next: 'DISPOSED',
    text: expected,
  });
  await page.context().close();
});

test('a folder of the site without the package: an error that says which file', async () => {
  const page = await isolated.open('/tests/page/blank.html');
  const error = await within(
    page,
    async (ExitLM) =>
      ExitLM.load('/tests/data/tiny.gguf', { wasm: '/web/nowhere/' }).catch(
        (/** @type {any} */ e) => ({ code: e.code, message: e.message }),
      ),
    null,
  );
  assert.equal(error.code, 'HTTP');
  assert.match(error.message, /nowhere\/exitlm-relaxed\.wasm/);
  await page.context().close();
  isolated.errors.length = 0; // the 404
});

test('20 times loaded and disposed of without growth, two at once', async (t) => {
  const page = await isolated.open('/tests/page/blank.html');
  const result = await within(
    page,
    async (ExitLM, say) => {
      const texts = new Set();
      const held = async () =>
        (await /** @type {any} */ (performance).measureUserAgentSpecificMemory()).bytes;
      let early = 0;
      for (let i = 0; i < 20; i++) {
        if (i === 3) early = await held();
        const [a, b] = await Promise.all([
          ExitLM.load('/tests/data/tiny.gguf', { heads: false }),
          ExitLM.load('/tests/data/tiny.gguf', { heads: false }),
        ]);
        const results = await Promise.all(
          [a, b].map((lm) => lm.complete(say, { maxTokens: 12 }).result),
        );
        for (const { text } of results) texts.add(text);
        await Promise.all([a.dispose(), b.dispose()]);
      }
      // Workers end, and what they held goes, some time after they were told to.
      let locks;
      let bytes = Infinity;
      for (let i = 0; i < 100 && (locks !== 0 || bytes >= early + 8e6); i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        locks = (await navigator.locks.query()).held?.length;
        bytes = await held();
      }
      return { texts: [...texts], early, bytes, locks };
    },
    'Once upon a time',
  );
  assert.deepEqual(result.texts, [expected]);
  t.diagnostic(
    `${(result.early / 1e6).toFixed(1)} MB held after 3 cycles of two, ${(result.bytes / 1e6).toFixed(1)} MB after 20`,
  );
  assert.ok(result.bytes < 50e6, `${result.bytes} bytes are still held`);
  assert.ok(
    result.bytes < result.early + 8e6,
    `${result.early} bytes after 3 cycles, ${result.bytes} after 20`,
  );
  assert.equal(result.locks, 0);
  await page.context().close();
});

test(
  'the real model: stopping within 100 ms while loading, in a long prompt, while answering; memory',
  { skip: !fs.existsSync(real) },
  async (t) => {
    const page = await isolated.open('/tests/page/blank.html');
    const result = await within(
      page,
      async (ExitLM) => {
        const url = '/models/smollm2-135m-instruct.gguf';
        // The best of three: what else this machine does is not what is tested.
        const stop = async (
          /** @type {(signal: AbortSignal, begun: (value?: any) => void) => Promise<any>} */ work,
        ) => {
          const times = [];
          let how = '';
          while (times.length < 3 && !times.some((time) => time < 50)) {
            const abort = new AbortController();
            const reason = new Error('enough');
            /** @type {Promise<string>} */
            let pending = Promise.resolve('');
            await new Promise((begun) => {
              pending = work(abort.signal, begun).then(
                () => 'finished',
                (/** @type {any} */ e) => (e === reason ? 'stopped' : `${e.code} ${e.message}`),
              );
              pending.then(begun);
            });
            const began = performance.now();
            abort.abort(reason);
            how = await pending;
            times.push(performance.now() - began);
            if (how !== 'stopped') break;
          }
          return { how, ms: Math.min(...times) };
        };
        const loading = await stop((signal, onProgress) =>
          ExitLM.load(url, { heads: false, signal, cache: 'none', onProgress }).then(
            (/** @type {any} */ lm) => lm.ready,
          ),
        );
        const lm = await ExitLM.load(url, { heads: false });
        await lm.ready;
        const long = 'The quick brown fox jumps over the lazy dog again. '.repeat(150);
        const tokens = await lm.countTokens([{ role: 'user', content: long }]);
        const prompt = await stop((signal, begun) => {
          setTimeout(begun, 20); // many fast cores read it in a tenth of a second
          return lm.chat([{ role: 'user', content: long }], { signal }).result;
        });
        const began = performance.now();
        // the engine itself has stopped too
        const after = await lm.complete('One two three', { maxTokens: 1 }).result;
        const busy = performance.now() - began;
        const answer = await stop(async (signal, begun) => {
          const reply = lm.chat([{ role: 'user', content: 'Tell me a story.' }], { signal });
          for await (const token of reply) if (token.index === 3) begun();
        });
        const memory = await lm.memory();
        await lm.dispose();
        return { loading, tokens, prompt, busy, after: after.reason, answer, memory };
      },
      null,
    );
    t.diagnostic(
      `stopped while loading after ${result.loading.ms.toFixed(1)} ms, in a prompt of ${result.tokens} tokens ${result.prompt.ms.toFixed(1)} ms (next reply ${result.busy.toFixed(0)} ms later), while answering ${result.answer.ms.toFixed(1)} ms`,
    );
    const shown = JSON.stringify(result);
    for (const { how, ms } of [result.loading, result.prompt, result.answer]) {
      assert.equal(how, 'stopped');
      assert.ok(ms < 100, shown);
    }
    assert.ok(result.tokens >= 1500, `${result.tokens} tokens`);
    assert.equal(result.after, 'length');
    assert.ok(result.busy < 3000, `the next reply took ${result.busy} ms`);
    const { total, model, session } = result.memory;
    assert.ok(
      total < model + session + 8e6,
      `${total} bytes of linear memory, ${model} + ${session} were announced`,
    );
    assert.deepEqual(isolated.errors, []);
    await page.context().close();
  },
);
