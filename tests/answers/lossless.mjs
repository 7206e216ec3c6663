// Lossless means the same tokens: mode lossless beside mode full, token by token, on 300
// conversations of human-like prompts, every third of two turns, every other one sampled.
//
//   node tests/answers/lossless.mjs [--hosts native,node,chromium-relaxed,chromium-simd]
//   [--conversations 300] [--tokens 64] [--threads 1]
//
// The exit status is 1 where any token differs.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { hostNames, openHost } from '../bench/hosts.mjs';
import { root } from './tools.mjs';

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: hostNames.join() },
    conversations: { type: 'string', default: '300' },
    tokens: { type: 'string', default: '64' },
    threads: { type: 'string', default: '1' },
  },
});
const lines = fs
  .readFileSync(path.join(root, 'tests/data/prompts.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line))
  .filter((p) => p.split !== 'train');
const count = Math.min(Number(values.conversations), lines.length);
const conversations = Array.from({ length: count }, (_, i) => {
  const at = Math.floor((i * lines.length) / count);
  /** @type {string[]} */
  const turns = lines[at].turns;
  if (i % 3) return turns.slice(0, 1);
  return turns.length > 1 ? turns.slice(0, 2) : [turns[0], 'Can you say that again, shorter?'];
});

let failed = false;
console.log(
  '| host | conversations | answers | tokens | drafted | accepted | answers that differ |\n|---|---|---|---|---|---|---|',
);
for (const name of values.hosts.split(',')) {
  const host = await openHost(name, { threads: Number(values.threads) });
  let [answers, tokens, drafted, accepted, different] = [0, 0, 0, 0, 0];
  for (const [i, turns] of conversations.entries()) {
    const options = { maxTokens: Number(values.tokens), temperature: i % 2 ? 0.8 : 0, seed: i };
    const full = await host.answer(turns, { ...options, mode: 'full' });
    const lossless = await host.answer(turns, { ...options, mode: 'lossless' });
    for (const [turn, answer] of full.entries()) {
      answers++;
      tokens += answer.ids.length;
      drafted += lossless[turn].drafted;
      accepted += lossless[turn].accepted;
      if (answer.ids.join() === lossless[turn].ids.join()) continue;
      different++;
      console.log(
        `FAILED: ${name}, conversation ${i}, turn ${turn + 1}: ${answer.ids.join(' ')} in full, ${lossless[turn].ids.join(' ')} lossless`,
      );
    }
  }
  await host.close();
  console.log(
    `| ${name} | ${count} | ${answers} | ${tokens} | ${drafted} | ${accepted} | ${different} |`,
  );
  failed ||= different > 0 || drafted === 0;
}
process.exit(failed ? 1 : 0);
