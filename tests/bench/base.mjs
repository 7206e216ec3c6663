// This checkout beside another one, which is built, at an earlier commit: how many times as fast, by
// length. Both are open at once and take turns at each figure; a ratio is the median of the pairs'.
//
//   npm run bench:base -- --root DIR [--hosts native,chromium-relaxed,chromium-simd] [--pairs 12]
//                         [--columns prompt256,prompt2000,decode40,decode512,decode2000] [--threads 1]
//
// Also node-simd and node-relaxed. WebAssembly is measured in processor time, of the page's process
// in Chromium, so that other work on the machine counts little; the native program by its own clock,
// and so is everything with several threads.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';
import { median } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    root: { type: 'string' },
    hosts: { type: 'string', default: 'native,chromium-relaxed,chromium-simd' },
    columns: { type: 'string', default: 'prompt256,prompt2000,decode40,decode512,decode2000' },
    pairs: { type: 'string', default: '12' },
    threads: { type: 'string', default: '1' },
  },
});
if (!values.root) throw new Error('--root: the folder of another checkout, built, is wanted');
const threads = Number(values.threads);
const CONTEXT = 2112;
const DECODED = 24;
const CHARACTERS_A_TOKEN = 4.2;
const text = fs
  .readFileSync(path.join(root, 'README.md'), 'utf8')
  .replace(/[^a-zA-Z .]/g, ' ')
  .replace(/ +/g, ' ');

/** @typedef {{ speed: (what: string, tokens: number, turn: number) => Promise<number>, close: () => Promise<void> }} Side */

/** @returns {Promise<Side>} */
async function native(/** @type {string} */ of) {
  return {
    async speed(what, tokens) {
      const lengths =
        what === 'prompt'
          ? ['--prompt-tokens', `${tokens}`, '--context', '1', '--gen-tokens', '2']
          : ['--prompt-tokens', '1', '--context', `${tokens}`, '--gen-tokens', `${DECODED}`];
      const { stdout, stderr, status } = spawnSync(
        path.join(of, 'build/exitlm'),
        [
          'bench',
          defaultModel,
          '--heads',
          'none',
          '--reps',
          '1',
          '--threads',
          values.threads,
        ].concat(lengths, '--json'),
        { encoding: 'utf8' },
      );
      if (status !== 0) throw new Error(stderr);
      const found = JSON.parse(stdout);
      return (what === 'prompt' ? found.prompt : found.decode)[0].tokens_per_second;
    },
    async close() {},
  };
}

/** In Node and, as text, in a page. @param {any} ExitLM @param {string} model @param {any} options */
const load = async (ExitLM, model, options) => {
  const lm = await ExitLM.load(model, { cache: 'none', heads: false, ...options });
  await lm.ready;
  return async (/** @type {string} */ prompt, /** @type {number} */ maxTokens) => {
    const reply = lm.complete(prompt, { maxTokens, mode: 'full' });
    for await (const _ of reply);
    const { usage } = await reply.result;
    return [usage.promptTokens, usage.completionTokens];
  };
};

/**
 * @param {(prompt: string, maxTokens: number) => Promise<number[]>} reply
 * @param {() => Promise<number>} now processor time in seconds
 * @param {() => Promise<void>} close
 * @returns {Side}
 */
const timed = (reply, now, close) => ({
  async speed(what, tokens, turn) {
    // a prompt to read has another first letter each time, so that nothing is re-used
    const at = what === 'prompt' ? turn : 0;
    const prompt = `${String.fromCharCode(65 + (at % 26))}${text.slice(at, at + Math.round(tokens * CHARACTERS_A_TOKEN))}`;
    let begun = await now();
    const [read] = await reply(prompt, 1);
    if (what === 'prompt') return read / ((await now()) - begun);
    begun = await now();
    const [, written] = await reply(prompt, DECODED);
    return written / ((await now()) - begun);
  },
  close,
});

/** @returns {Promise<Side>} */
async function node(/** @type {string} */ of, /** @type {string} */ variant) {
  const { ExitLM } = await import(pathToFileURL(path.join(of, 'web/src/index.js')).href);
  const wasm = await WebAssembly.compile(
    fs.readFileSync(path.join(of, `web/dist/exitlm-${variant}.wasm`)),
  );
  const options = { wasm, threads, contextLength: CONTEXT, worker: false };
  const now = async () => {
    if (threads > 1) return performance.now() / 1e3;
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  };
  return timed(await load(ExitLM, defaultModel, options), now, async () => {});
}

/** @returns {Promise<Side>} */
async function chromium(/** @type {string} */ of, /** @type {string} */ variant) {
  const { start } = await import(pathToFileURL(path.join(of, 'tests/page/browser.mjs')).href);
  const before = process.cwd();
  process.chdir(of); // an early server serves the folder it is started in
  const it = await start();
  process.chdir(before);
  const page = await it.open('/tests/page/blank.html');
  await page.evaluate(
    async (/** @type {any} */ { source, model, options }) => {
      const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
      const code = await import(
        URL.createObjectURL(new Blob([`export default ${source}`], { type: 'text/javascript' }))
      );
      Object.assign(window, { reply: await code.default(ExitLM, model, options) });
    },
    {
      source: load.toString(),
      model: `/models/${path.basename(defaultModel)}`,
      options: {
        wasm: `/web/dist/exitlm-${variant}${threads > 1 ? '-mt' : ''}.wasm`,
        threads,
        contextLength: CONTEXT,
      },
    },
  );
  const browser = await it.browser.newBrowserCDPSession();
  return timed(
    (prompt, maxTokens) =>
      page.evaluate(
        (/** @type {[string, number]} */ given) =>
          /** @type {any} */ (window).reply(given[0], given[1]),
        [prompt, maxTokens],
      ),
    async () => {
      if (threads > 1) return performance.now() / 1e3;
      const { processInfo } = await browser.send('SystemInfo.getProcessInfo');
      return processInfo
        .filter((/** @type {{ type: string }} */ { type }) => type === 'renderer')
        .reduce((/** @type {number} */ sum, /** @type {any} */ { cpuTime }) => sum + cpuTime, 0);
    },
    () => it.close(),
  );
}

/** @type {Record<string, (of: string, variant: string) => Promise<Side>>} */
const kinds = { native, node, chromium };
for (const host of values.hosts.split(',')) {
  const [kind, variant] = host.split('-');
  if (!kinds[kind]) throw new Error(`--hosts: ${host} is not known`);
  const sides = [
    await kinds[kind](path.resolve(values.root), variant),
    await kinds[kind](root, variant),
  ];
  for (const column of values.columns.split(',')) {
    const [, what, tokens] = /^(prompt|decode)(\d+)$/.exec(column) ?? [];
    if (!what) throw new Error(`--columns: ${column} is not known`);
    /** @type {number[][]} */
    const speeds = [[], []];
    for (let turn = 0; turn <= Number(values.pairs); turn++)
      for (const side of turn % 2 ? [1, 0] : [0, 1]) {
        const speed = await sides[side].speed(what, Number(tokens), turn);
        if (turn) speeds[side].push(speed); // the first pair warms up
      }
    const ratios = speeds[1].map((speed, i) => speed / speeds[0][i]);
    console.log(
      `${host} ${column}: ${median(speeds[0]).toFixed(1)} before, ${median(speeds[1]).toFixed(1)} now, ${median(ratios).toFixed(3)}x (${ratios.map((r) => r.toFixed(2)).join(' ')})`,
    );
  }
  for (const side of sides) await side.close();
}
process.exit(0);
