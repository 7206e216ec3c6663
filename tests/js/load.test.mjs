// Loading over HTTP: order of use, resuming, servers that misbehave. On the tiny random model and a server of this test.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { modelServer } from './support/model-server.mjs';

const bytes = new Uint8Array(fs.readFileSync(new URL('../data/tiny.gguf', import.meta.url)));
/** @type {{ close(): Promise<void> }[]} */
const servers = [];
after(() => Promise.all(servers.map((s) => s.close())));

const serve = async (/** @type {any} */ behaviour = {}, /** @type {any} */ files = { '/tiny.gguf': bytes }) => {
  const server = await modelServer(files, behaviour);
  servers.push(server);
  return { ...server, url: `${server.address}/tiny.gguf` };
};
const options = { worker: false, heads: /** @type {false} */ (false) };
const say = async (/** @type {ExitLM} */ lm) => (await lm.complete('Once upon a time', { maxTokens: 12 }).result).text;
const reference = ExitLM.load(bytes, options).then(say);
const check = async (/** @type {any} */ source, /** @type {any} */ more = {}) => {
  const lm = await ExitLM.load(source, { ...options, ...more });
  const text = await say(lm);
  await lm.ready;
  assert.equal(text, await reference);
  const memory = await lm.memory();
  await lm.dispose();
  return memory;
};
const code = (/** @type {string} */ expected, /** @type {RegExp} */ message = /./) => (/** @type {any} */ error) => {
  assert.ok(error instanceof ExitLMError, `an ExitLMError, not ${error?.stack ?? error}`);
  assert.equal(error.code, expected, error.message);
  assert.match(error.message, message);
  return true;
};

test('with ranges: headers first, then what is needed, nothing twice', async () => {
  const { url, seen } = await serve();
  const { networkBytes } = await check(url);
  assert.ok(networkBytes <= bytes.length, `${networkBytes} of ${bytes.length}`);
  assert.equal(seen[0].range, 'bytes=0-');
  assert.ok(seen.length > 1);
  assert.ok(seen.slice(1).every((s) => s.ifRange === '"v1"'));
});

test('without ranges: in the order of the file, one request', async () => {
  const { url, seen } = await serve({ ranges: false });
  await check(url);
  assert.equal(seen.length, 1);
});

test('a reply before the last byte waits, and is right', async () => {
  const { url } = await serve({ bytesPerSecond: bytes.length });
  const began = performance.now();
  const lm = await ExitLM.load(url, options);
  const loaded = performance.now() - began;
  let done = false;
  lm.ready.then(() => (done = true));
  const reply = lm.complete('Once upon a time', { maxTokens: 12 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(done, false, `loaded after ${loaded} ms`);
  assert.equal((await reply.result).text, await reference);
  await lm.ready;
  await lm.dispose();
});

test('a reply that waits for bytes can be stopped at once', async () => {
  const { url } = await serve({ bytesPerSecond: bytes.length / 4 });
  const lm = await ExitLM.load(url, options);
  const reply = lm.complete('Once upon a time', { maxTokens: 12 });
  await new Promise((resolve) => setTimeout(resolve, 30));
  const began = performance.now();
  reply.cancel();
  assert.equal((await reply.result).reason, 'abort');
  assert.ok(performance.now() - began < 100);
  const abort = new AbortController();
  const second = lm.complete('Once upon a time', { signal: abort.signal });
  abort.abort();
  await assert.rejects(second.result, { name: 'AbortError' });
  await lm.dispose();
});

for (const ranges of [true, false]) {
  test(`connections that break, ${ranges ? 'with' : 'without'} ranges`, async () => {
    let seed = 12345;
    const random = () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    const { url, seen } = await serve({ ranges, cutAfter: (/** @type {number} */ n) => (n < 9 ? Math.floor(random() * 50000) : null) });
    const { networkBytes } = await check(url);
    assert.ok(seen.length > 9);
    if (ranges) assert.ok(networkBytes <= bytes.length + 2 ** 20);
  });
}

test('statuses that pass: 503, 429', async () => {
  const { url, seen } = await serve({ status: (/** @type {number} */ n) => [503, 429, null][n] ?? null });
  await check(url);
  assert.ok(seen.length >= 3);
});

test('statuses that stay: 404, 403', async () => {
  for (const status of [404, 403, 401]) {
    const { url, seen } = await serve({ status: () => status });
    await assert.rejects(ExitLM.load(url, options), code('HTTP', new RegExp(`${status}`)));
    assert.equal(seen.length, 1);
  }
});

test('a web page instead of a model', async () => {
  const html = new TextEncoder().encode('<!doctype html><title>Not found</title>');
  const { url } = await serve({ headers: { 'content-type': 'text/html; charset=utf-8' } }, { '/tiny.gguf': html });
  await assert.rejects(ExitLM.load(url, options), code('HTTP', /web page/));
  const plain = await serve({}, { '/tiny.gguf': html });
  await assert.rejects(ExitLM.load(plain.url, options), code('BAD_MODEL', /GGUF/));
});

test('content-encoding', async () => {
  for (const ranges of [true, false]) {
    const { url } = await serve({ gzip: true, ranges });
    await check(url);
  }
});

test('no server', async () => {
  const { url, close } = await serve();
  await close();
  servers.pop();
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('waited long enough')), 700);
  await assert.rejects(ExitLM.load(url, { ...options, signal: abort.signal }), /waited long enough/);
});

test('a file that changes while it is loaded', async () => {
  const other = bytes.slice();
  other[other.length - 1] ^= 1;
  let current = bytes;
  const { url, seen, behaviour } = await serve({ bytesPerSecond: bytes.length * 2, cutAfter: () => 60000 }, { '/tiny.gguf': () => current });
  const lm = await ExitLM.load(url, options);
  await new Promise((resolve) => setTimeout(resolve, 20));
  behaviour.etag = '"v2"';
  current = other;
  await assert.rejects(lm.ready, code('CHECKSUM', /changed/));
  await assert.rejects(lm.complete('x').result, code('DISPOSED', /changed/));
  assert.ok(seen.length > 1);
});

test('a file that is shorter than its header says', async () => {
  const { url } = await serve({}, { '/tiny.gguf': bytes.subarray(0, bytes.length - 5000) });
  await assert.rejects(async () => {
    const lm = await ExitLM.load(url, options);
    await lm.ready;
  }, code('BAD_MODEL', /truncated|needs|missing/));
});

test('a checksum of the whole', async () => {
  const { createHash } = await import('node:crypto');
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  for (const ranges of [true, false]) {
    const { url } = await serve({ ranges });
    await check(url, { sha256 });
    await assert.rejects(async () => {
      const lm = await ExitLM.load(url, { ...options, sha256: '1'.repeat(64) });
      await lm.ready;
    }, code('CHECKSUM'));
  }
});

test("the caller's own fetch, in a worker too", async () => {
  const { url } = await serve();
  for (const worker of [false, true]) {
    let calls = 0;
    await check(url, {
      worker,
      fetch: (/** @type {string} */ address, /** @type {RequestInit} */ init) => {
        calls++;
        return fetch(address, init);
      },
    });
    assert.ok(calls > 0);
  }
});

test("the caller's own cache: no bytes the second time, a partial copy is continued, damage is repaired", async () => {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) => void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  for (const worker of [false, true]) {
    kept.clear();
    const { url, seen } = await serve();
    assert.ok((await check(url, { cache, worker })).networkBytes > 0);
    const before = seen.length;
    assert.equal((await check(url, { cache, worker })).networkBytes, 0);
    assert.equal(seen.length, before);
    // one piece is damaged: that one is fetched again
    const [key, value] = [...kept].filter(([k]) => /\/0\/\d+$/.test(k)).sort((a, b) => b[1].length - a[1].length)[0];
    kept.set(key, value.map((b, i) => (i === 99 ? b ^ 255 : b)));
    const { networkBytes } = await check(url, { cache, worker });
    assert.ok(networkBytes > 0 && networkBytes <= 2 ** 20, `${networkBytes}`);
    // and one is gone
    kept.delete(key);
    assert.ok((await check(url, { cache, worker })).networkBytes > 0);
    assert.equal((await check(url, { cache, worker })).networkBytes, 0);
  }
});

test('a download that was broken off goes on where it was', async () => {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) => void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  const { url, behaviour } = await serve({ bytesPerSecond: bytes.length });
  const lm = await ExitLM.load(url, { ...options, cache });
  await new Promise((resolve) => setTimeout(resolve, 350));
  await lm.dispose();
  await new Promise((resolve) => setTimeout(resolve, 100));
  behaviour.bytesPerSecond = 0;
  const { networkBytes } = await check(url, { cache });
  assert.ok(networkBytes < bytes.length * 0.9, `${networkBytes} of ${bytes.length} came again`);
  // the same, but the server has another file by now
  kept.clear();
  behaviour.bytesPerSecond = bytes.length;
  const again = await ExitLM.load(url, { ...options, cache });
  await new Promise((resolve) => setTimeout(resolve, 350));
  await again.dispose();
  await new Promise((resolve) => setTimeout(resolve, 100));
  Object.assign(behaviour, { bytesPerSecond: 0, etag: '"v2"' });
  assert.ok((await check(url, { cache })).networkBytes >= bytes.length * 0.9);
});

test('a cache without room: a warning, and loading goes on', async () => {
  const { url } = await serve();
  /** @type {string[]} */
  const warnings = [];
  let puts = 0;
  const cache = {
    get: async () => undefined,
    put: async () => {
      if (++puts > 1) throw new DOMException('full', 'QuotaExceededError');
    },
  };
  await check(url, { cache, onWarning: (/** @type {string} */ w) => warnings.push(w) });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /full/);
});

test('heads beside the model are looked for, and their absence is no error', async () => {
  const { url, seen } = await serve();
  const lm = await ExitLM.load(url, { worker: false });
  assert.equal(lm.exits, null);
  assert.ok(seen.some((s) => s.url === '/tiny.exits.gguf'));
  await lm.dispose();
});
