// The teacher-forced check: on a text of some 20,000 tokens, in contexts of 2,048, how often the
// engine's best token is the float32 reference's, what perplexity it finds, and the same for native
// llama.cpp.
//
//   node tests/answers/text.mjs && node tests/answers/teacher.mjs [--model FILE] [--ids FILE]
//   [--context 2048] [--jobs 1] [--kv-type T] [--no-llama] [--reference "python tests/reference/families.py"]
//
// Passes where the best token is the same wherever the reference's two best are over 0.5 apart, and
// in at least 98 % of all positions, and the perplexity is within 0.5 %. The exit status is 1
// otherwise. Writes build/answers/teacher.json.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { compare, defaultModel, inParallel, out, runEngine, runReference } from './tools.mjs';
import { openLlama } from './llamacpp.mjs';
import { textFile } from './text.mjs';

const { values } = parseArgs({
  allowNegative: true,
  options: {
    'model': { type: 'string', default: defaultModel },
    'ids': { type: 'string', default: textFile },
    'context': { type: 'string', default: '2048' },
    'jobs': { type: 'string', default: '1' },
    'kv-type': { type: 'string', default: 'f32' },
    'llama': { type: 'boolean', default: true },
    'reference': { type: 'string' }, // instead of tests/reference/reference.c
  },
});
const context = Number(values.context);
const ids = fs.readFileSync(values.ids, 'utf8').trim().split(/\s+/).map(Number);
const segments = Array.from({ length: Math.ceil(ids.length / context) }, (_, i) =>
  ids.slice(i * context, (i + 1) * context),
).filter((s) => s.length > 1);

const say = (/** @type {string} */ text) => process.stderr.write(`${text}\n`);
const seconds = async (/** @type {string} */ what, /** @type {() => Promise<any>} */ work) => {
  const began = performance.now();
  const result = await work();
  say(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
  return result;
};

const reference = (
  await seconds('float32 reference', () =>
    inParallel(segments, Number(values.jobs), (s) =>
      runReference(values.model, s, { command: values.reference?.split(' ') }),
    ),
  )
).flat();
const rows = [];
const engine = await seconds(`exitlm (kv ${values['kv-type']})`, () =>
  inParallel(
    segments,
    Number(values.jobs),
    async (s) =>
      (await runEngine(values.model, s, { options: ['--kv-type', values['kv-type']] })).positions,
  ),
);
rows.push({ name: `exitlm, kv ${values['kv-type']}`, ...compare(reference, engine.flat()) });
if (values.llama) {
  const llama = await openLlama(values.model, { context });
  const scored = await seconds('llama.cpp', () =>
    inParallel(segments, 1, async (s) => (await llama.score(s)).slice(0, -1)),
  );
  await llama.close();
  rows.push({ name: 'llama.cpp (node-llama-cpp)', ...compare(reference, scored.flat()) });
}

const percent = (/** @type {number} */ x, digits = 2) => `${(100 * x).toFixed(digits)} %`;
console.log(
  `${ids.length} tokens in ${segments.length} contexts, ${reference.length} positions; perplexity of the reference ${rows[0].referencePerplexity.toFixed(4)}\n`,
);
console.log(
  '| | same best token | different where the gap is over 0.5 | widest gap of a difference | perplexity | error |',
);
console.log('|---|---|---|---|---|---|');
for (const r of rows) {
  console.log(
    `| ${r.name} | ${r.agree} of ${r.positions}, ${percent(r.share)} | ${r.wide.length} | ${r.widestGap.toFixed(3)} | ${r.perplexity.toFixed(4)} | ${percent(r.perplexityError, 3)} |`,
  );
}
fs.writeFileSync(
  path.join(out, 'teacher.json'),
  JSON.stringify(
    { model: path.basename(values.model), tokens: ids.length, context, rows },
    null,
    1,
  ),
);

const [ours] = rows;
const failures = [
  ours.wide.length > 0 &&
    `${ours.wide.length} positions differ where the reference's two best are over 0.5 apart: ${ours.wide
      .slice(0, 5)
      .map((d) => `${d.index} (gap ${d.gap.toFixed(2)})`)
      .join(', ')}`,
  ours.share < 0.98 && `only ${percent(ours.share)} of the positions agree`,
  Math.abs(ours.perplexityError) > 0.005 &&
    `the perplexity is ${percent(ours.perplexityError, 3)} off`,
].filter(Boolean);
for (const failure of failures) console.log(`FAILED: ${failure}`);
if (!failures.length) console.log('\nwithin the bounds');
process.exit(failures.length ? 1 : 0);
