// Packed models: what `exitlm pack` writes, put back and loaded. On the tiny random model and the native program.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { jobsByShard, parseManifest } from '../../web/src/manifest.js';
import { bad, built, good, scratch, tiny } from './support/cli.mjs';
import { modelServer } from './support/model-server.mjs';

const folder = scratch('packed', undefined);
const bytes = fs.readFileSync(tiny);
const hash = (/** @type {Uint8Array} */ b) => createHash('sha256').update(b).digest('hex');
const options = { worker: false, heads: /** @type {false} */ (false) };
const say = async (/** @type {ExitLM} */ lm) => (await lm.complete('Once upon a time', { maxTokens: 12 }).result).text;

/** @type {any} */
let manifest;
/** @type {Record<string, Uint8Array>} */
const files = {};
/** @type {string} */
let expected;
/** @type {{ close(): Promise<void> }[]} */
const servers = [];
after(() => Promise.all(servers.map((s) => s.close())));

before(async () => {
  if (!built) return;
  good(['pack', tiny, '-o', folder, '--heads', 'none']);
  manifest = JSON.parse(fs.readFileSync(path.join(folder, 'manifest.json'), 'utf8'));
  for (const name of fs.readdirSync(folder)) files[`/m/${name}`] = new Uint8Array(fs.readFileSync(path.join(folder, name)));
  const lm = await ExitLM.load(bytes, options);
  expected = await say(lm);
  await lm.dispose();
});

const serve = async (/** @type {any} */ behaviour = {}, /** @type {any} */ own = files) => {
  const server = await modelServer(own, behaviour);
  servers.push(server);
  return { ...server, url: `${server.address}/m/manifest.json` };
};

test('put back by its extents it is the original', { skip: !built }, () => {
  const m = parseManifest(manifest, 'manifest.json');
  const whole = new Uint8Array(m.bytes);
  for (const { file, sha256, extents } of m.shards) {
    const shard = files[`/m/${file}`];
    assert.equal(hash(shard), sha256);
    let at = 0;
    for (const { offset, bytes: n } of extents) {
      whole.set(shard.subarray(at, at + n), offset);
      at += n;
    }
  }
  assert.equal(hash(whole), hash(bytes));
  assert.equal(m.sha256, hash(bytes));
  assert.equal(m.files[0].sha256, hash(bytes));
  assert.equal(m.shards[0].extents[0].layer, -4);
});

test('a packed model, over HTTP, with and without ranges, and from a folder', { skip: !built }, async () => {
  for (const source of [(await serve()).url, (await serve({ ranges: false })).url, path.join(folder, 'manifest.json')]) {
    for (const worker of [false, true]) {
      const lm = await ExitLM.load(source, { ...options, worker });
      assert.equal(await say(lm), expected);
      await lm.ready;
      await lm.dispose();
    }
  }
});

test('shards come once each, in the order of use; a broken one goes on where it was', { skip: !built }, async () => {
  const { url, seen } = await serve();
  const lm = await ExitLM.load(url, options);
  await lm.ready;
  await lm.dispose();
  const names = seen.slice(1).map((s) => s.url);
  assert.deepEqual(names, jobsByShard(parseManifest(manifest, 'm')).map(({ file }) => `/m/${manifest.shards[file].file}`));
  const broken = await serve({ cutAfter: (/** @type {number} */ n) => (n > 0 && n < 6 ? 9000 : null) });
  const again = await ExitLM.load(broken.url, options);
  assert.equal(await say(again), expected);
  await again.ready;
  assert.ok((await again.memory()).networkBytes <= bytes.length);
  await again.dispose();
});

test('a shard with another checksum, in the middle of an answer', { skip: !built }, async () => {
  const largest = manifest.shards.reduce((/** @type {any} */ a, /** @type {any} */ b) => (a.bytes > b.bytes ? a : b)).file;
  const damaged = files[`/m/${largest}`].slice();
  damaged[damaged.length - 100] ^= 1;
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) => void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  const { url } = await serve({ bytesPerSecond: bytes.length }, { ...files, [`/m/${largest}`]: damaged });
  const lm = await ExitLM.load(url, { ...options, cache });
  const reply = lm.complete('Once upon a time', { maxTokens: 12 });
  const isChecksum = (/** @type {any} */ e) => e instanceof ExitLMError && e.code === 'CHECKSUM' && e.message.includes(largest);
  await assert.rejects(reply.result, isChecksum);
  await assert.rejects(lm.ready, isChecksum);
  await assert.rejects(lm.complete('x').result, { code: 'DISPOSED' });
  assert.ok(![...kept.keys()].some((key) => /\/\d+\/\d+$/.test(key)), 'the copy is gone');
});

test('from a cache: no shard comes again; offline the manifest is the one that was kept; a new version replaces the old', { skip: !built }, async () => {
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) => void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  const own = { ...files };
  const server = await serve({}, own);
  const load = async () => {
    const lm = await ExitLM.load(server.url, { ...options, cache });
    assert.equal(await say(lm), expected);
    await lm.ready;
    const { networkBytes } = await lm.memory();
    await lm.dispose();
    return networkBytes;
  };
  assert.ok((await load()) > 0);
  const before = server.seen.length;
  assert.equal(await load(), 0);
  assert.deepEqual(server.seen.slice(before).map((s) => s.url), ['/m/manifest.json']);
  own['/m/manifest.json'] = new TextEncoder().encode(JSON.stringify({ ...manifest, sha256: 'f'.repeat(64) }));
  assert.ok((await load()) > 0, 'another version is fetched anew');
  server.behaviour.status = () => 503;
  assert.equal(await load(), 0);
});

test('manifests that are wrong', { skip: !built }, () => {
  /** @type {[string, (m: any) => void][]} */
  const damage = [
    ['format', (m) => (m.format = 2)],
    ['shards', (m) => (m.shards = {})],
    ['outside', (m) => (m.shards[0].extents[0].bytes += 1e9)],
    ['another extent', (m) => m.shards[1].extents.unshift({ ...m.shards[0].extents[0] })],
    ['no shard', (m) => m.shards.pop()],
    ['bytes or sha256', (m) => (m.files[0].sha256 = 'abc')],
    ['heads', (m) => (m.heads = {})],
  ];
  for (const [says, change] of damage) {
    const m = structuredClone(manifest);
    change(m);
    assert.throws(() => parseManifest(m, 'manifest.json'), (/** @type {any} */ e) => e.code === 'BAD_MODEL' && e.message.includes(says), says);
  }
  assert.throws(() => parseManifest(null, 'x'), { code: 'BAD_MODEL' });
});

test('wrong usage of pack', { skip: !built }, () => {
  bad(2, /-o DIR is missing/, ['pack', tiny]);
  bad(2, /at least 256K/, ['pack', tiny, '-o', folder, '--shard-size', '1K']);
  bad(1, /nowhere\.gguf/, ['pack', 'nowhere.gguf', '-o', folder]);
  bad(1, /GGUF/, ['pack', scratch('not.gguf', 'hello, this is no model'), '-o', scratch('out', undefined)]);
  bad(1, /truncated/, ['pack', scratch('short.gguf', bytes.subarray(0, bytes.length - 3000)), '-o', scratch('out2', undefined)]);
});
