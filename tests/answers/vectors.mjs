// Makes the vectors of tests/js/answers.test.mjs: what the float32 reference says about some 900
// positions of four texts.
//
//   node tests/answers/vectors.mjs [--model FILE] [--out
//   tests/data/answers/smollm2-135m-instruct.json]
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { textFile } from './text.mjs';
import { defaultModel, root, runReference, tokenize } from './tools.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: defaultModel },
    out: {
      type: 'string',
      default: path.join(root, 'tests/data/answers/smollm2-135m-instruct.json'),
    },
  },
});
// node tests/answers/text.mjs makes it
const conversations = fs.readFileSync(textFile, 'utf8').trim().split(/\s+/).map(Number);
const mixed = tokenize(
  values.model,
  fs.readFileSync(path.join(root, 'tests/answers/mixed.txt'), 'utf8'),
);

/** Each text is a context of its own; its positions from `from` on are kept. */
const texts = [
  { name: 'conversations', ids: conversations.slice(0, 256), from: 1 },
  { name: 'prose in many languages', ids: mixed.slice(0, 256), from: 1 },
  { name: 'tables and code', ids: mixed.slice(900, 1156), from: 1 },
  { name: 'conversations, far into the context', ids: conversations.slice(2048, 3072), from: 896 },
];

const round = (/** @type {number} */ x, digits = 4) => Number(x.toFixed(digits));
const made = [];
for (const { name, ids, from } of texts) {
  const positions = await runReference(values.model, ids, { from });
  made.push({
    name,
    from,
    ids,
    positions: positions.map(({ top, logprob }) => [
      top[0].id,
      round(top[0].logit),
      top[1].id,
      round(top[1].logit),
      round(logprob),
    ]),
  });
}
const head = {
  command: 'node tests/answers/text.mjs && node tests/answers/vectors.mjs',
  reference:
    'tests/reference/reference.c, float32, weights of the file dequantised, gcc 12 -O3 -march=native',
  positions:
    'best id, its logit, second id, its logit, log-probability of the id at the position; from position `from` on',
  model: path.basename(values.model),
};
const list = (/** @type {unknown} */ value) => JSON.stringify(value);
const text = `{\n${Object.entries(head)
  .map(([k, v]) => ` ${list(k)}: ${list(v)},\n`)
  .join('')} "texts": [\n${made
  .map(
    (t) =>
      `  {"name": ${list(t.name)}, "from": ${t.from}, "ids": ${list(t.ids)},\n   "positions": [\n${t.positions.map((p) => `    ${list(p)}`).join(',\n')}]}`,
  )
  .join(',\n')}]\n}\n`;
fs.mkdirSync(path.dirname(values.out), { recursive: true });
fs.writeFileSync(values.out, text);
console.log(
  `${path.relative(root, values.out)}: ${made.reduce((n, t) => n + t.positions.length, 0)} positions, ${text.length} bytes`,
);
