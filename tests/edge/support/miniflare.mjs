// Workers of the tests in miniflare, which is workerd without wrangler.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import esbuild from 'esbuild';
import { runtimes } from './runtimes.mjs';

const wasm = fileURLToPath(new URL('../../../web/dist/exitlm-relaxed.wasm', import.meta.url));

/**
 * @param {string} entry the Worker's source, which imports the engine from web/dist
 * @param {(Response: any) => object[]} workers miniflare's options of each
 * @param {object} [options] of all
 */
export async function startMiniflare(entry, workers, options = {}) {
  const modules = path.dirname(path.dirname(path.dirname(runtimes().wrangler)));
  const { Miniflare, Response } = await import(
    pathToFileURL(path.join(modules, 'miniflare/dist/src/index.js')).href
  );
  const { outputFiles } = await esbuild.build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'esm',
    conditions: ['workerd', 'worker'],
    external: ['*.wasm', 'node:*'],
  });
  const code = outputFiles[0].text.replace(/"[^"\n]*exitlm-relaxed\.wasm"/g, '"./engine.wasm"');
  const common = {
    compatibilityDate: '2026-04-01',
    modules: [
      { type: 'ESModule', path: 'worker.js', contents: code },
      { type: 'CompiledWasm', path: 'engine.wasm', contents: fs.readFileSync(wasm) },
    ],
  };
  const miniflare = new Miniflare({
    ...options,
    workers: workers(Response).map((worker) => ({ ...common, ...worker })),
  });
  await miniflare.ready;
  return miniflare;
}
