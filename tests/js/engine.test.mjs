// The engine's memory and structs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { Engine } from '../../web/src/engine/engine.js';
import { ExitLM } from '../../web/src/index.js';
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
