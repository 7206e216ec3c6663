// Shaped replies: schemas and patterns. The tiny random model at a high temperature says anything
// that it may, so a mask that lets something wrong through is found; ajv is the judge.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { Ajv } from 'ajv';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { builtinRules } from 'eslint/use-at-your-own-risk';
import { defaultModel, root } from '../answers/tools.mjs';
import { examplesOf } from './support/examples.mjs';
import { loadTiny } from './support/tiny-model.mjs';

const judgeOf = (/** @type {typeof Ajv} */ Of) => {
  const judge = new Of({ strict: false, logger: false, ownProperties: true });
  /** @type {any} */ (addFormats)(judge);
  return judge;
};
const ajv = judgeOf(/** @type {any} */ (Ajv2020));

/** @type {import('../../web/src/index.js').ExitLM} */
let lm;
before(async () => {
  lm = await loadTiny({ contextLength: 512 });
});
after(() => lm.dispose());

/** A value with room for few tokens, so that random texts come to an end. */
const short = { type: 'string', maxLength: 4 };
const list = (/** @type {object} */ items, /** @type {object} */ more = {}) => ({
  type: 'array',
  items,
  maxItems: 3,
  ...more,
});

/** @type {Record<string, any>} */
const schemas = {
  'object with optional members': {
    type: 'object',
    properties: { 'a': short, 'b': { type: 'integer' }, 'c': { type: 'boolean' }, 'd e"\\': short },
    required: ['b'],
  },
  'no member is needed': { type: 'object', properties: { a: short, b: short } },
  'additional members': {
    type: 'object',
    properties: { ab: { type: 'null' }, abc: { type: 'null' }, b: { type: 'null' } },
    additionalProperties: { type: 'boolean' },
  },
  'required beside properties': {
    properties: { a: { const: 1 } },
    required: ['a', 'z'],
    additionalProperties: { enum: [true, 2] },
  },
  'lists': list({ type: 'number' }, { minItems: 1 }),
  'list of exactly two': list(short, { minItems: 2, maxItems: 2 }),
  'tuple': { type: 'array', prefixItems: [{ type: 'integer' }, { type: 'boolean' }] },
  'a member and an alternative that never come': {
    properties: { a: false, b: { anyOf: [false, { allOf: [{ type: 'boolean' }] }] } },
    required: ['b'],
  },
  'tuple with more': {
    prefixItems: [{ const: 'x' }],
    items: { enum: [1, 2] },
    minItems: 2,
    maxItems: 4,
  },
  'lengths': { type: 'string', minLength: 3, maxLength: 5 },
  'pattern': { type: 'string', pattern: '^[A-Z]{2}-\\d{3,4}["\\\\]?$' },
  'characters of every length': {
    type: 'string',
    pattern: '[a\\u00e9\\u4e2d\\u{1f600}-\\u{1f64f}]{4}',
  },
  'date': { type: 'string', format: 'date' },
  'time': { type: 'string', format: 'time' },
  'date-time': { type: 'string', format: 'date-time' },
  'uuid': { type: 'string', format: 'uuid' },
  'email': { type: 'string', format: 'email' },
  'enum of all kinds': { enum: ['red', 'gr"ün', 7, -1.5e-7, null, true, [1, 'a'], { k: [{}] }] },
  'enum narrowed by its type': { type: 'integer', enum: ['1', 1, 2.5, 3] },
  'whole numbers': { type: 'integer', minimum: -17, maximum: 123 },
  'open limits': { type: 'integer', exclusiveMinimum: 9, exclusiveMaximum: 12 },
  'negative alone': { type: 'integer', minimum: -1203, maximum: -99 },
  'numbers': { type: 'number', minimum: 0.25, exclusiveMaximum: 1.375 },
  'numbers around nought': { type: 'number', minimum: -0.07, maximum: 0.07 },
  'half-open': { type: 'number', exclusiveMinimum: -3 },
  'several types': { type: ['string', 'null', 'integer'], maxLength: 3, maximum: 5 },
  'anyOf': { anyOf: [short, { type: 'integer', minimum: 0, maximum: 9 }, list({ const: 0 })] },
  'oneOf by type': { oneOf: [{ type: 'boolean' }, { type: 'integer', maximum: 99, minimum: 0 }] },
  'oneOf by a member': {
    oneOf: [
      { type: 'object', properties: { kind: { const: 'a' }, x: short }, required: ['kind'] },
      { type: 'object', properties: { kind: { const: 'b' } }, required: ['kind'] },
    ],
  },
  'reference': {
    $defs: { pet: { type: 'object', properties: { name: short }, required: ['name'] } },
    type: 'object',
    properties: { one: { $ref: '#/$defs/pet' }, all: list({ $ref: '#/$defs/pet' }) },
    required: ['one', 'all'],
  },
  'recursion': {
    type: 'object',
    properties: { v: { type: 'boolean' }, next: { anyOf: [{ $ref: '#' }, { type: 'null' }] } },
    required: ['v', 'next'],
  },
  'a pointer with escapes': {
    $defs: { 'a/b~c': { const: 'here' } },
    $ref: '#/$defs/a~1b~0c',
    description: 'an annotation may stand beside it',
  },
};

const ask = (/** @type {object} */ options) =>
  lm.complete('Say it as JSON:', { temperature: 1.5, maxTokens: 400, ...options }).result;

for (const [name, schema] of Object.entries(schemas))
  test(`schema: ${name}`, async () => {
    const validate = ajv.compile(schema);
    let complete = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const result = await ask({ schema, seed, mode: 'full' });
      if (result.reason !== 'stop') continue;
      complete++;
      assert.deepEqual(result.json, JSON.parse(result.text));
      assert.ok(validate(result.json), `${result.text}: ${ajv.errorsText(validate.errors)}`);
    }
    assert.ok(complete >= 6, `${complete} of 12 came to an end`);
  });

test("a public collection: the options of ESLint's rules", async () => {
  const judge = judgeOf(Ajv);
  const all = new Map();
  for (const rule of builtinRules.values())
    for (const schema of [rule.meta?.schema ?? []].flat()) all.set(JSON.stringify(schema), schema);
  /** @type {Record<string, number>} */
  const unsupported = {};
  let supported = 0;
  let complete = 0;
  for (const schema of all.values()) {
    try {
      const { reason, json, text } = await ask({ schema, seed: 1, mode: 'full', maxTokens: 200 });
      supported++;
      if (reason !== 'stop') continue;
      complete++;
      assert.ok(judge.validate(schema, json), `${text}: ${judge.errorsText()}`);
    } catch (error) {
      const { code, message } = /** @type {any} */ (error);
      assert.equal(code, 'USAGE', String(error));
      const [, place, why] = /^schema: (#\S*): (.*)$/.exec(message) ?? [];
      const what = why === 'this keyword is not supported' ? place.split('/').at(-1) : why;
      unsupported[what] = (unsupported[what] ?? 0) + 1;
    }
  }
  console.log(`${all.size} schemas, ${supported} understood, ${complete} replies`, unsupported);
  assert.ok(supported >= 0.6 * all.size && complete >= 0.6 * supported);
});

/** JSON in the form that shaped replies have. @param {any} value @returns {string} */
const said = (value) => {
  if (Array.isArray(value)) return `[${value.map(said).join(', ')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${said(one)}`);
  return `{${members.join(', ')}}`;
};

const SPEAKS_OF = Object.entries({
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems'],
  string: ['pattern', 'format', 'minLength', 'maxLength'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
});

/** The schema with what docs/shaped.md says of replies as conditions of its own. @param {any} schema @returns {any} */
function narrowed(schema) {
  if (Array.isArray(schema)) return schema.map(narrowed);
  if (schema === null || typeof schema !== 'object' || 'enum' in schema || 'const' in schema)
    return schema;
  /** @type {any} */
  const own = { ...schema };
  for (const key of ['properties', 'definitions', '$defs'])
    if (own[key])
      own[key] = Object.fromEntries(
        Object.entries(own[key]).map(([name, one]) => [name, narrowed(one)]),
      );
  for (const key of ['items', 'prefixItems', 'additionalItems', 'additionalProperties', 'anyOf'])
    if (own[key]) own[key] = narrowed(own[key]);
  const of = SPEAKS_OF.filter(([, keys]) => keys.some((key) => key in own)).map(([type]) => type);
  if (of.length) own.type ??= of;
  if (own.properties && !Object.hasOwn(own.properties, '__proto__'))
    // which ajv does not know
    own.additionalProperties ??= false;
  const [places, more] = own.prefixItems
    ? [own.prefixItems, 'items']
    : [[own.items].flat(), 'additionalItems'];
  if (Array.isArray(own.prefixItems ?? own.items)) {
    own.minItems = Math.max(own.minItems ?? 0, places.length);
    own[more] ??= false;
  }
  if (own.pattern) own.pattern = `^(?:${own.pattern})$`;
  return own;
}

/** Rarities of formats that do not come, and members of a constant in another order. */
const DO_NOT_COME =
  /:60|\dz"|\dt\d|~|^"\\"joe|@\[|^\{"baz": "bax", "foo": "bar"\}$|^"2eb8aa08aa9811eab4aa73b441d16380"$/;

test("JSON-Schema-Test-Suite's schemas, and their instances", async () => {
  const suite = fs
    .readFileSync(`${root}/tests/data/json-schema-suite.jsonl`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const asked = suite.map(({ schema, valid, invalid }) =>
    JSON.stringify({ schema: JSON.stringify(schema), texts: [...valid, ...invalid].map(said) }),
  );
  const { stdout, stderr } = spawnSync(`${root}/build/tests/test_grammar`, ['--taken'], {
    cwd: root,
    input: asked.join('\n'),
    encoding: 'utf8',
  });
  const answers = stdout.split('\n');
  assert.equal(answers.length, suite.length + 1, stderr);
  const judges = /** @type {const} */ ([
    ['2020', ajv],
    ['2019', judgeOf(/** @type {any} */ (Ajv2019))],
    ['draft7', judgeOf(Ajv)],
  ]);
  const count = { refused: 0, understood: 0, replies: 0, taken: 0, narrower: 0, wrong: 0 };
  for (const [i, { of, schema, valid, invalid }] of suite.entries()) {
    const place = `${of}: ${JSON.stringify(schema)}`;
    if (!/^[01]*$/.test(answers[i])) {
      assert.match(answers[i], /^(schema: (#\S*: .|pattern: |not JSON \()|no text satisfies)/);
      await assert.rejects(ask({ schema }), { code: 'USAGE' });
      count.refused++;
      continue;
    }
    const judge = judges.find(([draft]) => of.includes(draft))?.[1] ?? ajv;
    judge.removeSchema(); // all; some have the same $id
    const mayCome = judge.compile(narrowed(schema));
    judge.removeSchema();
    const { reason, json, text } = await ask({ schema, seed: i, mode: 'full', maxTokens: 60 });
    if (reason === 'stop') assert.ok(judge.validate(schema, json), `${place}: ${text}`);
    count.understood++;
    count.replies += Number(reason === 'stop');
    for (const [k, instance] of [...valid, ...invalid].entries()) {
      const taken = answers[i][k] === '1';
      const comes = k < valid.length && mayCome(instance) && !DO_NOT_COME.test(said(instance));
      assert.equal(taken, comes, `${place}: ${said(instance)}`);
      if (k >= valid.length) count.wrong++;
      else count[taken ? 'taken' : 'narrower']++;
    }
  }
  console.log(`${suite.length} schemas`, count);
  assert.ok(count.understood >= 170 && count.replies >= 0.6 * count.understood);
});

test('any JSON is JSON', async () => {
  let complete = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const { text, reason, json } = await ask({ json: true, seed, mode: 'full' });
    if (reason !== 'stop') continue;
    complete++;
    assert.deepEqual(json, JSON.parse(text));
  }
  assert.ok(complete >= 3);
});

test('the same tokens in full and lossless, greedy and sampled', async () => {
  for (const schema of Object.values(schemas))
    for (const temperature of [0, 0.9]) {
      const [full, lossless] = await Promise.all(
        ['full', 'lossless'].map((mode) =>
          ask({ schema, seed: 3, mode, temperature, maxTokens: 60 }),
        ),
      );
      assert.equal(lossless.text, full.text);
      assert.equal(lossless.forced, full.forced);
    }
});

test('exits keep to the shape and are not certified', async () => {
  let exits = 0;
  for (const [name, schema] of Object.entries(schemas)) {
    const result = await ask({
      schema,
      mode: 'exit',
      accuracy: 0.9,
      temperature: 0,
      maxTokens: 300,
    });
    const { usage, exits: by, forced = 0, certified, uncertified } = result;
    const counted = Object.values(by).reduce((sum, n) => sum + n, forced);
    assert.equal(counted, usage.completionTokens);
    assert.deepEqual([certified, /schema/.test(uncertified ?? '')], [false, true]);
    exits += by[0] + by[1] + by[2];
    if (result.reason === 'stop') assert.ok(ajv.validate(schema, result.json), name);
  }
  assert.ok(exits > 0);
});

test('what a shape forces is not computed', async () => {
  const schema = {
    type: 'object',
    properties: { temperature_celsius: { type: 'boolean' }, station_identifier: { const: 'N-7' } },
    required: ['temperature_celsius', 'station_identifier'],
  };
  const reply = lm.complete('x', { schema, temperature: 0, maxTokens: 200 });
  const tokens = [];
  for await (const token of reply) tokens.push(token);
  const { text, forced = 0, usage, meanWork } = await reply.result;
  assert.match(text, /^\{"temperature_celsius": (true|false), "station_identifier": "N-7"\}$/);
  assert.equal(tokens.filter((t) => t.forced).length, forced);
  assert.ok(forced > usage.completionTokens / 2, `${forced} of ${usage.completionTokens}`);
  assert.ok(tokens.every((t) => !t.forced || (t.work === 0 && t.layer === 0 && t.head === -1)));
  assert.ok(meanWork <= 1.01, String(meanWork));
});

const patterns = [
  /yes|no|maybe/,
  /^\d{4}-\d{2}$/,
  /[A-F]+\.[^a-z\s]{2}/,
  /(?:ab|c(?<d>d)?){1,3}x?/,
  /h[aeiou]llo/i,
  /\w\W\s?\u00fc\x41\u{1F4A9}/u,
  /a*?b+?/,
  /.\S/s,
  /[\]\-x^]{3}/,
];
for (const pattern of patterns)
  test(`pattern: ${pattern}`, async () => {
    const whole = new RegExp(`^(?:${pattern.source})$`, pattern.flags);
    let complete = 0;
    for (let seed = 1; seed <= 8; seed++) {
      const { text, reason } = await ask({ pattern, seed, mode: 'full', maxTokens: 60 });
      if (reason !== 'stop') continue;
      complete++;
      assert.match(text, whole);
    }
    assert.ok(complete >= 4, String(complete));
  });

test('what is not understood is named before anything runs', async () => {
  /** @type {[object, RegExp][]} */
  const wrong = [
    [{ schema: { type: 'object', allOf: [{}] } }, /#\/allOf: type beside it/],
    [{ schema: { allOf: [{}, {}] } }, /#\/allOf: more than one/],
    [{ schema: { properties: { a: { not: {} } } } }, /#\/properties\/a\/not: this keyword is not/],
    [{ schema: { properties: { a: { $id: 'x.json' } } } }, /#\/properties\/a\/\$id/],
    [{ schema: { type: 'float' } }, /#\/type: a type is one of/],
    [{ schema: { type: 'string', format: 'ipv4' } }, /#\/format: the formats are/],
    [{ schema: { enum: [1], minimum: 3 } }, /other conditions beside it/],
    [
      { schema: { oneOf: [{ type: 'integer' }, { type: 'number' }] } },
      /#\/oneOf\/1: it is not told/,
    ],
    [{ schema: { $ref: '#/$defs/x' } }, /a \$ref is/],
    [{ schema: { $ref: '#' } }, /no text satisfies/],
    [{ schema: false }, /no text satisfies/],
    [{ schema: { type: 'integer', minimum: 3, maximum: 2 } }, /no number lies within/],
    [{ schema: { type: 'string', maxLength: 5000 } }, /more than 4096/],
    [
      { schema: { properties: { a: {} }, required: ['b'], additionalProperties: false } },
      /forbids it/,
    ],
    [{ schema: 7 }, /option schema/],
    [{ schema: {}, json: true }, /only one shape/],
    [{ pattern: 'a' }, /option pattern: a RegExp/],
    [{ pattern: /(?=a)b/ }, /look-around/],
    [{ pattern: /(a)\1/ }, /this escape is not supported/],
    [{ pattern: /a$b/ }, /\$ before the end/],
    [{ pattern: /a/m }, /flag m/],
    [{ pattern: /(?:(?:a{4096}){4096}){4096}/ }, /too large/],
  ];
  for (const [options, message] of wrong)
    await assert.rejects(ask(options), { name: 'ExitLMError', code: 'USAGE', message });
  assert.equal((await lm.complete('x', { maxTokens: 1 }).result).usage.completionTokens, 1);
});

test('a reply that is cut says so, and has no value', async () => {
  const result = await ask({ schema: { type: 'string', minLength: 200 }, seed: 1, maxTokens: 5 });
  assert.deepEqual([result.reason, result.json], ['length', undefined]);
});

test(
  'docs/shaped.md: its example runs as it stands',
  { skip: !fs.existsSync(defaultModel) },
  () => {
    const [out] = examplesOf('docs/shaped.md');
    const [, json, forced] = /^(\{.*\}) (\d+)/.exec(out) ?? [];
    assert.equal(json, "{ name: 'Anna', age: 31, city: 'Oslo' }");
    assert.ok(Number(forced) > 5, out);
  },
);
