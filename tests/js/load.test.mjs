// Loading over HTTP: order of use, resuming, servers that misbehave. On the tiny random model and a
// server of this test.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { after, test } from 'node:test';
import { openStore } from '../../web/src/cache/cache.js';
import { Ranges } from '../../web/src/cache/ranges.js';
import { loadHeads, loadMaps } from '../../web/src/engine/heads-loading.js';
import { download, downloadJson } from '../../web/src/loading/download.js';
import { downloadWithoutMaps, withoutMaps } from '../../web/src/loading/heads.js';
import { ExitLM } from '../../web/src/index.js';
import { jobsByRange } from '../../web/src/loading/plan.js';
import { httpSource } from '../../web/src/loading/http.js';
import { resolve as resolveFiles } from '../../web/src/loading/resolve.js';
import { verifyKept } from '../../web/src/loading/verify.js';
import { code } from './support/errors.mjs';
import { modelServer } from './support/model-server.mjs';
import { tinyBytes, tinyHeads } from './support/tiny-model.mjs';

const bytes = new Uint8Array(fs.readFileSync(new URL('../data/tiny.gguf', import.meta.url)));
/** @type {{ close(): Promise<void> }[]} */
const servers = [];
after(() => Promise.all(servers.map((s) => s.close())));

const serve = async (
  /** @type {any} */ behaviour = {},
  /** @type {any} */ files = { '/tiny.gguf': bytes },
) => {
  const server = await modelServer(files, behaviour);
  servers.push(server);
  return { ...server, url: `${server.address}/tiny.gguf` };
};
const options = { worker: false, heads: /** @type {false} */ (false) };
const say = async (/** @type {ExitLM} */ lm) =>
  (await lm.complete('Once upon a time', { maxTokens: 12 }).result).text;
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
test('with ranges: headers first, then what is needed, nothing twice', async () => {
  const { url, seen } = await serve();
  const { networkBytes } = await check(url);
  assert.ok(networkBytes <= bytes.length, `${networkBytes} of ${bytes.length}`);
  assert.match(seen[0].range ?? '', /^bytes=0-\d+$/);
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
  const { url, seen } = await serve({ bytesPerSecond: bytes.length / 4 });
  const lm = await ExitLM.load(url, options);
  const reply = lm.complete('Once upon a time', { maxTokens: 12 });
  await new Promise((resolve) => setTimeout(resolve, 30));
  const sent = () => seen.reduce((sum, s) => sum + s.sent, 0);
  const before = sent();
  reply.cancel();
  assert.equal((await reply.result).reason, 'abort');
  assert.ok(sent() - before < bytes.length / 10, 'the line is the clock');
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
    const { url, seen } = await serve({
      ranges,
      cutAfter: (/** @type {number} */ n) => (n < 9 ? Math.floor(random() * 50000) : null),
    });
    const { networkBytes } = await check(url);
    assert.ok(seen.length > (ranges ? 5 : 9), `${seen.length} requests`);
    if (ranges) assert.ok(networkBytes <= bytes.length + 2 ** 20);
  });
}

test('statuses that pass: 503, 429', async () => {
  const { url, seen } = await serve({
    status: (/** @type {number} */ n) => [503, 429, null][n] ?? null,
  });
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
  const { url } = await serve(
    { headers: { 'content-type': 'text/html; charset=utf-8' } },
    { '/tiny.gguf': html },
  );
  await assert.rejects(ExitLM.load(url, options), code('HTTP', /web page/));
  const plain = await serve({}, { '/tiny.gguf': html });
  await assert.rejects(ExitLM.load(plain.url, options), code('BAD_MODEL', /tiny\.gguf: .*GGUF/));
});

test('content-encoding', async () => {
  for (const ranges of [true, false]) {
    const { url } = await serve({ gzip: true, ranges });
    await check(url);
  }
});

/** What a server, or something before it, makes of one answer of a file. */
const odd =
  /** @type {[string, (answer: Response, asked: number, body: Uint8Array) => Response][]} */ ([
    ['fewer bytes than were asked for', ({ headers }, _, body) => part(headers, body.slice(0, 99))],
    ['half of them', ({ headers }, _, body) => part(headers, body.slice(0, body.length / 2))],
    ['more of them', ({ headers }, from) => part(headers, bytes.slice(from))],
    ['no Content-Range', ({ headers }, _, body) => part(headers, body, { 'content-range': '' })],
    [
      'no total',
      ({ headers }, from, body) =>
        part(headers, body, { 'content-range': `bytes ${from}-${from + body.length - 1}/*` }),
    ],
    [
      'a length that is too long',
      ({ headers }, _, body) => part(headers, body, { 'content-length': String(2 * body.length) }),
    ],
    [
      'a length that is too short',
      ({ headers }, _, body) => part(headers, body, { 'content-length': '7' }),
    ],
    [
      'the whole file for a range',
      ({ headers }) => new Response(bytes, { headers: { etag: headers.get('etag') ?? '' } }),
    ],
    ['an unavailable server', () => new Response('', { status: 503 })],
  ]);
const part = (/** @type {Headers} */ headers, /** @type {any} */ body, more = {}) =>
  new Response(body, { status: 206, headers: { ...Object.fromEntries(headers), ...more } });

for (const [title, change] of odd)
  test(`an answer among others: ${title}`, async () => {
    const { url } = await serve();
    for (const wrong of [0, 1]) {
      let n = 0;
      const oddFetch = async (/** @type {string} */ address, /** @type {any} */ init) => {
        const answer = await fetch(address, init);
        if (n++ !== wrong) return answer;
        const from = Number(/=(\d+)/.exec(init.headers.Range ?? '')?.[1] ?? 0);
        return change(answer, from, new Uint8Array(await answer.arrayBuffer()));
      };
      await check(url, { fetch: oddFetch });
      assert.ok(n > wrong);
    }
  });

test('other bytes than those that were asked for', async () => {
  const { url } = await serve();
  const shifted = async (/** @type {string} */ address, /** @type {any} */ init) => {
    const answer = await fetch(address, init);
    const range = answer.headers
      .get('content-range')
      ?.replace(/^bytes (\d+)/, (_, n) => `bytes ${Number(n) + 4}`);
    return part(answer.headers, answer.body, { 'content-range': range });
  };
  await assert.rejects(
    ExitLM.load(url, { ...options, fetch: shifted }),
    code('HTTP', /from 0 on were asked for.* from 4 on/),
  );
});

test('redirects', async (t) => {
  const { url } = await serve();
  const server = http.createServer((request, response) =>
    response
      .writeHead(request.url === '/loop' ? 302 : 307, {
        location: request.url === '/loop' ? '/loop' : url,
      })
      .end(),
  );
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  t.after(() => server.close());
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  await check(`http://127.0.0.1:${port}/tiny.gguf`);
  const { signal } = new AbortController();
  const looping = httpSource(`http://127.0.0.1:${port}/loop`, (address, init) =>
    fetch(address, init),
  );
  await assert.rejects(
    download(looping, 0, 9, { signal, tries: 1 }).next(),
    code('NETWORK', /no connection/),
  );
});

test('a connection that stalls is opened again where it stood', async () => {
  /** @type {number[]} */
  const from = [];
  const stalling = /** @type {any} */ ({
    name: 'x',
    url: 'https://example.invalid/x',
    open: async (
      /** @type {number} */ at,
      /** @type {any} */ _,
      /** @type {AbortSignal} */ signal,
    ) => {
      from.push(at);
      const stalls = new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      );
      if (from.length === 1) await stalls; // before an answer
      const body = async function* () {
        yield bytes.subarray(at, at + 5);
        if (from.length === 2) await stalls;
        yield bytes.subarray(at + 5, 20);
      };
      return { from: at, total: 20, ranged: true, validator: null, body: body() };
    },
  });
  /** @type {string[]} */
  const said = [];
  const { signal } = new AbortController();
  const onRetry = (/** @type {Error} */ error) => void said.push(error.message);
  let n = 0;
  for await (const { at, bytes: some } of download(stalling, 0, null, {
    signal,
    onRetry,
    stallMs: 50,
  })) {
    assert.equal(at, n);
    await new Promise((resolve) => setTimeout(resolve, 120)); // who takes them may take longer
    n += some.length;
  }
  assert.deepEqual([n, from], [20, [0, 0, 5]]);
  assert.deepEqual(said, Array(2).fill('x: nothing has come for 0.05 seconds'));
});

test('weights that lie past 5 GB, beyond what 32 bits count', async () => {
  const far = 5 * 2 ** 30;
  const moved = Buffer.from(bytes);
  const names = moved
    .toString('latin1')
    .matchAll(/(?:token_embd|output_norm|blk\.\d+\.\w+)\.weight/g);
  let tableEnd = 0;
  for (const { index, 0: name } of names) {
    const dims = index + name.length;
    const offset = dims + 4 + 8 * moved.readUInt32LE(dims) + 4;
    moved.writeBigUInt64LE(moved.readBigUInt64LE(offset) + BigInt(far), offset);
    tableEnd = offset + 8;
  }
  const start = Math.ceil(tableEnd / 32) * 32;
  const total = far + moved.length;
  let between = 0;
  const sparse = async (/** @type {string} */ _, /** @type {any} */ init) => {
    const [, a, b] = /^bytes=(\d+)-(\d*)$/.exec(init.headers.Range) ?? [];
    const from = Number(a);
    const to = Math.min(total, b ? Number(b) + 1 : total);
    const body = Buffer.alloc(Math.min(to - from, 2 ** 18));
    if (from < start) moved.copy(body, 0, from, start);
    if (from + body.length > start + far) moved.copy(body, 0, from - far);
    if (from < start + far) between += body.length;
    return new Response(body, {
      status: 206,
      headers: {
        'content-range': `bytes ${from}-${from + body.length - 1}/${total}`,
        'etag': '"v1"',
      },
    });
  };
  await check('https://far.example/m.gguf', { fetch: sparse });
  assert.ok(between < 2 ** 20, `${between} bytes of what lies between were asked for`);
});

test('no server', async () => {
  const { url, close } = await serve();
  await close();
  servers.pop();
  const abort = new AbortController();
  let tries = 0;
  const counted = (/** @type {string} */ address, /** @type {any} */ init) => {
    if (++tries === 3) abort.abort(new Error('tried often enough'));
    return fetch(address, init);
  };
  await assert.rejects(
    ExitLM.load(url, { ...options, signal: abort.signal, fetch: counted }),
    /tried often enough/,
  );
});

test('what cannot be loaded says what to do', async () => {
  const half = [new Blob([bytes.subarray(0, 1e5)]), new Blob([bytes.subarray(1e5)])];
  const header = [bytes.subarray(0, 500), bytes.subarray(500)];
  const unbound = () => {
    throw new TypeError('Illegal invocation');
  };
  for (const [source, status, message, more] of /** @type {[any, string, RegExp, any?][]} */ ([
    ['nowhere/x.gguf', 'NETWORK', /no such file, seen from .*npx exitlm pull/],
    ['package.json', 'BAD_MODEL', /names no format; .*manifest\.json of "npx exitlm pack"/],
    [half, 'BAD_MODEL', /truncated.*not of pieces of one file: .*ReadableStream/],
    [header, 'USAGE', /not of pieces of one file/],
    ['http://localhost:9/x', 'USAGE', /option fetch: .*\(url, init\) => /, { fetch: unbound }],
  ]))
    await assert.rejects(check(source, more), code(status, message));
});

test('in a Worker of Cloudflare the wrong entry and a missing module are named', () => {
  const program = `
    Object.defineProperty(globalThis, 'navigator', { value: { userAgent: 'Cloudflare-Workers' } });
    for (const entry of ['index', 'edge']) {
      const { ExitLM } = await import(\`./web/src/\${entry}.js\`);
      await ExitLM.load(new Uint8Array(8)).catch(({ code, message }) => console.log(code, message));
    }`;
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  assert.match(
    said,
    /^USAGE .*from 'exitlm\/edge'.*\nUSAGE option wasm: .*exitlm-relaxed\.wasm'.*\n$/,
  );
});

test('a reply has no text and no json of its own, and says where they are', async () => {
  const lm = await ExitLM.load(bytes, options);
  const reply = lm.complete('Once', { maxTokens: 2 });
  for (const name of /** @type {const} */ (['text', 'json']))
    assert.throws(() => reply[name], code('USAGE', /\(await reply\.result\)\./));
  await reply.result;
  await lm.dispose();
});

test('a file that changes while it is loaded', async () => {
  const other = bytes.slice();
  other[other.length - 1] ^= 1;
  let current = bytes;
  const { url, seen, behaviour } = await serve(
    { bytesPerSecond: bytes.length * 2, cutAfter: () => 60000 },
    { '/tiny.gguf': () => current },
  );
  const lm = await ExitLM.load(url, options);
  behaviour.etag = '"v2"';
  current = other;
  await assert.rejects(lm.ready, code('CHECKSUM', /changed/));
  await assert.rejects(lm.complete('x').result, code('DISPOSED', /changed/));
  assert.ok(seen.length > 1);
});

test('a file that is shorter than its header says', async () => {
  const { url } = await serve({}, { '/tiny.gguf': bytes.subarray(0, bytes.length - 5000) });
  await assert.rejects(
    async () => {
      const lm = await ExitLM.load(url, options);
      await lm.ready;
    },
    code('BAD_MODEL', /truncated|needs|missing/),
  );
});

test('a checksum of the whole', async () => {
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

test("the caller's own fetch hears of an abort before there is an answer", async () => {
  for (const worker of [false, true]) {
    const abort = new AbortController();
    /** @type {(value: unknown) => void} */
    let heard = () => {};
    const ended = new Promise((done) => {
      heard = done;
    });
    const loading = ExitLM.load('https://example.invalid/tiny.gguf', {
      ...options,
      worker,
      signal: abort.signal,
      fetch: (_, init) =>
        new Promise((_, reject) => {
          /** @type {any} */ (init).signal.addEventListener('abort', () => {
            heard(undefined);
            reject(new Error('aborted'));
          });
          abort.abort(new Error('enough'));
        }),
    });
    await assert.rejects(loading, /enough/);
    await ended;
  }
});

test('an answer that is refused when it opens is not downloaded', async () => {
  const { url } = await serve({ ranges: false, bytesPerSecond: 10_000 });
  /** @type {any} */
  let asked;
  const source = httpSource(url, (address, init) => fetch(address, (asked = init)));
  const { signal } = new AbortController();
  const refuse = () => {
    throw new Error('without ranges');
  };
  await assert.rejects(download(source, 0, 100, { signal, onOpen: refuse }).next(), /without/);
  assert.equal(asked.signal.aborted, true);
});

test('files of a manifest lie in its folder', async () => {
  const sha256 = '0'.repeat(64);
  for (const file of ['//host.example/x', '/x', '\\\\host.example\\x', '../x', 'a/../../x']) {
    const extents = [{ part: 0, offset: 0, bytes: 1 }];
    const manifest = {
      format: 1,
      name: 'm',
      bytes: 1,
      sha256,
      files: [{ bytes: 1, sha256 }],
      shards: [{ file, bytes: 1, sha256, extents }],
    };
    const resolving = resolveFiles([{ kind: 'url', url: 'https://example.invalid/m.json' }], null, {
      fetchLike: async () => new Response(JSON.stringify(manifest)),
      remote: () => assert.fail(),
      signal: new AbortController().signal,
      cachedManifest: async () => undefined,
      keepManifest: async () => {},
    });
    await assert.rejects(resolving, code('BAD_MODEL', /outside its folder/), file);
  }
});

test("the caller's own cache: no bytes the second time, a partial copy is continued, damage is repaired", async () => {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) =>
      void kept.set(key, value.slice()),
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
    const [key, value] = [...kept]
      .filter(([k]) => /\/0\/\d+$/.test(k))
      .sort((a, b) => b[1].length - a[1].length)[0];
    kept.set(
      key,
      value.map((b, i) => (i === 99 ? b ^ 255 : b)),
    );
    const { networkBytes } = await check(url, { cache, worker });
    assert.ok(networkBytes > 0 && networkBytes <= 2 ** 20, `${networkBytes}`);
    // and one is gone
    kept.delete(key);
    assert.ok((await check(url, { cache, worker })).networkBytes > 0);
    assert.equal((await check(url, { cache, worker })).networkBytes, 0);
  }
});

test('a copy: under a key of its own, compared once a day, the oldest give way', async (t) => {
  const kept = memoryCaches(t);
  const storage = { estimate: async () => ({ quota: 1e9, usage: 0 }) };
  const { navigator } = globalThis;
  Object.defineProperty(globalThis, 'navigator', { value: { storage }, configurable: true });
  t.after(() =>
    Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true }),
  );
  const { now } = Date;
  let days = 0;
  t.mock.method(Date, 'now', () => now() + days * 24 * 3600e3);
  const { url, seen, behaviour } = await serve();
  const cache = /** @type {const} */ ('cache-api');
  const cacheKey = 'https://models.example/tiny.gguf';
  /** @type {string[]} */
  const warnings = [];
  const onWarning = (/** @type {string} */ text) => void warnings.push(text);
  const signed = (/** @type {number} */ n) => check(`${url}?signature=${n}`, { cache, cacheKey });
  assert.ok((await signed(1)).networkBytes > 0);
  assert.equal((await signed(2)).networkBytes, 0);
  const [{ url: name }] = await ExitLM.cache.list();
  assert.equal(name, 'https://models.example/tiny.gguf');

  const before = seen.length;
  days = 2;
  const visit = async (/** @type {() => boolean} */ compared) => {
    const lm = await ExitLM.load(url, { ...options, cache, cacheKey, onWarning });
    await lm.ready;
    while (!compared()) await new Promise((resolve) => setTimeout(resolve, 5));
    await lm.dispose();
  };
  const journal = () => [...kept].find(([key]) => key.endsWith('/journal'))?.[1].length;
  const told = journal();
  await visit(() => journal() !== told);
  assert.equal(seen.length, before + 1);
  assert.equal(seen[before].range, 'bytes=0-0');
  assert.equal((await signed(4)).networkBytes, 0);
  assert.equal(seen.length, before + 1, 'not again on the same day');
  days = 4;
  behaviour.etag = '"v2"';
  await visit(() => warnings.length > 0);
  assert.match(warnings.join(), /new file/);
  assert.ok((await signed(5)).networkBytes > 0);

  storage.estimate = async () => ({ quota: bytes.length, usage: bytes.length });
  days = 5;
  await check(url, { cache });
  const names = (await ExitLM.cache.list()).map((copy) => copy.url);
  assert.deepEqual(names, [url], 'the older copy made room');
  await ExitLM.cache.delete(url);
  assert.equal(kept.size, 0);
  await check('data:application/octet-stream;base64,' + Buffer.from(bytes).toString('base64'), {
    cache,
  });
  assert.equal(kept.size, 0, 'an address that is never met again');

  // No room, which is known after the first bytes: what follows is verified as it comes.
  storage.estimate = async () => ({ quota: 1e5, usage: 1e5 });
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  assert.equal((await check(url, { cache, sha256, onWarning })).networkBytes, bytes.length);
  assert.match(String(warnings.at(-1)), /cannot be kept on this device/);
});

test('a model is deleted with its heads, wherever they lie', async (t) => {
  const kept = memoryCaches(t);
  const heads = new Uint8Array(await tinyHeads());
  const { address, url } = await serve(
    {},
    {
      '/tiny.gguf': tinyBytes,
      '/split-00001-of-00001.gguf': tinyBytes,
      '/split.exits.gguf': heads,
      '/elsewhere/tuned.gguf': heads,
    },
  );
  for (const [source, more] of /** @type {[string, object][]} */ ([
    [`${address}/split-00001-of-00001.gguf`, {}],
    [url, { heads: `${address}/elsewhere/tuned.gguf` }],
    [url, { heads: `${address}/elsewhere/tuned.gguf`, kvMaps: true }],
  ])) {
    const lm = await ExitLM.load(source, { worker: false, cache: 'cache-api', ...more });
    await lm.ready;
    await lm.dispose();
    assert.ok(lm.exits);
    assert.ok((await ExitLM.cache.list()).length >= 2);
    assert.equal(await ExitLM.cache.delete(source), true);
    assert.deepEqual([...kept.keys()], []);
    assert.equal(await ExitLM.cache.delete(source), false);
  }
});

test('on an insecure page long addresses that begin alike are kept apart', async (t) => {
  const { crypto } = globalThis;
  const set = (/** @type {unknown} */ value) =>
    Object.defineProperty(globalThis, 'crypto', { value, configurable: true });
  set({ getRandomValues: crypto.getRandomValues.bind(crypto) });
  t.after(() => set(crypto));
  const paths = ['1', '2'].map((name) => `/${'long/'.repeat(30)}${name}.gguf`);
  const { address } = await serve({}, Object.fromEntries(paths.map((path) => [path, bytes])));
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) =>
      void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  for (const first of [true, false])
    for (const path of paths)
      assert.equal((await check(address + path, { cache })).networkBytes > 0, first);
});

/** @param {import('node:test').TestContext} t @returns {Map<string, Uint8Array>} what is in it */
function memoryCaches(t) {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    match: async (/** @type {string} */ key) => kept.has(key) && new Response(kept.get(key)),
    put: async (/** @type {string} */ key, /** @type {Response} */ response) =>
      void kept.set(key, new Uint8Array(await response.arrayBuffer())),
    delete: async (/** @type {string} */ key) => kept.delete(key),
    keys: async () => [...kept.keys()].map((url) => ({ url })),
  };
  const caches = { open: async () => cache, has: async () => true };
  Object.assign(globalThis, { caches });
  t.after(() => Reflect.deleteProperty(globalThis, 'caches'));
  return kept;
}

test('a download that was broken off goes on where it was', async () => {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) =>
      void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  const { url, behaviour } = await serve({ bytesPerSecond: bytes.length });
  const partly = async () => {
    /** @type {(value?: unknown) => void} */
    let enough = () => {};
    const some = new Promise((resolve) => {
      enough = resolve;
    });
    const lm = await ExitLM.load(url, {
      ...options,
      cache,
      onProgress: ({ loaded }) => void (loaded > bytes.length / 3 && enough()),
    });
    await some;
    await lm.dispose();
  };
  await partly();
  behaviour.bytesPerSecond = 0;
  const { networkBytes } = await check(url, { cache });
  assert.ok(networkBytes < bytes.length * 0.9, `${networkBytes} of ${bytes.length} came again`);
  // the same, but the server has another file by now
  kept.clear();
  behaviour.bytesPerSecond = bytes.length;
  await partly();
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

for (const [name, cache] of /** @type {[string, () => any][]} */ ([
  [
    'full',
    () => {
      let puts = 0;
      return {
        get: async () => undefined,
        put: async () => {
          if (++puts > 2) throw new DOMException('full', 'QuotaExceededError');
        },
      };
    },
  ],
  ['none', () => 'none'],
])) {
  test(`a checksum is of the bytes that the engine has, and they come once: cache ${name}`, async () => {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    /** Some byte is damaged when it comes for the first time. */
    const at = bytes.length - 5000;
    let damage = true;
    let sent = 0;
    const fetchDamaged = async (/** @type {any} */ url, /** @type {any} */ init) => {
      const response = await fetch(url, init);
      const body = new Uint8Array(await response.arrayBuffer());
      sent += body.length;
      const from = Number(
        /^bytes (\d+)/.exec(response.headers.get('content-range') ?? '')?.[1] ?? 0,
      );
      if (damage && from <= at && at < from + body.length) {
        body[at - from] ^= 1;
        damage = false;
      }
      return new Response(body, { status: response.status, headers: response.headers });
    };
    const { url } = await serve();
    const load = () =>
      ExitLM.load(url, {
        ...options,
        sha256,
        cache: cache(),
        fetch: fetchDamaged,
        onWarning: () => {},
      });
    await assert.rejects(
      load().then((lm) => lm.ready),
      code('CHECKSUM'),
    );
    assert.equal(damage, false);
    sent = 0;
    const lm = await load().catch((error) => error);
    const whole = await Promise.resolve(lm.ready ?? Promise.reject(lm)).then(
      () => true,
      (error) => code('CHECKSUM', /could not be verified/)(error) && false,
    );
    if (whole) assert.equal(await say(lm), await reference);
    assert.ok(sent <= 1.05 * bytes.length, `${sent} of ${bytes.length} bytes were sent`);
    if (whole) await lm.dispose();
    // A copy that breaks off in the middle leaves nothing to verify, unless all came as one stream
    // before that.
    if (name === 'none') assert.ok(whole);
  });
}

test('a file that came out of order is verified by its copy; what the copy has lost is not fetched again', async () => {
  const file = new Uint8Array(1000).map((_, i) => i);
  const hash = () => {
    const sha = createHash('sha256');
    return /** @type {any} */ ({
      call: () => 1,
      staged: (/** @type {Uint8Array} */ taken) => sha.update(taken),
      with: (/** @type {number} */ _, /** @type {(at: number) => unknown} */ body) => body(0),
      text: () => sha.digest('hex'),
    });
  };
  const ranges = (/** @type {[number, number][]} */ ...list) => {
    const made = new Ranges();
    for (const [from, to] of list) made.add(from, to);
    return made;
  };
  /** @type {[number, number][]} */
  let fetched = [];
  const verify = (
    /** @type {Ranges} */ kept,
    expected = createHash('sha256').update(file).digest('hex'),
  ) => {
    fetched = [];
    return verifyKept({
      engine: hash(),
      file: 0,
      name: 'x',
      bytes: 1000,
      expected,
      have: ranges([0, 400], [450, 1000]),
      store: /** @type {any} */ ({
        has: () => kept,
        read: async (/** @type {number} */ _, /** @type {number} */ at) =>
          file.slice(at, kept.list.find(([from, to]) => from <= at && at < to)?.[1]),
        write: async () => {},
      }),
      download: async function* (from, to) {
        fetched.push([from, to]);
        yield { at: from, bytes: file.slice(from, to) };
      },
    });
  };
  await verify(ranges([0, 400], [450, 1000]));
  assert.deepEqual(
    fetched,
    [[400, 450]],
    'what lies between the tensors is fetched for the checksum alone',
  );
  await assert.rejects(
    verify(ranges([0, 400], [450, 1000]), '1'.repeat(64)),
    code('CHECKSUM', /was expected/),
  );
  for (const kept of [
    ranges([0, 400], [450, 900]),
    ranges([0, 400]),
    ranges([0, 300], [450, 1000]),
    ranges(),
  ]) {
    await assert.rejects(verify(kept), code('CHECKSUM', /could not be verified/));
    assert.ok(
      fetched.every(([from, to]) => from >= 400 && to <= 450),
      'what the engine has is not fetched anew',
    );
  }
});

test('heads beside the model are looked for, and their absence is no error', async () => {
  const { url, seen } = await serve();
  const lm = await ExitLM.load(url, { worker: false });
  assert.equal(lm.exits, null);
  assert.ok(seen.some((s) => s.url === '/tiny.exits.gguf'));
  await lm.dispose();
});

test('of a heads file only what is needed is fetched, where the server has ranges', async () => {
  const heads = new Uint8Array(
    fs.readFileSync(new URL('../../models/smollm2-135m-instruct.exits.gguf', import.meta.url)),
  );
  const lean = withoutMaps(heads);
  const { signal } = new AbortController();
  for (const ranges of [true, false]) {
    const server = await modelServer(
      { '/x.exits.gguf': heads, '/lean.gguf': lean, '/tiny.gguf': tinyBytes.subarray(0, 5000) },
      { ranges },
    );
    servers.push(server);
    const fetched = await downloadWithoutMaps(
      httpSource(`${server.address}/x.exits.gguf`, fetch),
      false,
      signal,
    );
    assert.deepEqual(fetched, lean);
    const sent = server.seen.reduce((sum, s) => sum + s.sent, 0);
    if (ranges) assert.ok(sent < 1.4 * lean.length, `${sent} bytes for ${lean.length}`);
    assert.deepEqual(
      await downloadWithoutMaps(httpSource(`${server.address}/lean.gguf`, fetch), false, signal),
      lean,
    );
    assert.deepEqual(
      await downloadWithoutMaps(httpSource(`${server.address}/tiny.gguf`, fetch), false, signal),
      new Uint8Array(tinyBytes.subarray(0, 5000)),
      'what is no heads file comes as it is',
    );
    await assert.rejects(
      downloadWithoutMaps(httpSource(`${server.address}/none`, fetch), false, signal),
      { code: 'HTTP' },
    );
  }
});

test('K/V maps that come after their heads are kept, and so are the heads', async () => {
  const file = new Uint8Array(
    fs.readFileSync(new URL('../../models/smollm2-135m-instruct.exits.gguf', import.meta.url)),
  );
  const server = await modelServer({ '/x.exits.gguf': file }, {});
  servers.push(server);
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  /** @type {Record<string, (args: any) => unknown>} */
  const caller = {
    cacheGet: ({ key }) => kept.get(key),
    cachePut: ({ key, bytes: value }) => void kept.set(key, value.slice()),
    cacheDelete: ({ key }) => kept.delete(key),
  };
  const peer = /** @type {any} */ ({
    call: async (/** @type {string} */ method, /** @type {any} */ args) => caller[method](args),
  });
  /** @type {Uint8Array[]} */
  const given = [];
  const engine = /** @type {any} */ ({
    withBytes: (/** @type {Uint8Array} */ taken) => given.push(taken),
  });
  const means = {
    engine,
    pieces: /** @type {any} */ ({ sumOf: () => null }),
    signal: new AbortController().signal,
    openCopy: (/** @type {string} */ key) => openStore('remote', key, peer),
    keeping: (/** @type {Promise<unknown>} */ promise) => void all.push(promise),
  };
  /** @type {Promise<unknown>[]} */
  const all = [];
  const heads = {
    source: httpSource(`${server.address}/x.exits.gguf`, fetch),
    key: `${server.address}/x.exits.gguf`,
    optional: false,
    sha256: null,
  };
  for (const visit of [1, 2]) {
    const before = server.seen.length;
    await loadHeads(means, heads, null);
    await loadMaps(means, heads, 1);
    await Promise.all(all);
    assert.equal(server.seen.length > before, visit === 1, `visit ${visit}`);
  }
  assert.deepEqual(given[2], given[0]);
  assert.deepEqual(given[3], given[1]);
  assert.ok(given[0].length < given[1].length);
});

test('JSON is asked for without a range, so that it may come compressed; one that breaks off goes on', async () => {
  const value = { list: Array.from({ length: 20_000 }, (_, i) => i) };
  const file = new TextEncoder().encode(JSON.stringify(value));
  const { signal } = new AbortController();
  for (const gzip of [true, false]) {
    const server = await modelServer(
      { '/manifest.json': file },
      { gzip, cutAfter: (/** @type {number} */ n) => (n < 2 ? 9000 : null) },
    );
    servers.push(server);
    assert.deepEqual(
      await downloadJson(httpSource(`${server.address}/manifest.json`, fetch), { signal }),
      value,
    );
    assert.ok(server.seen.length === 3);
    assert.equal(server.seen[0].range, null);
  }
});

test('an answer of another origin, whose compression the browser does not show', async () => {
  const hiding = async (/** @type {string} */ url, /** @type {any} */ init) => {
    const { ok, status, headers, body } = await fetch(url, init);
    const shown = new Headers(headers);
    shown.delete('content-encoding');
    return /** @type {any} */ ({ ok, status, headers: shown, body });
  };
  const value = { list: Array.from({ length: 20_000 }, (_, i) => i) };
  const server = await modelServer(
    {
      '/manifest.json': new TextEncoder().encode(JSON.stringify(value)),
      // random weights grow when they are compressed; these shrink
      '/tiny.gguf': zeroTail(bytes),
    },
    { gzip: true, ranges: false },
  );
  servers.push(server);
  const { signal } = new AbortController();
  assert.deepEqual(
    await downloadJson(httpSource(`${server.address}/manifest.json`, hiding), { signal }),
    value,
  );
  const lm = await ExitLM.load(`${server.address}/tiny.gguf`, { ...options, fetch: hiding });
  await lm.ready;
  await lm.dispose();
});

/** @param {Uint8Array} file @returns {Uint8Array} its last third zero */
const zeroTail = (file) => file.slice().fill(0, Math.floor((2 * file.length) / 3));

test('rows of the shortlist come in the stretches of the plan, however often generation waits for one', async () => {
  const server = await modelServer(
    { '/tiny.gguf': new Uint8Array(tinyBytes) },
    { bytesPerSecond: 400_000 },
  );
  servers.push(server);
  const lm = await ExitLM.load(`${server.address}/tiny.gguf`, {
    worker: false,
    heads: await tinyHeads(),
    cache: 'none',
  });
  await lm.complete('Once upon a time', { maxTokens: 12, mode: 'exit', accuracy: 0.95 }).result;
  await lm.ready;
  const { networkBytes } = await lm.memory();
  await lm.dispose();
  assert.ok(networkBytes <= bytes.length + 16 * 1024, `${networkBytes} of ${bytes.length}`);
  assert.ok(server.seen.length <= 24, `${server.seen.length} requests`);
});

test('the plan for ranges: every byte once, the shortlist of inner heads and the layers before the rest', () => {
  const row = 600;
  /** @type {import('../../web/src/loading/plan.js').Extent[]} */
  const extents = [];
  const put = (
    /** @type {number} */ layer,
    /** @type {number} */ offset,
    /** @type {number} */ nBytes,
  ) => extents.push({ part: 0, offset, nBytes, layer, row: 0, nRows: 1, output: false });
  const early = new Set(Array.from({ length: 40 }, (_, i) => 9 * i));
  const late = new Set(Array.from({ length: 100 }, (_, i) => 37 * i + 1));
  put(-1, 0, 100);
  for (const i of early) put(-2, 1000 + i * row, row);
  for (let layer = 0; layer < 4; layer++) put(layer, 3_000_000 + layer * 1_000_000, 1_000_000);
  for (const i of late) put(-2, 1000 + i * row, row);
  for (let i = 0; i < 4000; i++) if (!early.has(i) && !late.has(i)) put(-3, 1000 + i * row, row);
  for (const requestBytes of [500, 4096, 2 ** 20]) {
    const { jobs, rows } = jobsByRange(extents, requestBytes);
    const all = new Ranges();
    for (const { from, to } of [...jobs, ...rows]) {
      assert.equal(
        all.missing(from, to).reduce((sum, [a, b]) => sum + b - a, 0),
        to - from,
        'no byte is planned twice',
      );
      all.add(from, to);
    }
    assert.equal(all.total, 100 + 4000 * row + 4_000_000);
    const uses = (/** @type {typeof jobs} */ list) =>
      list.map(({ use }) => use).filter((use, i, same) => use !== same[i - 1]);
    const order = ['early', 'layer', 'late', 'other'];
    for (const list of [jobs, rows])
      assert.deepEqual(
        uses(list),
        order.filter((use) => uses(list).includes(/** @type {any} */ (use))),
      );
    const has = (/** @type {string} */ use, /** @type {number} */ i) =>
      [...jobs, ...rows].some(
        (job) => job.use === use && job.from <= 1000 + i * row && 1000 + i * row < job.to,
      );
    for (const i of early) assert.ok(has('early', i));
    for (const i of late) assert.ok(has('early', i) || has('late', i));
    if (requestBytes === 500) assert.ok(rows.length > 200, `${rows.length}`);
    if (requestBytes === 2 ** 20) assert.ok(rows.length + jobs.length < 10);
  }
});

const real = new URL('../../models/smollm2-135m-instruct.gguf', import.meta.url);

test(
  'the real model comes into memory once: no second copy, no listeners left',
  { skip: !fs.existsSync(real) },
  async () => {
    const model = fs.readFileSync(real);
    const server = await modelServer({ '/model.gguf': model }, { bytesPerSecond: 40e6 });
    servers.push(server);
    /** @type {string[]} */
    const warnings = [];
    const onWarning = (/** @type {Error} */ { message }) => warnings.push(message);
    process.on('warning', onWarning);
    const before = process.memoryUsage().arrayBuffers;
    let peak = 0;
    const timer = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
    }, 5);
    const lm = await ExitLM.load(`${server.address}/model.gguf`, {
      ...options,
      cache: 'none',
      threads: 1,
    });
    await say(lm);
    await lm.ready;
    clearInterval(timer);
    process.off('warning', onWarning);
    const memory = await lm.memory();
    await lm.dispose();
    assert.ok(
      memory.total < memory.model + memory.session + 8e6,
      `${memory.total} bytes of linear memory, ${memory.model} + ${memory.session} were announced`,
    );
    // Pieces on their way through a socket, the server's and this one's, until they are collected.
    assert.ok(peak < model.length / 2, `${peak} bytes beside it`);
    assert.deepEqual(warnings, []);
  },
);
