// Several conversations written together, and one restored. With r the price of a row that rides along
// in a pass (of rows of one sequence, with no conversation around it, in the same run), n sessions
// can be n / (1 + (n - 1) r) times as fast as one.
//
//   node tests/bench/batch.mjs [--reps 5] [--model FILE] [--wasm]     needs, once,
//   cmake --build build --target bench_sessions
//
// --wasm: the package in Node as well, r there by prompts of 1 and n tokens.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';
import { ExitLM } from '../../web/src/index.js';
import { heads, median } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    reps: { type: 'string', default: '5' },
    model: { type: 'string', default: defaultModel },
    wasm: { type: 'boolean', default: false },
  },
});
const BAR = 0.9;
const FASTER = 20;

/**
 * @param {string} where
 * @param {{ sessions: number, mode: string, pass_ms: number, token_ms: number, depth: number }[]} rows
 */
function show(where, rows) {
  console.log(`${where}: sessions  r     tokens/s  faster  n/(1+(n-1)r)  of it  depth`);
  for (const { sessions: n, pass_ms, token_ms, depth } of rows) {
    const r = n > 1 ? (pass_ms / rows[0].pass_ms - 1) / (n - 1) : 1;
    const faster = rows[0].token_ms / token_ms;
    const limit = n > 1 ? n / (1 + (n - 1) * r) : 1;
    const of = faster / limit;
    console.log(
      ' '.repeat(where.length + 1),
      String(n).padEnd(9),
      r.toFixed(2).padEnd(5),
      (1000 / token_ms).toFixed(0).padEnd(9),
      faster.toFixed(2).padEnd(7),
      limit.toFixed(2).padEnd(13),
      of.toFixed(2).padEnd(6),
      depth.toFixed(2),
      of < BAR ? `below ${BAR}` : '',
    );
  }
}

const program = path.join(root, 'build/tests/bench_sessions');
const file = fs.existsSync(heads) ? heads : '';
const { stdout, stderr, status } = spawnSync(program, [values.model, file, values.reps], {
  encoding: 'utf8',
});
if (status !== 0) throw new Error(stderr || `${program} is not there`);
const lines = stdout
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));
for (const mode of ['full', 'exit']) {
  const rows = lines.filter((line) => line.mode === mode);
  if (rows.length) show(`native, ${mode}`, rows);
}
for (const { kv_type, restore, bytes, read_ms, save_ms, restore_ms } of lines.filter(
  (line) => line.restore,
))
  console.log(
    `${kv_type}: ${restore} tokens, ${(bytes / 1e6).toFixed(1)} MB: read in ${read_ms.toFixed(0)} ms, saved in ${save_ms.toFixed(1)} ms, restored in ${restore_ms.toFixed(1)} ms: ${(read_ms / restore_ms).toFixed(0)}x`,
    read_ms / restore_ms < FASTER ? `below ${FASTER}x` : '',
  );

if (values.wasm) {
  const lm = await ExitLM.load(values.model, {
    heads: false,
    worker: false,
    contextLength: 512,
    threads: 1,
  });
  await lm.ready;
  const counts = [1, 2, 4, 8];
  const sessions = Array.from({ length: 8 }, () => lm.session({ contextLength: 256 }));
  const options = /** @type {const} */ ({ mode: 'full', maxTokens: 33 });
  /** ms of a prompt of n tokens. @param {number} n @param {number} rep */
  const pass = async (n, rep) => {
    const words = Array.from({ length: n }, (_, i) => ` ${'abcdefgh'[(i + rep) % 8]}`).join('');
    const { timing } = await lm.complete(words, { ...options, maxTokens: 1 }).result;
    return /** @type {number} */ (timing.promptMs);
  };
  /** ms a token of n sessions. @param {number} n */
  const write = async (n) => {
    const replies = sessions
      .slice(0, n)
      .map((session, i) => session.complete(`${'Once upon a time '.repeat(8)}${i}`, options));
    let tokens = 0;
    let from = 0;
    let begun = 0;
    await Promise.all(
      replies.map(async (reply) => {
        for await (const { index } of reply) {
          if (index === 0 && ++begun === n) from = performance.now();
          else if (begun === n) tokens++;
        }
      }),
    );
    return (performance.now() - from) / tokens;
  };
  const all = counts.map((n) => ({
    n,
    pass: /** @type {number[]} */ ([]),
    token: /** @type {number[]} */ ([]),
  }));
  for (let rep = 0; rep < Number(values.reps); rep++)
    for (const one of all) {
      const some = [];
      for (let k = 0; k < 8; k++) some.push(await pass(one.n, k + 8 * rep));
      one.pass.push(median(some));
      one.token.push(await write(one.n));
    }
  show(
    `wasm (${lm.info.kernel}) in Node, full`,
    all.map(({ n, pass: passes, token }) => ({
      sessions: n,
      mode: 'full',
      pass_ms: median(passes),
      token_ms: median(token),
      depth: 1,
    })),
  );
  await lm.dispose();
}
