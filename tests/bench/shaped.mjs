// Shaped replies: how much of a form is free. With f the share of forced tokens and r the price of one
// in tokens, a reply is 1 / (1 - f (1 - r)) times as fast as one of free text; what is not foreseen
// costs the rest. Forced tokens are rows that ride along with the next token's: r is the mean price of
// those of this form, from passes of as many rows as it has; those at its end are never computed.
//
//   cmake --build --preset native --target bench_masks
//   node tests/bench/shaped.mjs [--reps 5] [--form NAME] [--build build] [--model FILE]
//
// Each rep runs the form, the same prompt without a form, and the passes, one after the other; medians
// of each rep's ratios. Mode full: what is free is free without drafts. The mask's share of a token's
// time is that of a reply whose every token is drawn by a mask of its own, the first reply of a grammar
// and later ones; a greedy one mostly needs none.
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

/** @param {string} program @param {string[]} args @returns {any[]} what it printed */
function run(program, args) {
  const { stdout, stderr, status } = spawnSync(path.join(values.build, program), args, {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** ms a token after the first. */
const perToken = (/** @type {any} */ done) => done.decode_ms / (done.completion_tokens - 1);

/** ms of a pass of so many rows. */
function pass(/** @type {number} */ rows) {
  const args = ['bench', values.model, '--prompt-tokens', String(rows), '--gen-tokens', '2'];
  const [{ prompt }] = run('exitlm', [...args, '--reps', '5', '--json']);
  return (rows / prompt[0].tokens_per_second) * 1000;
}

/** Rows beside each token that was computed. @param {any[]} tokens */
function rowsBeside(tokens) {
  const rows = [];
  let forced = 0;
  for (const token of tokens) {
    if (token.forced) forced++;
    else {
      rows.push(forced);
      forced = 0;
    }
  }
  return rows;
}

/** The mean price of a forced token, in tokens. @param {any[]} tokens @param {number} forced */
function priceOf(tokens, forced) {
  const rows = rowsBeside(tokens);
  const ms = new Map([...new Set([0, ...rows])].map((n) => [n, pass(n + 1)]));
  const one = ms.get(0) ?? NaN;
  return rows.reduce((sum, n) => sum + (ms.get(n) ?? NaN) - one, 0) / one / forced;
}

console.log('form        tokens  f     r     faster  1/(1-f(1-r))  of it  mask, % of a token');
for (const [name, schema] of Object.entries(schemas)) {
  if (values.form && values.form !== name) continue;
  const json = JSON.stringify(schema);
  const chat = ['chat', values.model, '-p', `${letter}\n\nExtract the ${name} as JSON.`, '--json'];
  const all = [];
  for (let i = 0; i < Number(values.reps); i++) {
    const shaped = run('exitlm', [...chat, '--mode', 'full', '--json-schema', json]);
    const { completion_tokens: n, forced, ...done } = shaped.at(-1);
    const [free] = run('exitlm', [...chat, '--mode', 'full', '--max-tokens', String(n)]).slice(-1);
    const f = forced / n;
    const r = priceOf(shaped.slice(1, -1), forced);
    const faster = perToken(free) / perToken({ completion_tokens: n, ...done });
    const [masks] = run('tests/bench_masks', [values.model, json]);
    all.push({
      n,
      f,
      r,
      faster,
      limit: 1 / (1 - f * (1 - r)),
      first: masks.first_us / 10 / perToken(free),
      later: masks.later_us / 10 / perToken(free),
    });
  }
  const of = (/** @type {(x: typeof all[0]) => number} */ value) => median(all.map(value));
  const shown = (/** @type {(x: typeof all[0]) => number} */ value, /** @type {number} */ width) =>
    of(value).toFixed(2).padEnd(width);
  console.log(
    name.padEnd(11),
    String(all[0].n).padEnd(7),
    shown((x) => x.f, 5),
    shown((x) => x.r, 5),
    shown((x) => x.faster, 7),
    shown((x) => x.limit, 13),
    shown((x) => x.faster / x.limit, 6),
    `${of((x) => x.first).toFixed(1)} first, ${of((x) => x.later).toFixed(1)} later`,
  );
}
