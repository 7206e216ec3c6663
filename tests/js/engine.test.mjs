// The engine's memory and structs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { Engine } from '../../web/src/engine/engine.js';
import { ExitLM, ExitLMError } from '../../web/src/index.js';
import { canMake, makeTiny, scratch } from './support/cli.mjs';
import { tinyPath } from './support/tiny-model.mjs';

const hi = [{ role: 'user', content: 'Hi, how are you?' }];

test('addresses over 2 GB', async (t) => {
  const say = async () => {
    const lm = await ExitLM.load(tinyPath, { worker: false, heads: false, threads: 1 });
    const { text } = await lm.chat(hi, { maxTokens: 12, stop: ['never said'] }).result;
    const { total } = await lm.memory();
    await lm.dispose();
    return { text, total };
  };
  const below = await say();
  const { create } = Engine;
  t.after(() => void (Engine.create = create));
  Engine.create = async (module, memory) => {
    const engine = await create.call(Engine, module, memory);
    for (let i = 0; i < 3; i++) engine.alloc(0.7 * 2 ** 30); // costs nothing until it is touched
    return engine;
  };
  const above = await say();
  assert.ok(above.total > 2.1 * 2 ** 30, `${above.total} bytes`);
  assert.equal(above.text, below.text);
});

test(
  'K and V of 4 GiB each are no K and V of none, where a size has 32 bits',
  { skip: !canMake && 'needs build/tests/make_tiny' },
  async () => {
    const file = scratch('long.gguf');
    const sizes = {
      'dim': 256,
      'heads': 4,
      'kv-heads': 4,
      'head-dim': 64,
      'layers': 4,
      'ctx': 1048576,
    };
    makeTiny(file, ...Object.entries(sizes).flatMap(([name, n]) => [`--${name}`, String(n)]));
    const long = { worker: false, heads: /** @type {const} */ (false), kvType: 'f32' };
    await assert.rejects(
      ExitLM.load(file, /** @type {any} */ ({ ...long, contextLength: sizes.ctx })),
      { code: 'OUT_OF_MEMORY' },
    );
    await (await ExitLM.load(file, /** @type {any} */ (long))).dispose();
  },
);

test("the K/V cache's type follows the device's memory, and what is chosen is said", async (t) => {
  const { navigator } = globalThis;
  const set = (/** @type {unknown} */ value) =>
    Object.defineProperty(globalThis, 'navigator', { value, configurable: true });
  t.after(() => set(navigator));
  const load = async (/** @type {unknown} */ device, /** @type {object} */ options = {}) => {
    set(device);
    /** @type {string[]} */
    const warnings = [];
    const lm = await ExitLM.load(tinyPath, {
      worker: false,
      heads: false,
      threads: 1,
      onWarning: (message) => void warnings.push(message),
      ...options,
    });
    const { kvType, memory } = lm.info;
    await lm.dispose();
    return { kvType, bytes: memory.session, warnings };
  };
  const large = await load({ deviceMemory: 8 });
  assert.deepEqual([large.kvType, large.warnings], ['f32', []]);
  const mac = 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15';
  assert.equal((await load({ userAgent: mac, maxTouchPoints: 0 })).kvType, 'f32');
  for (const device of [
    { deviceMemory: 4 },
    { userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X)' },
    { userAgent: mac, maxTouchPoints: 5 },
  ]) {
    const small = await load(device);
    assert.equal(small.kvType, 'q8');
    assert.ok(small.bytes < large.bytes);
    assert.match(small.warnings.join(), /K\/V cache is of type q8.*kvType: 'f32'/);
    const asked = await load(device, { kvType: 'f32' });
    assert.deepEqual([asked.kvType, asked.warnings], ['f32', []]);
  }
  const { create } = Engine;
  t.after(() => void (Engine.create = create));
  Engine.create = async (module, memory) => {
    const engine = await create.call(Engine, module, memory);
    const { make } = engine;
    t.mock.method(engine, 'make', (/** @type {any[]} */ ...args) => {
      if (args[0] === 'session_create' && tries++ === 0)
        throw new ExitLMError('OUT_OF_MEMORY', 'no room');
      return make.apply(engine, /** @type {any} */ (args));
    });
    return engine;
  };
  let tries = 0;
  const tight = await load({ deviceMemory: 8 });
  assert.deepEqual([tight.kvType, tight.warnings.length, tries], ['q8', 1, 2]);
});

test('a value without a field is refused, one that is undefined is not', async () => {
  const wasm = fs.readFileSync(new URL('../../web/dist/exitlm-simd.wasm', import.meta.url));
  const engine = await Engine.create(await WebAssembly.compile(wasm));
  const struct = engine.create('generate_options', { topK: 3, maxTokens: undefined });
  assert.equal(engine.read('generate_options', struct).topK, 3);
  assert.throws(
    () => engine.write('generate_options', struct, { topQ: 1 }),
    /no field generate_options\.topQ/,
  );
});
