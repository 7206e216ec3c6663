// Packed models: what `exitlm pack` writes, put back and loaded. On the tiny random model and the
// native program.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { Engine } from '../../web/src/engine/engine.js';
import { jobsByShard, parseManifest } from '../../web/src/loading/manifest.js';
import {
  bad,
  built,
  canMake,
  good,
  makeTiny,
  objects,
  run,
  scratch,
  tiny,
} from './support/cli.mjs';
import { modelServer } from './support/model-server.mjs';
import { tinyHeads } from './support/tiny-model.mjs';

const folder = scratch('packed', undefined);
const bytes = fs.readFileSync(tiny);
const hash = (/** @type {Uint8Array} */ b) => createHash('sha256').update(b).digest('hex');
const options = { worker: false, heads: /** @type {false} */ (false) };
const say = async (/** @type {ExitLM} */ lm) =>
  (await lm.complete('Once upon a time', { maxTokens: 12 }).result).text;

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
  for (const name of fs.readdirSync(folder))
    files[`/m/${name}`] = new Uint8Array(fs.readFileSync(path.join(folder, name)));
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

test(
  'a packed model, over HTTP, with and without ranges, and from a folder',
  { skip: !built },
  async () => {
    for (const source of [
      (await serve()).url,
      (await serve({ ranges: false })).url,
      path.join(folder, 'manifest.json'),
    ]) {
      for (const worker of [false, true]) {
        const lm = await ExitLM.load(source, { ...options, worker });
        assert.equal(await say(lm), expected);
        await lm.ready;
        await lm.dispose();
      }
    }
  },
);

test(
  'shards come once each, in the order of use; a broken one goes on where it was',
  { skip: !built },
  async () => {
    const { url, seen } = await serve();
    const lm = await ExitLM.load(url, options);
    await lm.ready;
    await lm.dispose();
    const names = seen.slice(1).map((s) => s.url);
    assert.deepEqual(
      names,
      jobsByShard(parseManifest(manifest, 'm')).map(
        ({ file }) => `/m/${manifest.shards[file].file}`,
      ),
    );
    const broken = await serve({
      cutAfter: (/** @type {number} */ n) => (n > 0 && n < 6 ? 9000 : null),
    });
    const again = await ExitLM.load(broken.url, options);
    assert.equal(await say(again), expected);
    await again.ready;
    assert.ok((await again.memory()).networkBytes <= bytes.length);
    await again.dispose();
  },
);

test('stretches of a few bytes go into the engine together', { skip: !built }, async (t) => {
  const cut = structuredClone(manifest);
  let n = 0;
  for (const shard of cut.shards)
    shard.extents = shard.extents.flatMap((/** @type {any} */ { offset, bytes: all, ...rest }) =>
      Array.from({ length: Math.ceil(all / 61) }, (_, i) => {
        n++;
        return { ...rest, offset: offset + 61 * i, bytes: Math.min(61, all - 61 * i) };
      }),
    );
  const { url } = await serve(
    {},
    { ...files, '/m/manifest.json': new TextEncoder().encode(JSON.stringify(cut)) },
  );
  const { call } = Engine.prototype;
  let calls = 0;
  t.after(() => {
    Engine.prototype.call = call;
  });
  Engine.prototype.call = function counted(name, ...args) {
    if (/^loader_(seek|push|scatter)$/.test(name)) calls++;
    return call.call(this, name, ...args);
  };
  const lm = await ExitLM.load(url, { ...options, cache: 'none' });
  assert.equal(await say(lm), expected);
  await lm.ready;
  assert.equal(await say(lm), expected);
  await lm.dispose();
  const header = cut.shards[0].extents.length; // before it is there nothing can be scattered
  assert.ok(
    calls - 2 * header < n / 20,
    `${calls} calls for ${n} stretches, ${header} of a header`,
  );
});

test('a shard with another checksum, in the middle of an answer', { skip: !built }, async () => {
  const largest = manifest.shards.reduce((/** @type {any} */ a, /** @type {any} */ b) =>
    a.bytes > b.bytes ? a : b,
  ).file;
  const damaged = files[`/m/${largest}`].slice();
  damaged[damaged.length - 100] ^= 1;
  const kept = new Map();
  const cache = {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) =>
      void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
  const { url } = await serve(
    { bytesPerSecond: bytes.length },
    { ...files, [`/m/${largest}`]: damaged },
  );
  const lm = await ExitLM.load(url, { ...options, cache });
  const reply = lm.complete('Once upon a time', { maxTokens: 12 });
  const isChecksum = (/** @type {any} */ e) =>
    e instanceof ExitLMError && e.code === 'CHECKSUM' && e.message.includes(largest);
  await assert.rejects(reply.result, isChecksum);
  await assert.rejects(lm.ready, isChecksum);
  await assert.rejects(lm.complete('x').result, { code: 'DISPOSED' });
  assert.ok(![...kept.keys()].some((key) => /\/\d+\/\d+$/.test(key)), 'the copy is gone');
});

test('a shard of more than 256 KB is verified by its pieces', { skip: !canMake }, async () => {
  const model = scratch('large.gguf', undefined);
  makeTiny(model, '--dim', '128', '--ffn', '1024', '--layers', '4');
  const to = scratch('large', undefined);
  good(['pack', model, '-o', to, '--heads', 'none']);
  const m = JSON.parse(fs.readFileSync(path.join(to, 'manifest.json'), 'utf8'));
  const own = Object.fromEntries(
    fs.readdirSync(to).map((name) => [`/m/${name}`, fs.readFileSync(path.join(to, name))]),
  );
  const piece = 256 * 1024;
  for (const { file, bytes: n, pieces } of m.shards) {
    const sums = Array.from({ length: Math.ceil(n / piece) }, (_, i) =>
      hash(own[`/m/${file}`].subarray(i * piece, (i + 1) * piece)),
    );
    assert.deepEqual(pieces, n > piece ? sums : undefined);
  }
  const large = m.shards.find((/** @type {any} */ s) => s.pieces);
  assert.ok(large.pieces.length > 2);
  const lm = await ExitLM.load((await serve({}, own)).url, options);
  await lm.ready;
  await lm.dispose();
  const damaged = Buffer.from(own[`/m/${large.file}`]);
  damaged[piece + 7] ^= 1;
  const { url } = await serve({}, { ...own, [`/m/${large.file}`]: damaged });
  await assert.rejects(
    async () => (await ExitLM.load(url, { ...options, cache: 'none' })).ready,
    (/** @type {any} */ e) => e.code === 'CHECKSUM' && /SHA-256 of a piece/.test(e.message),
  );
  large.pieces.pop();
  assert.throws(() => parseManifest(m, 'm'), /pieces is no list/);
});

test(
  'from a cache: no shard comes again; offline the manifest is the one that was kept; a new version replaces the old',
  { skip: !built },
  async () => {
    const kept = new Map();
    const cache = {
      get: async (/** @type {string} */ key) => kept.get(key),
      put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) =>
        void kept.set(key, value.slice()),
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
    assert.deepEqual(
      server.seen.slice(before).map((s) => s.url),
      ['/m/manifest.json'],
    );
    own['/m/manifest.json'] = new TextEncoder().encode(
      JSON.stringify({ ...manifest, sha256: 'f'.repeat(64) }),
    );
    assert.ok((await load()) > 0, 'another version is fetched anew');
    server.behaviour.status = () => 503;
    assert.equal(await load(), 0);
  },
);

test('manifests that are wrong', { skip: !built }, () => {
  /** @type {[string, (m: any) => void][]} */
  const damage = [
    ['format', (m) => (m.format = 2)],
    ['files is no list', (m) => (m.files = Array(1025).fill(m.files[0]))],
    ['shards is no list', (m) => (m.shards = {})],
    ['shards is no list', (m) => (m.shards = Array(100_001).fill(m.shards[0]))],
    ['pieces is no list', (m) => (m.shards[0].pieces = Array(1000).fill(m.shards[0].sha256))],
    ['outside', (m) => (m.shards[0].extents[0].bytes += 1e9)],
    ['its extents are', (m) => m.shards[1].extents.unshift({ ...m.shards[0].extents[0] })],
    ['another extent', (m) => (m.shards[1].extents[0].offset = 0)],
    ['no shard', (m) => m.shards.pop()],
    ['bytes or sha256', (m) => (m.files[0].sha256 = 'abc')],
    ['heads without', (m) => (m.heads = {})],
    ['heads without', (m) => (m.heads = { ...m.shards[0], core: { file: 'a' } })],
  ];
  for (const [says, change] of damage) {
    const m = structuredClone(manifest);
    change(m);
    assert.throws(
      () => parseManifest(m, 'manifest.json'),
      (/** @type {any} */ e) => e.code === 'BAD_MODEL' && e.message.includes(says),
      says,
    );
  }
  assert.throws(() => parseManifest(null, 'x'), { code: 'BAD_MODEL' });
});

test('wrong usage of pack', { skip: !built }, () => {
  bad(2, /-o DIR is missing/, ['pack', tiny]);
  bad(2, /at least 256K/, ['pack', tiny, '-o', folder, '--shard-size', '1K']);
  bad(1, /nowhere\.gguf/, ['pack', 'nowhere.gguf', '-o', folder]);
  bad(1, /GGUF/, [
    'pack',
    scratch('not.gguf', 'hello, this is no model'),
    '-o',
    scratch('out', undefined),
  ]);
  bad(1, /truncated/, [
    'pack',
    scratch('short.gguf', bytes.subarray(0, bytes.length - 3000)),
    '-o',
    scratch('out2', undefined),
  ]);
});

// ---- other types ----

const heads = () => tinyHeads().then((h) => scratch('heads.gguf', Buffer.from(h)));
const put = (/** @type {string} */ from) => {
  const m = parseManifest(
    JSON.parse(fs.readFileSync(path.join(from, 'manifest.json'), 'utf8')),
    'manifest.json',
  );
  const whole = Buffer.alloc(m.bytes);
  for (const { file, extents } of m.shards) {
    const shard = fs.readFileSync(path.join(from, file));
    let at = 0;
    for (const { offset, bytes: n } of extents) {
      shard.copy(whole, offset, at, at + n);
      at += n;
    }
  }
  assert.equal(hash(whole), m.sha256);
  return { whole, manifest: m };
};
/** How many tensors there are of each type. */
const typesOf = (/** @type {string} */ file) => {
  /** @type {[string, { tensors: number }][]} */
  const types = Object.entries(objects(['inspect', file])[0].tensor_types);
  return Object.fromEntries(types.map(([type, { tensors }]) => [type, tensors]));
};
/** Mean distance of the log-probabilities that two models give the same text. */
const distance = (/** @type {string} */ a, /** @type {string} */ b) => {
  const score = (/** @type {string} */ file) =>
    objects(['score', file, '-f', 'README.md', '--ctx', '400'])
      .slice(0, -1)
      .map((o) => o.logprob);
  const [p, q] = [score(a), score(b)];
  assert.ok(p.length > 300 && p.length === q.length);
  const gaps = p.map((value, i) => Math.abs(value - q[i]));
  return gaps.reduce((sum, g) => sum + g, 0) / gaps.length;
};

test(
  '--quant and --embedding: the shards are a GGUF file of those types, whose distance from the original follows its bits',
  { skip: !built },
  async () => {
    const full = scratch('full.gguf', undefined);
    good([
      'pack',
      tiny,
      '-o',
      scratch('full', undefined),
      '--heads',
      'none',
      '--quant',
      'f32',
      '--embedding',
      'f32',
      '--gguf',
      full,
    ]);
    assert.ok(
      distance(tiny, full) < 0.2,
      'but for the inputs, which quantised matrices take in 8 bits, it is the same',
    );

    /** @type {Record<string, number>} */
    const away = {};
    for (const type of ['bf16', 'f16', 'q8_0', 'q5_1', 'q5_0', 'q4_1', 'q4_0']) {
      const to = scratch(`packed-${type}`, undefined);
      const kept = scratch(`kept-${type}.gguf`, undefined);
      good([
        'pack',
        full,
        '-o',
        to,
        '--heads',
        'none',
        '--quant',
        type,
        '--embedding',
        type,
        '--gguf',
        kept,
      ]);
      const { whole, manifest: m } = put(to);
      assert.equal(hash(whole), hash(fs.readFileSync(kept)), 'put back it is that file');
      assert.equal(m.name, `full-${type}`);
      assert.deepEqual(typesOf(kept), { F32: 13, [type.toUpperCase()]: 43 });
      away[type] = distance(full, kept);
    }
    for (const [more, less] of [
      ['q8_0', 'q5_1'],
      ['q5_1', 'q4_1'],
      ['q5_0', 'q4_0'],
      ['f16', 'q8_0'],
    ])
      assert.ok(away[more] < away[less], JSON.stringify(away));
    assert.ok(away.q4_0 > 0 && away.q8_0 < 0.3, JSON.stringify(away));
  },
);

test(
  'only the layers, only the embedding; types that are there already stay byte for byte',
  { skip: !built },
  async () => {
    const one = scratch('layers.gguf', undefined);
    good([
      'pack',
      tiny,
      '-o',
      scratch('layers', undefined),
      '--heads',
      'none',
      '--quant',
      'q8_0',
      '--gguf',
      one,
    ]);
    const other = scratch('embedding.gguf', undefined);
    good([
      'pack',
      tiny,
      '-o',
      scratch('embedding', undefined),
      '--heads',
      'none',
      '--embedding',
      'q5_1',
      '--gguf',
      other,
    ]);
    const { F32, Q8_0 } = typesOf(tiny);
    assert.deepEqual(typesOf(one), { F32, Q8_0: 43 }); // the embedding is Q8_0
    assert.deepEqual(typesOf(other), {
      ...typesOf(tiny),
      Q8_0: Q8_0 - 1,
      Q5_1: typesOf(tiny).Q5_1 + 1,
    });
    // The same once more changes nothing, not a byte: only what has another type is touched.
    const again = scratch('again.gguf', undefined);
    good([
      'pack',
      other,
      '-o',
      scratch('again', undefined),
      '--heads',
      'none',
      '--embedding',
      'q5_1',
      '--gguf',
      again,
    ]);
    assert.equal(hash(fs.readFileSync(again)), hash(fs.readFileSync(other)));
    const lm = await ExitLM.load(
      path.join(path.dirname(other), 'embedding/manifest.json'),
      options,
    );
    assert.match(await say(lm), /./);
    await lm.dispose();
  },
);

test(
  'heads of the original: left out with a warning, an error where they were named; nothing is left behind',
  { skip: !built },
  async () => {
    const beside = scratch('beside/tiny.gguf', fs.readFileSync(tiny));
    fs.copyFileSync(await heads(), scratch('beside/tiny.exits.gguf', undefined));
    const to = scratch('beside/out', undefined);
    const { status, err } = run(['pack', beside, '-o', to, '--quant', 'q8_0']);
    assert.equal(status, 0);
    assert.match(err, /^exitlm: warning: .*tiny\.exits\.gguf is left out.*exitlm train/);
    assert.equal(
      JSON.parse(fs.readFileSync(path.join(to, 'manifest.json'), 'utf8')).heads,
      undefined,
    );
    assert.deepEqual(
      fs.readdirSync(to).filter((name) => !/^shard-\d+\.bin$|^manifest\.json$/.test(name)),
      [],
    );
    const named = scratch('named', undefined);
    bad(1, /trained on other weights.*exitlm train/, [
      'pack',
      beside,
      '-o',
      named,
      '--quant',
      'q8_0',
      '--heads',
      await heads(),
    ]);
    assert.deepEqual(fs.readdirSync(named), []);
    // Those of another model are never packed.
    const { fingerprint } = JSON.parse(good(['inspect', tiny, '--json']));
    const foreign = Buffer.from(await tinyHeads());
    foreign.write('f'.repeat(64), foreign.indexOf(fingerprint));
    const other = scratch('foreign/tiny.gguf', fs.readFileSync(tiny));
    const theirs = scratch('foreign/tiny.exits.gguf', foreign);
    bad(1, /trained on other weights than .*tiny\.gguf/, [
      ...['pack', other, '-o', named, '--heads', theirs],
    ]);
    assert.deepEqual(fs.readdirSync(named), []);
    assert.match(run(['pack', other, '-o', named]).err, /warning: .*exits\.gguf is left out/);
    assert.equal(fs.existsSync(path.join(named, 'tiny.exits.gguf')), false);
    // With the types that the file has, the heads fit.
    const same = scratch('same', undefined);
    good(['pack', beside, '-o', same, '--embedding', 'q8_0']);
    const first = fs.readdirSync(same);
    const shards = first.filter((name) => name.startsWith('shard')).length;
    for (const i of [shards, shards + 1]) fs.writeFileSync(`${same}/shard-000${i}.bin`, 'older');
    good(['pack', beside, '-o', same, '--embedding', 'q8_0']);
    assert.deepEqual(fs.readdirSync(same), first, 'nothing of an earlier one');
    assert.ok(JSON.parse(fs.readFileSync(path.join(same, 'manifest.json'), 'utf8')).heads);
  },
);

test('types that do not exist or do not fit, files that are none', { skip: !built }, () => {
  const to = scratch('wrong', undefined);
  const wrong = (
    /** @type {number} */ status,
    /** @type {RegExp} */ says,
    /** @type {string[]} */ args,
    model = tiny,
  ) => bad(status, says, ['pack', model, '-o', to, '--heads', 'none', ...args]);
  wrong(2, /--quant.*q4_0/, ['--quant', 'q3_k']);
  wrong(2, /--embedding/, ['--embedding', '']);
  wrong(2, /attn_\w+\.weight has rows of 64 values, Q6_K has blocks of 256.*q8_0/, [
    '--quant',
    'q6_k',
  ]);
  wrong(2, /--gguf goes with --quant/, ['--gguf', 'x.gguf']);
  wrong(1, /cannot be written/, ['--quant', 'q8_0', '--gguf', path.join(to, 'none/such/x.gguf')]);
  wrong(1, /truncated/, ['--quant', 'q8_0'], scratch('cut.gguf', bytes.subarray(0, -20_000)));
  wrong(
    1,
    /./,
    ['--quant', 'q8_0'],
    scratch('noise.gguf', 'GGUF no such thing, but long enough to be read as one at first'),
  );
  const numbers = scratch('numbers.gguf', undefined);
  good([
    'pack',
    tiny,
    '-o',
    scratch('numbers', undefined),
    '--heads',
    'none',
    '--quant',
    'f32',
    '--gguf',
    numbers,
  ]);
  const none = fs.readFileSync(numbers).fill(0xff, bytes.length, bytes.length + 100); // not numbers
  wrong(1, /row \d+ of tensor \S+ holds a value/, ['--quant', 'q8_0'], scratch('nan.gguf', none));
  assert.deepEqual(fs.readdirSync(to), []);
});
