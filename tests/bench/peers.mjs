// ExitLM beside its neighbours on the same machine at the same time: every round runs each engine once,
// one after the other, so that what else happens on the machine meets them all. Medians over the
// rounds; ratios to llama.cpp are medians of each round's.
//
//   npm run bench:peers -- [--rounds 5] [--engines native,node,chromium-relaxed,chromium-simd,llama.cpp,wllama]
//     [--threads 1,2] [--prompts 32,256,2000] [--contexts 40,512,2000] [--tokens 64] [--model FILE]
//     [--llama-bench PATH [--llama-model FILE]] [--ik-llama-bench PATH] [--json FILE] [--plot FILE.svg]
//
// native:KERNEL is the native program with another kernel than its best, as native:scalar. llama.cpp is
// node-llama-cpp's, as npm has it; --llama-bench is llama.cpp's own program, built for this machine
// (cmake -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON), with the same weights in the type that it is
// fastest with (llama-quantize --allow-requantize --token-embedding-type q8_0 FILE NEW Q4_0);
// --ik-llama-bench that of a fork. llama.cpp and wllama are installed at the first use.
//
// promptN: tokens/s of a prompt of N tokens; decodeN: of an answer after N tokens. Greedy, full depth,
// each engine's own K/V format. Beside each figure its share of what the machine can do, which
// bench_roofline measures in each round: of the bytes a second that so many threads read, of a token
// decoded all weights and the K/V; of the multiply-adds of int8 that they do, those of a prompt's
// matrices. Peak memory is the process's natively, elsewhere the engine's linear memory.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ExitLM } from '../../web/src/index.js';
import { defaultModel, program, root, tokenize } from '../answers/tools.mjs';
import { median } from './hosts.mjs';
import { kinds } from './peers-engines.mjs';
import { drawPeers } from './peers-plot.mjs';

const { values } = parseArgs({
  options: {
    'rounds': { type: 'string', default: '5' },
    'engines': {
      type: 'string',
      default: 'native,node,chromium-relaxed,chromium-simd,llama.cpp,wllama',
    },
    'threads': { type: 'string', default: '1,2' },
    'prompts': { type: 'string', default: '32,256,2000' },
    'contexts': { type: 'string', default: '40,512,2000' },
    'tokens': { type: 'string', default: '64' },
    'model': { type: 'string', default: defaultModel },
    'llama-bench': { type: 'string' },
    'llama-model': { type: 'string' },
    'ik-llama-bench': { type: 'string' },
    'json': { type: 'string' },
    'plot': { type: 'string' },
  },
});
const numbers = (/** @type {'threads' | 'prompts' | 'contexts'} */ option) =>
  values[option].split(',').map((text) => {
    const n = Number(text);
    if (!Number.isInteger(n) || n < 1)
      throw new Error(`--${option}: ${text} is not a whole number above 0`);
    return n;
  });
const [prompts, contexts, tokens] = [
  numbers('prompts'),
  numbers('contexts'),
  Number(values.tokens),
];
const columns = [...prompts.map((n) => `prompt${n}`), ...contexts.map((n) => `decode${n}`)];

/**
 * @typedef {object} Peer
 * @property {string} name
 * @property {keyof kinds} kind
 * @property {string} model
 * @property {string} [kernel]
 * @property {string} [llamaBench]
 */
/** @type {Peer[]} */
const wanted = values.engines.split(',').map((name) => {
  const [kind, kernel] = name.split(':');
  if (!kinds[kind])
    throw new Error(`--engines: ${name} is none of ${Object.keys(kinds).join(', ')}`);
  return { name, kind, kernel, model: values.model };
});
for (const [option, name] of /** @type {const} */ ([
  ['llama-bench', 'llama-bench'],
  ['ik-llama-bench', 'ik_llama.cpp'],
]))
  if (values[option])
    wanted.push({
      name,
      kind: 'llama-bench',
      llamaBench: values[option],
      model: values['llama-model'] ?? values.model,
    });
/** What the others are compared with. */
const yardstick = ['llama-bench', 'llama.cpp'].find((name) =>
  wanted.some((peer) => peer.name === name),
);

const text = fs.readFileSync(path.join(root, 'tests/answers/mixed.txt'), 'utf8');
const ids = tokenize(values.model, text);
const words = await ExitLM.load(values.model, { vocabularyOnly: true, heads: false });
const passage = async (/** @type {number} */ at, /** @type {number} */ length) => {
  const from = at % (ids.length - length);
  const some = ids.slice(from, from + length);
  return { ids: some, text: await words.detokenize(some) };
};

/** What one token costs, of a model file. */
const costs = (/** @type {string} */ model) => {
  const told = JSON.parse(
    execFileSync(program, ['inspect', model, '--json'], { encoding: 'utf8' }),
  );
  return {
    weightBytes: told.weight_bytes,
    kvNumbers: 2 * told.layers * told.kv_heads * told.head_dim, // a position
    promptMacs: told.macs_per_token - told.vocab * told.dim, // only the last of a prompt is answered
  };
};

const costOf = Object.fromEntries(wanted.map(({ model }) => [model, costs(model)]));

execFileSync('cmake', ['--build', path.join(root, 'build'), '--target', 'bench_roofline'], {
  stdio: ['ignore', 2, 2],
});
/** @returns {{ kernel: string, read_bytes_per_s: number, macs_per_s: number }} */
const roofline = (/** @type {number} */ threads) =>
  JSON.parse(
    execFileSync(path.join(root, 'build/tests/bench_roofline'), [`${threads}`, '0.3'], {
      encoding: 'utf8',
    }),
  );
const medianOf = (/** @type {number[]} */ all) => median(all.filter(Number.isFinite));

/** All engines with so many threads. @param {number} threads */
async function race(threads) {
  const peers = [];
  for (const { name, kind, ...more } of wanted) {
    const setup = { threads, prompts, contexts, tokens, passage, ...more };
    peers.push({
      name,
      costs: costOf[more.model],
      engine: await kinds[kind](setup),
      rounds: /** @type {import('./peers-engines.mjs').Speeds[]} */ ([]),
    });
  }
  const limits = [];
  for (let nth = 0; nth <= Number(values.rounds); nth++) {
    if (nth) limits.push(roofline(threads));
    for (const { name, engine, rounds } of peers) {
      const speeds = await engine.round(nth);
      if (nth) rounds.push(speeds); // the first warms up
      process.stderr.write(
        `${threads} thread${threads > 1 ? 's' : ''}, ${nth ? `round ${nth}` : 'warm-up'}: ${name.padEnd(17)} ${columns
          .map((column) => `${column} ${speeds[column].toFixed(1)}`)
          .join(', ')}\n`,
      );
    }
  }
  for (const { engine } of peers) await engine.close();

  const readBytes = medianOf(limits.map((l) => l.read_bytes_per_s));
  const macs = medianOf(limits.map((l) => l.macs_per_s));
  const against = peers.find(({ name }) => name === yardstick);
  return {
    threads,
    kernel: limits[0].kernel,
    read_bytes_per_s: readBytes,
    macs_per_s: macs,
    engines: peers.map(({ name, costs: cost, engine, rounds }) => ({
      name,
      peak_bytes: engine.peakBytes(),
      figures: columns.map((column) => {
        const speed = medianOf(rounds.map((speeds) => speeds[column]));
        const length = Number(/\d+$/.exec(column));
        const kv = cost.kvNumbers * engine.kvBytes * (length + tokens / 2);
        return {
          column,
          tokens_per_second: speed,
          times:
            against && name !== yardstick
              ? medianOf(rounds.map((speeds, i) => speeds[column] / against.rounds[i][column]))
              : null,
          share: column.startsWith('prompt')
            ? (speed * cost.promptMacs) / macs
            : (speed * (cost.weightBytes + kv)) / readBytes,
        };
      }),
      rounds,
    })),
  };
}

const shown = (/** @type {number} */ x, digits = 0, unit = '') =>
  Number.isFinite(x) ? x.toFixed(digits) + unit : '–';
const races = [];
for (const threads of numbers('threads')) {
  const result = await race(threads);
  races.push(result);
  console.log(`
${path.basename(values.model)}, ${values.rounds} rounds, ${threads} thread${threads > 1 ? 's' : ''}: ${shown(result.read_bytes_per_s / 1e9, 1)} GB/s read, ${shown(result.macs_per_s / 1e9)} thousand million multiply-adds/s (${result.kernel})
tokens/s (${yardstick ? `times ${yardstick}'s, ` : ''}share of that limit)

| engine | ${columns.map((c) => c.replace('prompt', 'prompt ').replace('decode', 'decode @')).join(' | ')} | memory |
|---|${columns.map(() => '---|').join('')}---|`);
  for (const { name, figures, peak_bytes: bytes } of result.engines)
    console.log(
      `| ${name} | ${figures
        .map(
          ({ tokens_per_second: speed, times, share }) =>
            `${shown(speed)} (${times === null ? '' : `${shown(times, 2)}x, `}${shown(100 * share)} %)`,
        )
        .join(' | ')} | ${shown(bytes / 1e6, 0, ' MB')} |`,
    );
}
const report = {
  model: path.basename(values.model),
  llama_model: path.basename(values['llama-model'] ?? values.model),
  rounds: Number(values.rounds),
  tokens,
  yardstick: yardstick ?? null,
  races,
};
if (values.json) fs.writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
if (values.plot) fs.writeFileSync(values.plot, drawPeers(report));
process.exit(0);
