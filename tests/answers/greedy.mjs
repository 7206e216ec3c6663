// Greedy answers to 50 varied prompts side by side with native llama.cpp's. Two right engines part
// at near-ties, and stay parted: so the first difference of each pair is looked up in the float32
// reference, which says how close the two candidates were.
//
//   node tests/answers/greedy.mjs [--model FILE] [--prompts 50] [--tokens 96] [--full]
//   (--full: whole answers, not one line each)
//
// Exit status 1 where a prompt's ids differ, or where the engine's choice at a first difference
// lies more than 0.5 below the reference's best. Writes build/answers/greedy.json.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openLlama } from './llamacpp.mjs';
import { answer, chatText, prompts } from './text.mjs';
import { defaultModel, out, runReference, tokenize } from './tools.mjs';

const BOUND = 0.5;
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: defaultModel },
    prompts: { type: 'string', default: '50' },
    tokens: { type: 'string', default: '96' },
    full: { type: 'boolean', default: false },
  },
});
const length = Number(values.tokens);
const llama = await openLlama(values.model);
const END = -1; // an answer that ended here

/** What the reference thinks of two candidates after `ids`: how far each is below its best. */
async function judge(
  /** @type {number[]} */ ids,
  /** @type {number} */ ours,
  /** @type {number} */ theirs,
) {
  const [end] = tokenize(values.model, '<|im_end|>');
  const [{ top }] = await runReference(values.model, ids, {
    top: 64,
    from: ids.length,
    next: true,
  });
  const below = (/** @type {number} */ id) =>
    top[0].logit - (top.find((c) => c.id === (id === END ? end : id))?.logit ?? -Infinity);
  return { ours: below(ours), theirs: below(theirs), gap: top[0].logit - top[1].logit };
}

const shorten = (/** @type {string} */ text) =>
  (values.full || text.length <= 150 ? text : `${text.slice(0, 150)}…`).replaceAll(
    '\n',
    values.full ? '\n' : '⏎',
  );
const show = (/** @type {number[]} */ ids, /** @type {number} */ at) =>
  at < 0
    ? shorten(llama.detokenize(ids))
    : shorten(`${llama.detokenize(ids.slice(0, at))}‖${llama.detokenize(ids.slice(at))}`);

/** @type {any[]} */
const rows = [];
let failed = 0;
for (const prompt of prompts(Number(values.prompts), 'test')) {
  const ids = tokenize(values.model, chatText(prompt.turns[0]));
  const sameIds = ids.join() === llama.tokenize(chatText(prompt.turns[0])).join();
  const ours = answer(values.model, prompt.turns[0], length);
  const theirs = await llama.greedy(ids, length);
  const until = Math.max(ours.length, theirs.length);
  let at = 0;
  while (at < until && ours[at] === theirs[at]) at++;
  const same = at === until;
  const verdict = same
    ? null
    : await judge([...ids, ...ours.slice(0, at)], ours[at] ?? END, theirs[at] ?? END);
  const bad = !sameIds || (verdict !== null && verdict.ours > BOUND);
  failed += Number(bad);
  rows.push({ id: prompt.id, sameIds, same, tokens: until, at: same ? null : at, verdict });
  console.log(`\n${prompt.id} ${prompt.kind}: ${shorten(prompt.turns[0])}`);
  if (!sameIds) console.log('  FAILED: the ids of the prompt differ');
  console.log(`  exitlm     ${show(ours, same ? -1 : at)}`);
  if (same) console.log('  llama.cpp  the same');
  else
    console.log(
      `  llama.cpp  ${show(theirs, at)}\n  at token ${at}: below the reference's best ours ${verdict?.ours.toFixed(3)}, llama.cpp's ${verdict?.theirs.toFixed(3)}${bad ? '  FAILED' : ''}`,
    );
}
await llama.close();

const parted = rows.filter((r) => !r.same && r.verdict);
const right = (/** @type {'ours' | 'theirs'} */ who) =>
  parted.filter((r) => r.verdict[who] === 0).length;
console.log(
  `\n${rows.length} prompts: ${rows.length - parted.length} answers the same to the last token (of up to ${length}), ${parted.length} part at a near-tie: ` +
    `there the reference chooses as exitlm in ${right('ours')}, as llama.cpp in ${right('theirs')}; ` +
    `exitlm is at most ${Math.max(0, ...parted.map((r) => r.verdict.ours)).toFixed(3)} below its best, llama.cpp ${Math.max(0, ...parted.map((r) => r.verdict.theirs)).toFixed(3)}`,
);
fs.writeFileSync(
  path.join(out, 'greedy.json'),
  JSON.stringify({ model: path.basename(values.model), rows }, null, 1),
);
if (failed) console.log(`FAILED: ${failed} prompts`);
process.exit(failed ? 1 : 0);
