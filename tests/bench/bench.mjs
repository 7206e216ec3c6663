// How fast, and how much sooner with exits. First the speed of every host at full depth (peers.mjs,
// without the neighbours), with load time and memory. Then the modes side by side on human-like
// test conversations, one after the other for each prompt, so that what else happens on the machine
// meets them all. Ratios are medians of each prompt's own ratio to `full`.
//
//   npm run bench -- [--hosts native,node,chromium-relaxed,chromium-simd] [--prompts 20] [--tokens
//   96] [--accuracy 0.99,0.98,0.95,0.90]
//                    [--lossless] [--threads 1] [--throttle 4] [--no-speed] [--json FILE]
//
// --throttle slows Chromium's processor down (DevTools protocol). First word: from the question to
// the first token's text; another short question before each makes it forget the prompt, but not
// the template's system prompt, as on a page whose chat begins.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../answers/tools.mjs';
import { hostNames, median, openHost } from './hosts.mjs';

const { values } = parseArgs({
  allowNegative: true,
  options: {
    hosts: { type: 'string', default: hostNames.join() },
    prompts: { type: 'string', default: '20' },
    tokens: { type: 'string', default: '96' },
    accuracy: { type: 'string', default: '0.99,0.98,0.95,0.90' },
    lossless: { type: 'boolean', default: false },
    threads: { type: 'string', default: '1' },
    throttle: { type: 'string', default: '1' },
    speed: { type: 'boolean', default: true },
    json: { type: 'string' },
  },
});
const tokens = Number(values.tokens);
const threads = Number(values.threads);

/** @typedef {{ name: string, mode: string, accuracy?: number }} Setting */

/** @type {Setting[]} */
const settings = [
  { name: 'full', mode: 'full' },
  ...values.accuracy
    .split(',')
    .map((a) => ({ name: `exit ${a}`, mode: 'exit', accuracy: Number(a) })),
  ...(values.lossless ? [{ name: 'lossless', mode: 'lossless' }] : []),
];

// The held-out test prompts, spread over the file.
const test = fs
  .readFileSync(path.join(root, 'tests/data/prompts.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line))
  .filter((p) => p.split === 'test');
const count = Math.min(Number(values.prompts), test.length);
const prompts = Array.from(
  { length: count },
  (_, i) => /** @type {string} */ (test[Math.floor((i * test.length) / count)].turns[0]),
);

if (values.speed && Number(values.throttle) === 1) {
  const { status } = spawnSync(
    process.execPath,
    [
      path.join(root, 'tests/bench/peers.mjs'),
      '--rounds',
      '3',
      '--engines',
      values.hosts,
      '--threads',
      values.threads,
    ],
    { stdio: 'inherit' },
  );
  if (status !== 0) process.exit(1);
  console.log();
}
/** @type {Record<string, any>} */
const report = {};
console.log(
  `${count} test prompts, up to ${tokens} tokens, ${threads} thread${threads > 1 ? 's' : ''}${Number(values.throttle) > 1 ? `, throttled ${values.throttle}x` : ''}, ${os.cpus()[0].model}\n`,
);
console.log(
  '| host | mode | tokens/s | times full | first word | mean depth | mean work |\n|---|---|---|---|---|---|---|',
);
for (const name of values.hosts.split(',')) {
  const host = await openHost(name, { threads, throttle: Number(values.throttle) });
  const ask = async (/** @type {string} */ prompt, /** @type {Setting} */ { mode, accuracy }) =>
    (
      await host.answer([prompt], { mode, maxTokens: tokens, ...(accuracy ? { accuracy } : {}) })
    )[0];
  /** @type {Record<string, import('./hosts.mjs').Answer[]>} */
  const runs = Object.fromEntries(settings.map((s) => [s.name, []]));
  await ask(prompts[0], settings[0]); // warms up
  for (const [i, prompt] of prompts.entries()) {
    // Each prompt begins with another mode, so that none is always the first to see it; 8 tokens
    // are too few to time.
    for (let k = 0; k < settings.length; k++) {
      const setting = settings[(i + k) % settings.length];
      if (name !== 'native') await host.answer(['Hello.'], { mode: 'full', maxTokens: 1 });
      runs[setting.name][i] = await ask(prompt, setting);
    }
  }
  await host.close();
  report[name] = Object.fromEntries(
    settings.map((s) => {
      const timed = runs[s.name]
        .map((run, i) => ({ run, full: runs.full[i] }))
        .filter(({ run, full }) => run.ids.length > 8 && full.ids.length > 8);
      const row = {
        tokensPerSecond: median(timed.map(({ run }) => run.speed)),
        timesFull: median(timed.map(({ run, full }) => run.speed / full.speed)),
        firstWordMs: median(runs[s.name].map((r) => r.promptMs)),
        meanDepth: median(timed.map(({ run }) => run.meanDepth)),
        meanWork: median(timed.map(({ run }) => run.meanWork)),
      };
      console.log(
        `| ${name} | ${s.name} | ${row.tokensPerSecond.toFixed(0)} | ${row.timesFull.toFixed(2)} | ${row.firstWordMs.toFixed(0)} ms | ${row.meanDepth.toFixed(2)} | ${row.meanWork.toFixed(2)} |`,
      );
      return [s.name, { ...row, runs: runs[s.name] }];
    }),
  );
}
if (values.json) fs.writeFileSync(values.json, JSON.stringify(report, null, 1));
