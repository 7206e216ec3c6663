// What mode lossless gains and what it may cost: against `full` on 50 prompts, in interleaved
// pairs. Twelve are repetitive work on a text in the prompt (tests/data/repetitive.jsonl), thirty
// are human-like test prompts, and eight are sampled so wildly that hardly any draft can be right.
//
//   node tests/bench/lossless.mjs [--hosts native,chromium-relaxed] [--pairs 7] [--tokens 64]
//   [--prompts 50] [--threads 1] [--json FILE]
//
// A prompt's ratio is the median of its pairs'. The bars: median of all at least 0.97, none under
// 0.94, repetitive work 1.10, human-like prompts 1.03.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../answers/tools.mjs';
import { median, openHost } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: 'native,chromium-relaxed' },
    pairs: { type: 'string', default: '7' },
    tokens: { type: 'string', default: '64' },
    prompts: { type: 'string', default: '50' },
    threads: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const lines = (/** @type {string} */ file) =>
  fs
    .readFileSync(path.join(root, 'tests/data', file), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const test = lines('prompts.jsonl').filter((p) => p.split === 'test');
const spread = (/** @type {number} */ n, /** @type {number} */ offset) =>
  Array.from(
    { length: n },
    (_, i) => /** @type {string} */ (test[Math.floor(((i + offset) * test.length) / n)].turns[0]),
  );
/** @type {{ kind: string, prompt: string, temperature: number }[]} */
const all = [
  ...lines('repetitive.jsonl').map(({ turns }) => ({
    kind: 'repetitive',
    prompt: turns[0],
    temperature: 0,
  })),
  ...spread(30, 0).map((prompt) => ({ kind: 'human-like', prompt, temperature: 0 })),
  ...spread(8, 0.5).map((prompt) => ({ kind: 'wild', prompt, temperature: 2 })),
];
const count = Math.min(Number(values.prompts), all.length);
const prompts = Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]);

/** @type {Record<string, any>} */
const report = {};
console.log(
  `${count} prompts, ${values.pairs} pairs each, up to ${values.tokens} tokens, ${values.threads} thread(s), ${os.cpus()[0].model}\n`,
);
console.log(
  '| host | prompts | times full, median | least | most | drafts accepted | drafts an attempt |\n|---|---|---|---|---|---|---|',
);
for (const name of values.hosts.split(',')) {
  const host = await openHost(name, { threads: Number(values.threads) });
  const rows = [];
  for (const [i, { kind, prompt, temperature }] of prompts.entries()) {
    const ratios = [];
    let [attempts, drafted, accepted, tokens] = [0, 0, 0, 0];
    for (let pair = 0; pair < Number(values.pairs); pair++) {
      /** @type {Record<string, import('./hosts.mjs').Answer>} */
      const answers = {};
      for (const mode of pair % 2 ? ['lossless', 'full'] : ['full', 'lossless']) {
        answers[mode] = (
          await host.answer([prompt], {
            mode,
            maxTokens: Number(values.tokens),
            temperature,
            seed: i,
          })
        )[0];
      }
      if (answers.full.ids.join() !== answers.lossless.ids.join())
        throw new Error(`${name}: lossless gave other tokens than full for ${prompt}`);
      tokens = answers.full.ids.length;
      // fewer are too few to time
      if (tokens > 16) ratios.push(answers.lossless.speed / answers.full.speed);
      ({ attempts, drafted, accepted } = answers.lossless);
    }
    rows.push({ kind, prompt, tokens, ratio: median(ratios), attempts, drafted, accepted });
  }
  await host.close();
  report[name] = rows;
  const timed = rows.filter(({ ratio }) => Number.isFinite(ratio));
  for (const kind of ['all', ...new Set(timed.map((row) => row.kind))]) {
    const some = timed.filter((row) => kind === 'all' || row.kind === kind);
    const ratios = some.map(({ ratio }) => ratio);
    const sum = (/** @type {'attempts' | 'drafted' | 'accepted'} */ key) =>
      some.reduce((total, row) => total + row[key], 0);
    console.log(
      `| ${name} | ${kind}, ${some.length} | ${median(ratios).toFixed(3)} | ${Math.min(...ratios).toFixed(3)} | ${Math.max(...ratios).toFixed(3)} | ` +
        `${((100 * sum('accepted')) / Math.max(1, sum('drafted'))).toFixed(0)} % | ${(sum('drafted') / Math.max(1, sum('attempts'))).toFixed(1)} |`,
    );
  }
}
if (values.json) fs.writeFileSync(values.json, JSON.stringify(report, null, 1));
