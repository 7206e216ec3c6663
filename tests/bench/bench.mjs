// How much sooner with exits: the modes side by side on human-like test conversations, one after the other for each prompt, so that what else
// happens on the machine meets them all. Ratios are medians of each prompt's own ratio to `full`.
//
//   npm run bench -- [--hosts native,node,chromium-relaxed,chromium-simd] [--prompts 20] [--tokens 96] [--accuracy 0.98,0.95,0.90]
//                    [--lossless] [--threads 1] [--throttle 4] [--json FILE]
//
// --throttle slows Chromium's processor down (DevTools protocol). First word: from the question to the first token's text.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { defaultModel, program, root } from '../answers/tools.mjs';

const { values } = parseArgs({ options: {
  hosts: { type: 'string', default: 'native,node,chromium-relaxed,chromium-simd' }, prompts: { type: 'string', default: '20' },
  tokens: { type: 'string', default: '96' }, accuracy: { type: 'string', default: '0.98,0.95,0.90' }, lossless: { type: 'boolean', default: false },
  threads: { type: 'string', default: '1' }, throttle: { type: 'string', default: '1' }, json: { type: 'string' },
} });
const tokens = Number(values.tokens);
const threads = Number(values.threads);
const heads = defaultModel.replace(/\.gguf$/, '.exits.gguf');

/** @typedef {{ name: string, mode: string, accuracy?: number }} Setting */
/** @typedef {{ tokens: number, speed: number, promptMs: number, meanDepth: number, meanWork: number }} Run */
/** @typedef {{ run: (prompt: string, setting: Setting) => Promise<Run>, close: () => Promise<void> }} Host */

/** @type {Setting[]} */
const settings = [{ name: 'full', mode: 'full' }, ...values.accuracy.split(',').map((a) => ({ name: `exit ${a}`, mode: 'exit', accuracy: Number(a) })),
  ...(values.lossless ? [{ name: 'lossless', mode: 'lossless' }] : [])];

// The held-out test prompts, spread over the file.
const test = fs.readFileSync(path.join(root, 'tests/data/prompts.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line)).filter((p) => p.split === 'test');
const count = Math.min(Number(values.prompts), test.length);
const prompts = Array.from({ length: count }, (_, i) => /** @type {string} */ (test[Math.floor(i * test.length / count)].turns[0]));

/** @returns {Promise<Host>} */
async function native() {
  return {
    async run(prompt, { mode, accuracy }) {
      const { stdout } = await promisify(execFile)(program, ['chat', defaultModel, '--heads', heads, '-p', prompt, '--json', '--mode', mode,
        '--max-tokens', `${tokens}`, '--threads', `${threads}`, ...(accuracy ? ['--accuracy', `${accuracy}`] : [])], { maxBuffer: 1 << 26 });
      const done = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
      return { tokens: done.completion_tokens, speed: done.tokens_per_second, promptMs: done.prompt_ms, meanDepth: done.mean_depth, meanWork: done.mean_work };
    },
    async close() {},
  };
}

const ask = async (/** @type {any} */ lm, /** @type {string} */ prompt, /** @type {any} */ options) => {
  const reply = lm.chat([{ role: 'user', content: prompt }], options);
  for await (const _ of reply);
  const { usage, timing, meanDepth, meanWork } = await reply.result;
  return { tokens: usage.completionTokens, speed: timing.tokensPerSecond, promptMs: timing.promptMs, meanDepth, meanWork };
};
const optionsOf = (/** @type {Setting} */ { mode, accuracy }) => ({ mode, maxTokens: tokens, ...(accuracy ? { accuracy } : {}) });

/** @returns {Promise<Host>} */
async function node() {
  const { ExitLM } = await import('../../web/src/index.js');
  const lm = await ExitLM.load(defaultModel, { heads, threads, cache: 'none' });
  await lm.ready;
  return { run: (prompt, setting) => ask(lm, prompt, optionsOf(setting)), close: async () => { await lm.dispose(); } };
}

/** @returns {Promise<Host>} */
async function chromium(/** @type {string} */ variant) {
  const { start } = await import('../page/browser.mjs');
  const it = await start();
  const page = await it.open('/tests/page/blank.html');
  await page.evaluate(async ({ wasm, model, headsUrl, n, source }) => {
    const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
    const lm = await ExitLM.load(model, { wasm, heads: headsUrl, threads: n, cache: 'none' });
    await lm.ready;
    const ask = await import(URL.createObjectURL(new Blob([`export default ${source}`], { type: 'text/javascript' })));
    Object.assign(window, { lm, ask: ask.default });
  }, { wasm: `/web/dist/exitlm-${variant}${threads > 1 ? '-mt' : ''}.wasm`, model: `/models/${path.basename(defaultModel)}`, headsUrl: `/models/${path.basename(heads)}`, n: threads, source: ask.toString() });
  if (Number(values.throttle) > 1) {
    const session = await page.context().newCDPSession(page);
    await session.send('Emulation.setCPUThrottlingRate', { rate: Number(values.throttle) });
  }
  return {
    run: (prompt, setting) => page.evaluate(({ text, options }) => { const w = /** @type {any} */ (window); return w.ask(w.lm, text, options); }, { text: prompt, options: optionsOf(setting) }),
    close: () => it.close(),
  };
}

/** @type {Record<string, () => Promise<Host>>} */
const kinds = { native, node, 'chromium-relaxed': () => chromium('relaxed'), 'chromium-simd': () => chromium('simd') };
const median = (/** @type {number[]} */ list) => {
  const sorted = list.filter((x) => Number.isFinite(x)).sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : NaN;
};

/** @type {Record<string, any>} */
const report = {};
console.log(`${count} test prompts, up to ${tokens} tokens, ${threads} thread${threads > 1 ? 's' : ''}${Number(values.throttle) > 1 ? `, throttled ${values.throttle}x` : ''}, ${os.cpus()[0].model}\n`);
console.log('| host | mode | tokens/s | times full | first word | mean depth | mean work |\n|---|---|---|---|---|---|---|');
for (const name of values.hosts.split(',')) {
  if (!kinds[name]) throw new Error(`--hosts: ${name} is none of ${Object.keys(kinds).join(', ')}`);
  const host = await kinds[name]();
  /** @type {Record<string, Run[]>} */
  const runs = Object.fromEntries(settings.map((s) => [s.name, []]));
  await host.run(prompts[0], settings[0]); // warms up
  for (const [i, prompt] of prompts.entries()) {
    // Each prompt begins with another mode, so that none is always the first to see it; 8 tokens are too few to time.
    for (let k = 0; k < settings.length; k++) {
      const setting = settings[(i + k) % settings.length];
      runs[setting.name][i] = await host.run(prompt, setting);
    }
  }
  await host.close();
  report[name] = Object.fromEntries(settings.map((s) => {
    const timed = runs[s.name].map((run, i) => ({ run, full: runs.full[i] })).filter(({ run, full }) => run.tokens > 8 && full.tokens > 8);
    const row = { tokensPerSecond: median(timed.map(({ run }) => run.speed)), timesFull: median(timed.map(({ run, full }) => run.speed / full.speed)),
      firstWordMs: median(runs[s.name].map((r) => r.promptMs)), meanDepth: median(timed.map(({ run }) => run.meanDepth)), meanWork: median(timed.map(({ run }) => run.meanWork)) };
    console.log(`| ${name} | ${s.name} | ${row.tokensPerSecond.toFixed(0)} | ${row.timesFull.toFixed(2)} | ${row.firstWordMs.toFixed(0)} ms | ${row.meanDepth.toFixed(2)} | ${row.meanWork.toFixed(2)} |`);
    return [s.name, { ...row, runs: runs[s.name] }];
  }));
}
if (values.json) fs.writeFileSync(values.json, JSON.stringify(report, null, 1));
