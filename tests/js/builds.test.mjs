// Conversations under random options, by the native program and by its WASI module: the same events.
// EXITLM_SEED=N repeats what failed, EXITLM_STRESS=N makes it so many times as long.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { WASI } from 'node:wasi';
import { wasiImports } from '../../web/src/client/program.mjs';
import { randomFrom } from './support/cuts.mjs';
import { built, canMake, lines, makeTiny, root, run, scratch } from './support/cli.mjs';
import { tinyHeads } from './support/tiny-model.mjs';

const module = path.join(root, 'build/exitlm.wasm');
const skip = (!built || !canMake || !fs.existsSync(module)) && 'a build is missing';
const rounds = Number(process.env.EXITLM_STRESS ?? 1);
const seed = Number(process.env.EXITLM_SEED ?? Date.now() % 2 ** 31);

const ARCHITECTURES = [
  ['llama'],
  ['qwen2'],
  ['qwen3', '--head-dim', '16'],
  ['smollm3'],
  ['gemma3', '--head-dim', '32', '--kv-heads', '1', '--window', '24'],
  ['gptneox', '--rope-dims', '4', '--untied'],
  ['phi2', '--rope-dims', '8', '--untied'],
];
/** What differs by time or build. */
const OF_THE_RUN = /^(ms|.*_ms|tokens_per_second|threads|kernel)$/;
/** How far mode lossless drafts depends on how long work takes here. */
const OF_DRAFTS = /^(layer|depth|work|head|confidence|draft.*|accept.*|mean_.*|exits)$/;

/** @param {{ status: number | null, out: string, err: string }} ran @param {boolean} drafting */
const told = ({ status, out, err }, drafting) => ({
  status,
  err,
  events: (out ? lines(out) : []).map((event) =>
    Object.fromEntries(
      Object.entries(event).filter(
        ([name]) => !OF_THE_RUN.test(name) && !(drafting && OF_DRAFTS.test(name)),
      ),
    ),
  ),
});

/** @param {WebAssembly.Module} program @param {string} folder @param {string[]} args */
async function inWasi(program, folder, args) {
  const file = (/** @type {string} */ name) => path.join(folder, name);
  const open = [
    fs.openSync(file('turns'), 'r'),
    fs.openSync(file('out'), 'w'),
    fs.openSync(file('err'), 'w'),
  ];
  const wasi = new WASI({
    version: 'preview1',
    args: ['exitlm', ...args],
    preopens: { '.': folder },
    returnOnExit: true,
    stdin: open[0],
    stdout: open[1],
    stderr: open[2],
  });
  const status = wasi.start(
    /** @type {object} */ (await WebAssembly.instantiate(program, wasiImports(wasi))),
  );
  for (const fd of open) fs.closeSync(fd);
  const [out, err] = ['out', 'err'].map((name) => fs.readFileSync(file(name), 'utf8'));
  return { status, out, err };
}

describe(`the native program and the WASI module, seed ${seed}`, { skip }, async () => {
  const program = skip ? null : await WebAssembly.compile(fs.readFileSync(module));
  for (let i = 0; i < rounds * ARCHITECTURES.length; i++) {
    const [architecture, ...shape] = ARCHITECTURES[i % ARCHITECTURES.length];
    test(architecture, async () => {
      const random = randomFrom((seed + i * 7919) % 2 ** 31);
      for (let j = 0; j < 4; j++) random(); // seeds that are close begin alike
      const one = (/** @type {any[]} */ list) => list[Math.floor(random() * list.length)];
      const model = scratch(`${architecture}/model.gguf`, '');
      const folder = path.dirname(model);
      makeTiny(
        model,
        '--arch',
        architecture,
        '--type',
        one(['mixed', 'Q8_0', 'Q4_1', 'F16']),
        ...shape,
      );
      fs.writeFileSync(
        path.join(folder, 'model.exits.gguf'),
        await tinyHeads(undefined, fs.readFileSync(model)),
      );
      const turns = Array.from({ length: 3 }, () =>
        Array.from({ length: 1 + Math.floor(random() * 12) }, () =>
          one(['what', 'is', 'Ü', '7', '  ', '{"a":', 'harbour', '🦊', '<|im_end|>', 'and']),
        ).join(' '),
      );
      fs.writeFileSync(path.join(folder, 'turns'), `${turns.join('\n')}\n`);
      const mode = one(['full', 'exit', 'exit', 'lossless']);
      const options = ['--mode', mode, '--max-tokens', String(4 + Math.floor(random() * 28))];
      options.push(
        '--seed',
        String(Math.floor(random() * 1e9)),
        '--kv-type',
        one(['f32', 'f16', 'q8']),
      );
      const maybe = (/** @type {string} */ name, /** @type {any[]} */ values) => {
        if (random() < 0.5) options.push(name, String(one(values)));
      };
      maybe('--temp', [0.3, 0.8, 1.5]);
      maybe('--top-k', [1, 5, 40]);
      maybe('--top-p', [0.5, 0.95]);
      maybe('--min-p', [0.05, 0.3]);
      maybe('--repeat-penalty', [0.8, 1.3]);
      maybe('--ctx', [128, 256]);
      maybe('--stop', ['e', ' the']);
      maybe('--logprobs', [0, 3]);
      if (random() < 0.3) options.push('--pattern', '[a-z ]{4,20}|[0-9]+');
      if (mode === 'exit') maybe('--audit', [0.5, 1]);
      if (mode === 'exit') maybe('--accuracy', [0.9, 0.95]);
      const native = run(
        ['chat', model, ...options, '--json', '--threads', String(1 + Math.floor(random() * 3))],
        { input: fs.readFileSync(path.join(folder, 'turns')) },
      );
      const args = ['chat', 'model.gguf', ...options, '--json'];
      const there = await inWasi(/** @type {WebAssembly.Module} */ (program), folder, args);
      assert.deepEqual(
        told(there, mode === 'lossless'),
        told(native, mode === 'lossless'),
        `EXITLM_SEED=${seed}: ${options.join(' ')}`,
      );
    });
  }
});
