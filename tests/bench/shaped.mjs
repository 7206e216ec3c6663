// Shaped replies: how much of a form is free. With f the share of forced tokens and r the price of a
// row that rides along, in tokens, a reply is 1 / (1 - f (1 - r)) times as fast as one of free text;
// the mask, and what is not foreseen, cost the rest.
//
//   node tests/bench/shaped.mjs [--reps 5] [--program build/exitlm] [--model FILE]
//
// Each rep runs the form, the same prompt without a form, and passes of 1 and 5 rows, one after the
// other; medians of each pair's ratio. Mode full: what is free is free without drafts.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';
import { median } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    reps: { type: 'string', default: '5' },
    program: { type: 'string', default: path.join(root, 'build/exitlm') },
    model: { type: 'string', default: defaultModel },
  },
});

const text = { type: 'string', maxLength: 24 };
const object = (/** @type {Record<string, object>} */ properties) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
});
const letter =
  'Dear Anna, our meeting in Oslo is on 2026-03-14 at 10:30. Please bring the contract for 1,250 euros. Yours, Per Berg, per@berg.no';

/** @type {Record<string, object>} */
const schemas = {
  person: object({
    full_name: text,
    age_in_years: { type: 'integer', minimum: 0, maximum: 120 },
    city_of_residence: text,
  }),
  event: object({
    event_title: text,
    start_date: { type: 'string', format: 'date' },
    start_time: { type: 'string', pattern: '\\d{2}:\\d{2}' },
    location: text,
  }),
  invoice: object({
    invoice_number: { type: 'string', pattern: '[A-Z]{2}-\\d{4}' },
    amount: { type: 'number', minimum: 0, maximum: 100000 },
    currency: { enum: ['EUR', 'USD', 'GBP', 'NOK'] },
    is_paid: { type: 'boolean' },
  }),
  sentiment: object({
    sentiment: { enum: ['positive', 'negative', 'neutral'] },
    confidence: { type: 'number', minimum: 0, maximum: 1 },
    reason: { type: 'string', maxLength: 60 },
  }),
  contact: object({ contact_name: text, email_address: { type: 'string', format: 'email' } }),
  keywords: object({
    keywords: { type: 'array', items: text, minItems: 3, maxItems: 5 },
    language: { enum: ['en', 'de', 'fr', 'es', 'no'] },
  }),
  address: object({
    street_and_number: text,
    postal_code: { type: 'string', pattern: '\\d{4,5}' },
    city: text,
    country_code: { type: 'string', pattern: '[A-Z]{2}' },
  }),
  ticket: object({
    category: { enum: ['billing', 'technical', 'account', 'other'] },
    priority: { enum: ['low', 'medium', 'high'] },
    summary: { type: 'string', maxLength: 60 },
    needs_human: { type: 'boolean' },
  }),
};

/** @param {string[]} args @returns {any} the last object that the program printed */
function run(args) {
  const { stdout, stderr, status } = spawnSync(values.program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}

/** ms a token after the first. */
const perToken = (/** @type {any} */ done) => done.decode_ms / (done.completion_tokens - 1);

/** ms of a pass of so many rows. */
function pass(/** @type {number} */ rows) {
  const args = ['bench', values.model, '--prompt-tokens', String(rows), '--gen-tokens', '2'];
  const { prompt } = run([...args, '--reps', '5', '--json']);
  return (rows / prompt[0].tokens_per_second) * 1000;
}

console.log('form        tokens  f     r     faster  1/(1-f(1-r))  of it');
for (const [name, schema] of Object.entries(schemas)) {
  const chat = ['chat', values.model, '-p', `${letter}\n\nExtract the ${name} as JSON.`, '--json'];
  const all = [];
  for (let i = 0; i < Number(values.reps); i++) {
    const shaped = run([...chat, '--mode', 'full', '--json-schema', JSON.stringify(schema)]);
    const free = run([...chat, '--mode', 'full', '--max-tokens', String(shaped.completion_tokens)]);
    const f = shaped.forced / shaped.completion_tokens;
    const r = (pass(5) - pass(1)) / 4 / perToken(free);
    const faster = perToken(free) / perToken(shaped);
    all.push({ n: shaped.completion_tokens, f, r, faster, limit: 1 / (1 - f * (1 - r)) });
  }
  const of = (/** @type {(x: typeof all[0]) => number} */ value) => median(all.map(value));
  console.log(
    name.padEnd(11),
    String(all[0].n).padEnd(7),
    of((x) => x.f)
      .toFixed(2)
      .padEnd(5),
    of((x) => x.r)
      .toFixed(2)
      .padEnd(5),
    of((x) => x.faster)
      .toFixed(2)
      .padEnd(7),
    of((x) => x.limit)
      .toFixed(2)
      .padEnd(13),
    of((x) => x.faster / x.limit).toFixed(2),
  );
}
