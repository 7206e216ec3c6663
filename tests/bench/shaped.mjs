// Shaped replies: how much of a form is free. With f the share of forced tokens and r the price of one
// in tokens, a reply is 1 / (1 - f (1 - r)) times as fast as one of free text; what is not foreseen
// costs the rest. Forced tokens are rows that ride along with the next token's: r is the mean price of
// those of this form, from passes of as many rows as it has, at the same place of the conversation;
// those at its end are never computed.
//
//   cmake --build --preset native --target bench_shaped
//   node tests/bench/shaped.mjs [--reps 5] [--form NAME] [--build build] [--model FILE]
//
// All is processor time of one thread (tests/c/bench_shaped.c), rep by rep; medians of each rep's ratios.
// A shaped reply begins with forced tokens, so its time counts from the prompt's end; that of a free
// one counts from its first token, which the prompt's last row gave. Mode full: what is free is free
// without drafts. The mask's share of a token's time is that of a reply whose every token is drawn by
// a mask of its own, the first reply of a grammar and later ones; a greedy one mostly needs none.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';
import { median } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    reps: { type: 'string', default: '5' },
    form: { type: 'string', default: '' },
    build: { type: 'string', default: path.join(root, 'build') },
    model: { type: 'string', default: defaultModel },
  },
});

const BAR = 0.95;
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

/**
 * @typedef {{ tokens: number, forced: number, shaped_ms: number, free_tokens: number, free_ms: number,
 *   pass_ms: number, rows_ms: number }} Rep
 */

/** @param {string} name @param {object} schema */
function run(name, schema) {
  const program = path.join(values.build, 'tests/bench_shaped');
  const question = `${letter}\n\nExtract the ${name} as JSON.`;
  const args = [values.model, JSON.stringify(schema), question, values.reps];
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr || `${program} is not there`);
  return JSON.parse(stdout);
}

console.log('form        tokens  f     r     faster  1/(1-f(1-r))  of it  mask, % of a token');
for (const [name, schema] of Object.entries(schemas)) {
  if (values.form && values.form !== name) continue;
  const { reps, first_mask_ms: first, later_mask_ms: later } = run(name, schema);
  const all = reps.map((/** @type {Rep} */ rep) => {
    const f = rep.forced / rep.tokens;
    const token = rep.free_ms / (rep.free_tokens - 1);
    const r = rep.rows_ms / rep.forced / rep.pass_ms;
    const faster = token / (rep.shaped_ms / rep.tokens);
    return { f, r, faster, limit: 1 / (1 - f * (1 - r)), token };
  });
  const of = (/** @type {(x: typeof all[0]) => number} */ value) => median(all.map(value));
  const shown = (/** @type {(x: typeof all[0]) => number} */ value, /** @type {number} */ width) =>
    of(value).toFixed(2).padEnd(width);
  const share = (/** @type {number} */ ms) => (100 * ms) / of((x) => x.token);
  console.log(
    name.padEnd(11),
    String(reps[0].tokens).padEnd(7),
    shown((x) => x.f, 5),
    shown((x) => x.r, 5),
    shown((x) => x.faster, 7),
    shown((x) => x.limit, 13),
    shown((x) => x.faster / x.limit, 6),
    `${share(first).toFixed(1)} first, ${share(later).toFixed(1)} later`,
    of((x) => x.faster / x.limit) < BAR ? `below ${BAR}` : '',
  );
}
