// ExitLM beside native llama.cpp on the same machine at the same time: every round runs each engine
// once, one after the other, so that what else happens on the machine meets them all. Medians over
// the rounds; their ratios to llama.cpp are medians of each round's.
//
//   node tests/bench/peers.mjs [--rounds 5] [--engines
//   native,llama.cpp,node,chromium-relaxed,chromium-simd] [--threads 1] [--model FILE] [--json
//   FILE]
//
// prompt 256: tokens/s of a prompt of 256 tokens. decode @40, @512: tokens/s of 128 tokens after so
// many. Greedy, full depth, one thread, each engine's own K/V format (ours f32, llama.cpp's f16).
// Peak memory is the process's natively, where llama.cpp's contains Node, and the engine's linear
// memory in Node and Chromium.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { defaultModel, program, root, tokenize } from '../answers/tools.mjs';
import { median } from './hosts.mjs';

const PROMPT = 256;
const CONTEXTS = [40, 512];
const TOKENS = 128;
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    engines: { type: 'string', default: 'native,llama.cpp,chromium-relaxed,chromium-simd' },
    threads: { type: 'string', default: '1' },
    model: { type: 'string', default: defaultModel },
    json: { type: 'string' },
  },
});
const threads = Number(values.threads);

/**
 * @typedef {{ prompt: number, loadMs?: number, peakBytes?: number, [decode: `decode${number}`]:
 *   number }} Round
 */
/** @typedef {{ round: () => Promise<Round>, close: () => Promise<void> }} Peer */

const text = fs.readFileSync(path.join(root, 'tests/answers/mixed.txt'), 'utf8');
const ids = tokenize(values.model, text);
const execute = promisify(execFile);

/** The native program, a process a round. @returns {Promise<Peer>} */
async function native() {
  return {
    async round() {
      const { stdout } = await execute(program, [
        'bench',
        values.model,
        '--heads',
        'none',
        '--prompt-tokens',
        `${PROMPT}`,
        '--context',
        CONTEXTS.join(),
        '--gen-tokens',
        `${TOKENS}`,
        '--reps',
        '1',
        '--threads',
        `${threads}`,
        '--json',
      ]);
      const result = JSON.parse(stdout);
      return {
        prompt: result.prompt[0].tokens_per_second,
        loadMs: result.load_ms,
        peakBytes: result.peak_bytes,
        ...Object.fromEntries(
          result.decode.map((/** @type {any} */ d, /** @type {number} */ i) => [
            `decode${CONTEXTS[i]}`,
            d.tokens_per_second,
          ]),
        ),
      };
    },
    async close() {},
  };
}

/** llama.cpp: one process for all rounds, for it loads slowly. @returns {Promise<Peer>} */
async function llamacpp() {
  const child = spawn(
    process.execPath,
    [
      fileURLToPath(new URL('peers-llamacpp.mjs', import.meta.url)),
      values.model,
      `${threads}`,
      `${Math.max(...CONTEXTS) + TOKENS + 16}`,
    ],
    { stdio: ['pipe', 'pipe', 2] },
  );
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('llama.cpp ended early; what it said is above');
    return JSON.parse(value);
  };
  const ask = (/** @type {object} */ task) => {
    child.stdin.write(`${JSON.stringify(task)}\n`);
    return answer();
  };
  const { loadMs } = await answer();
  return {
    async round() {
      /** @type {Round} */
      const result = {
        loadMs,
        prompt: (await ask({ task: 'prompt', ids: ids.slice(0, PROMPT) })).speed,
      };
      for (const context of CONTEXTS) {
        const { speed, peakBytes } = await ask({
          task: 'decode',
          ids: ids.slice(0, context),
          tokens: TOKENS,
        });
        result[`decode${context}`] = speed;
        result.peakBytes = peakBytes;
      }
      return result;
    },
    async close() {
      child.stdin.end();
    },
  };
}

let nth = 0;
/**
 * @typedef {{ ids: number[], tokens: number, word: string }} Task `word`: prompts that begin with
 *   different ones share nothing in the cache
 */

/** A prompt and an answer, in Node and, as text, in a page. */
const measure = async (
  /** @type {any} */ lm,
  /** @type {Task} */ { ids: promptIds, tokens, word },
) => {
  // Prompts of the package's own tokenizer: as long as the others' to the token.
  const reply = lm.complete(word + (await lm.detokenize(promptIds)), {
    maxTokens: tokens,
    mode: 'full',
  });
  for await (const _ of reply);
  const { usage, timing } = await reply.result;
  return {
    promptSpeed: (usage.promptTokens * 1000) / timing.promptMs,
    decodeSpeed: timing.tokensPerSecond,
    tokens: usage.completionTokens,
  };
};

/** @returns {Promise<Round>} */
async function packageRound(
  /** @type {Partial<Round>} */ known,
  /** @type {(task: Task) => ReturnType<typeof measure>} */ run,
) {
  const task = (/** @type {number} */ length, /** @type {number} */ tokens) =>
    run({ ids: ids.slice(0, length), tokens, word: String.fromCharCode(65 + (nth++ % 26)) });
  /** @type {Round} */
  const result = { ...known, prompt: (await task(PROMPT, 1)).promptSpeed };
  for (const context of CONTEXTS) {
    const { decodeSpeed, tokens } = await task(context, TOKENS);
    if (tokens < TOKENS / 2)
      throw new Error(`the answer ended after ${tokens} tokens: too few to time`);
    result[`decode${context}`] = decodeSpeed;
  }
  return result;
}

/** The package in Debian's Chromium, one page for all rounds. @returns {Promise<Peer>} */
async function inChromium(/** @type {'simd' | 'relaxed'} */ variant) {
  const { start } = await import('../page/browser.mjs');
  const it = await start();
  const page = await it.open('/tests/page/blank.html');
  const { loadMs, peakBytes } = await page.evaluate(
    async ({ wasm, model, threads: n, source }) => {
      const began = performance.now();
      const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
      const lm = await ExitLM.load(model, {
        wasm,
        threads: n,
        cache: 'none',
        contextLength: 768,
        heads: false,
      });
      await lm.ready;
      const ms = performance.now() - began;
      const code = await import(
        URL.createObjectURL(new Blob([`export default ${source}`], { type: 'text/javascript' }))
      );
      Object.assign(window, { lm, measure: code.default });
      return { loadMs: ms, peakBytes: lm.info.memory.total };
    },
    {
      wasm: `/web/dist/exitlm-${variant}${threads > 1 ? '-mt' : ''}.wasm`,
      model: `/models/${path.basename(values.model)}`,
      threads,
      source: measure.toString(),
    },
  );
  return {
    round: () =>
      packageRound({ loadMs, peakBytes }, (task) =>
        page.evaluate((given) => {
          const w = /** @type {any} */ (window);
          return w.measure(w.lm, given);
        }, task),
      ),
    close: () => it.close(),
  };
}

/** The package in Node, in a worker thread. @returns {Promise<Peer>} */
async function inNode() {
  const { ExitLM } = await import('../../web/src/index.js');
  const began = performance.now();
  const lm = await ExitLM.load(values.model, {
    threads,
    cache: 'none',
    contextLength: 768,
    heads: false,
  });
  await lm.ready;
  const known = { loadMs: performance.now() - began, peakBytes: lm.info.memory.total };
  return {
    round: () => packageRound(known, (task) => measure(lm, task)),
    close: async () => {
      await lm.dispose();
    },
  };
}

/** @type {Record<string, () => Promise<Peer>>} */
const kinds = {
  native,
  'node': inNode,
  'llama.cpp': llamacpp,
  'chromium-relaxed': () => inChromium('relaxed'),
  'chromium-simd': () => inChromium('simd'),
};
const names = values.engines.split(',');
for (const name of names)
  if (!kinds[name])
    throw new Error(`--engines: ${name} is none of ${Object.keys(kinds).join(', ')}`);

/** @type {Record<string, Peer>} */
const peers = {};
/** @type {Record<string, Round[]>} */
const rounds = Object.fromEntries(names.map((name) => [name, []]));
for (const name of names) peers[name] = await kinds[name]();
for (let i = 0; i <= Number(values.rounds); i++) {
  for (const name of names) {
    const result = await peers[name].round();
    if (i > 0) rounds[name].push(result); // round 0 warms up
    process.stderr.write(
      `${i ? `round ${i}` : 'warm-up'}: ${name.padEnd(17)} ${Object.entries(result)
        .filter(([k]) => /prompt|decode/.test(k))
        .map(([k, v]) => `${k} ${v?.toFixed(1)}`)
        .join(', ')}\n`,
    );
  }
}
for (const peer of Object.values(peers)) await peer.close();

const tasks = /** @type {const} */ (['prompt', ...CONTEXTS.map((c) => `decode${c}`)]);
const yardstick = rounds['llama.cpp'];
const table = names.map((name) => {
  const speeds = Object.fromEntries(
    tasks.map((task) => [
      task,
      median(rounds[name].map((r) => Number(r[/** @type {'prompt'} */ (task)]))),
    ]),
  );
  const ratios = Object.fromEntries(
    tasks.map((task) => [
      task,
      yardstick
        ? median(
            rounds[name].map(
              (r, i) =>
                Number(r[/** @type {'prompt'} */ (task)]) /
                Number(yardstick[i][/** @type {'prompt'} */ (task)]),
            ),
          )
        : null,
    ]),
  );
  return {
    name,
    ...speeds,
    ratios,
    loadMs: median(rounds[name].map((r) => r.loadMs ?? NaN)),
    peakBytes: median(rounds[name].map((r) => r.peakBytes ?? NaN)),
  };
});
const shown = (/** @type {number} */ x, digits = 0, unit = '') =>
  Number.isFinite(x) ? x.toFixed(digits) + unit : '–';
console.log(
  `${values.rounds} rounds, ${threads} thread${threads > 1 ? 's' : ''}, ${path.basename(values.model)}, tokens/s (times llama.cpp's)\n`,
);
console.log(
  `| engine | prompt ${PROMPT} | ${CONTEXTS.map((c) => `decode @${c}`).join(' | ')} | load | peak memory |\n|---|---|${CONTEXTS.map(() => '---|').join('')}---|---|`,
);
for (const row of table) {
  const cells = tasks.map(
    (task) =>
      `${shown(/** @type {any} */ (row)[task])}${yardstick && row.name !== 'llama.cpp' ? ` (${shown(Number(row.ratios[task]), 2)}x)` : ''}`,
  );
  console.log(
    `| ${row.name} | ${cells.join(' | ')} | ${shown(row.loadMs / 1000, 2, ' s')} | ${shown(row.peakBytes / 1e6, 0, ' MB')} |`,
  );
}
const report = {
  rounds: Number(values.rounds),
  threads,
  model: path.basename(values.model),
  promptTokens: PROMPT,
  contexts: CONTEXTS,
  tokens: TOKENS,
  table,
  raw: rounds,
};
if (values.json) fs.writeFileSync(values.json, JSON.stringify(report, null, 1));
