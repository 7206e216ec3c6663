// Makes an HTTP service of a model, as one component for `wasmtime serve`:
//
//   node web/edge/wasmtime/component/build.mjs [MODEL.gguf] [-o service.wasm] [--heads FILE]
//
// With MODEL the weights (and NAME.exits.gguf beside it) are loaded now, by Wasmtime's
// pre-initialiser, and are part of the component; without it, each instance reads them from the
// folder that `wasmtime serve --dir` opens (EXITLM_MODEL, EXITLM_HEADS).
//
// Tools: wasmtime (WASMTIME; its command, 40 or later), wasm-tools (WASM_TOOLS), and the adapter
// from WASI preview 1, ADAPTER, which Wasmtime's releases and npm's @bytecodealliance/jco have
// (lib/wasi_snapshot_preview1.reactor.wasm).
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildPreset } from '../../../../wasm/setup/build.mjs';
import { SetupError, exitWith, root, setUp } from '../../../../wasm/setup/setup.mjs';

const folder = path.dirname(fileURLToPath(import.meta.url));

function run(/** @type {string} */ program, /** @type {string[]} */ args) {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (error)
    throw new SetupError(
      `${program} cannot be started (${error.message}): WASMTIME and WASM_TOOLS say where the tools are`,
    );
  if (status !== 0)
    throw new SetupError(
      `${path.basename(program)} ${args.slice(0, 2).join(' ')} failed:\n${`${stdout}${stderr}`.trim().slice(0, 2000)}`,
    );
}

/**
 * @typedef {object} ServiceOptions
 * @property {string} out the component
 * @property {string} [model] a GGUF file that becomes part of it
 * @property {string} [heads] default: NAME.exits.gguf beside the model, if it is there
 * @property {string} [wasmtime]
 * @property {string} [wasmTools]
 * @property {string} [adapter]
 */
export async function buildService(
  /** @type {ServiceOptions} */ {
    out,
    model,
    heads,
    wasmtime = process.env.WASMTIME ?? 'wasmtime',
    wasmTools = process.env.WASM_TOOLS ?? 'wasm-tools',
    adapter = process.env.ADAPTER,
  },
) {
  if (!adapter || !fs.existsSync(adapter))
    throw new SetupError(
      "ADAPTER has to name wasi_snapshot_preview1.reactor.wasm: Wasmtime's releases and npm's @bytecodealliance/jco have it",
    );
  await setUp(['wasi']);
  await buildPreset('wasi', { target: 'service', quiet: true });
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-service-'));
  const at = (/** @type {string} */ name) => path.join(work, name);
  try {
    let core = path.join(root, 'build/exitlm-service.wasm');
    if (model) {
      // No request comes while the model is loaded, so that the imports of HTTP may be missing.
      const dir = (/** @type {string} */ file, /** @type {string} */ as) => [
        '--dir',
        `${path.dirname(path.resolve(file))}::${as}`,
      ];
      run(wasmtime, [
        'wizer',
        '-W',
        'unknown-imports-trap=y',
        '--init-func',
        'initialize',
        '-S',
        'cli',
        ...dir(model, 'models'),
        '--env',
        `EXITLM_MODEL=models/${path.basename(model)}`,
        ...(heads
          ? [...dir(heads, 'heads'), '--env', `EXITLM_HEADS=heads/${path.basename(heads)}`]
          : []),
        core,
        '-o',
        at('loaded.wasm'),
      ]);
      core = at('loaded.wasm');
    }
    run(wasmTools, [
      'component',
      'embed',
      folder,
      core,
      '--world',
      'service',
      '-o',
      at('typed.wasm'),
    ]);
    run(wasmTools, [
      'component',
      'new',
      at('typed.wasm'),
      '--adapt',
      `wasi_snapshot_preview1=${adapter}`,
      '-o',
      at('component.wasm'),
    ]);
    fs.mkdirSync(path.dirname(path.resolve(out)), { recursive: true });
    fs.copyFileSync(at('component.wasm'), out);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        output: { type: 'string', short: 'o', default: 'service.wasm' },
        heads: { type: 'string' },
      },
    });
    await buildService({ out: values.output, model: positionals[0], heads: values.heads });
    console.log(
      `${values.output}: ${(fs.statSync(values.output).size / 1e6).toFixed(1)} MB; wasmtime serve -S cli ${positionals[0] ? '' : '--dir models --env EXITLM_MODEL=models/NAME.gguf '}${values.output}`,
    );
  } catch (error) {
    exitWith(error);
  }
}
