// The same logits in a page as natively, bit for bit: every variant of the package's engine in
// Chromium, relaxed SIMD among them.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { root, runEngine } from '../answers/tools.mjs';
import { start } from './browser.mjs';

/** @type {Awaited<ReturnType<typeof start>>} */
let it;
before(async () => {
  it = await start();
});
after(() => it.close());

const ids = Array.from({ length: 60 }, (_, i) => (i * i * 7 + 3 * i) % 300);

/**
 * In the page: logits [ids.length - 1][vocab] of tests/data/tiny.gguf, and the kernel that made
 * them.
 */
async function score(/** @type {{ variant: string, ids: number[] }} */ { variant, ids: tokens }) {
  const { createSharedEngine, Engine, needsSharedMemory } = await import(
    /** @type {any} */ ('/web/src/engine/engine.js')
  );
  const { loadModel, openSession, vocabOf } = await import(
    /** @type {any} */ ('/tests/answers/bare.mjs')
  );
  const module = await WebAssembly.compileStreaming(fetch(`/web/dist/exitlm-${variant}.wasm`));
  const engine = needsSharedMemory(module)
    ? await createSharedEngine(module)
    : await Engine.create(module);
  const file = new Uint8Array(await (await fetch('/tests/data/tiny.gguf')).arrayBuffer());
  const model = loadModel(engine, file);
  const vocab = vocabOf(engine, model);
  const session = openSession(engine, model, { contextTokens: tokens.length });
  const idsAt = engine.alloc(4 * tokens.length);
  const logits = engine.alloc(4 * vocab * (tokens.length - 1));
  tokens.forEach((id, i) => engine.view.setInt32(idsAt + 4 * i, id, true));
  engine.run('session_score', session, idsAt, tokens.length, logits);
  return {
    kernel: engine.text(engine.call('session_kernel', session)),
    rows: tokens
      .slice(1)
      .map((_, i) =>
        Array.from({ length: vocab }, (__, j) =>
          engine.view.getFloat32(logits + 4 * (i * vocab + j), true),
        ),
      ),
  };
}

for (const [variant, kernel] of [
  ['simd', 'simd128'],
  ['relaxed', 'relaxed'],
  ['simd-mt', 'simd128'],
  ['relaxed-mt', 'relaxed'],
]) {
  test(`exitlm-${variant}.wasm in Chromium agrees with the native program`, async () => {
    const { positions } = await runEngine(path.join(root, 'tests/data/tiny.gguf'), ids, {
      top: 1000,
    });
    const page = await it.open('/tests/page/blank.html');
    const result = await page.evaluate(score, { variant, ids });
    // relaxed16: where the processor multiplies so
    assert.ok(result.kernel.startsWith(kernel), result.kernel);
    assert.equal(result.rows.length, positions.length);
    positions.forEach(({ top }, i) => {
      assert.equal(top.length, result.rows[i].length, 'natively every logit was printed');
      for (const { id, logit } of top)
        assert.ok(
          Object.is(result.rows[i][id], Math.fround(logit)),
          `position ${i + 1}, id ${id}: ${result.rows[i][id]}, natively ${logit}`,
        );
    });
    await page.context().close();
  });
}
