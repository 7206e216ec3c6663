// The same bits: writes down what each build answers, token by token, and compares a later build
// with that. For changes that move code and must not change a token, an exit or a logit.
//
//   npm run build && node tests/answers/bits.mjs --out FILE
//   npm run build && node tests/answers/bits.mjs --compare FILE [--quick]
//
//   --quick            the native program and one WebAssembly build, 6 prompts
//   --builds A,B       of native, wasi, wasi-relaxed, node-simd, node-relaxed
//   --prompts N        the first N of the selection (50)
//   --root DIR         another checkout of this repository, built
//   --program FILE     another native program than the checkout's build/exitlm
//   --model FILE       its heads lie beside it, as NAME.exits.gguf
//   --jobs N           builds that run at a time; one for each processor
//
// Every build answers with one thread. A reply's line is a token: its id, the layer and the head
// that gave it, the confidence. Nothing that depends on the clock is kept: of lossless replies only
// the ids, as drafts follow measured prices. A reply that began while the model was loading must
// equal the one after that. Prints the first difference of each build by name; the exit status is 1
// where there is one. --out writes all the same: an old build may be wrong while it is loading.
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { prompts } from './text.mjs';
import { defaultModel, inParallel, root } from './tools.mjs';

const TOKENS = 24;
const REPETITIVE_EVERY = 8; // so often a prompt whose answer repeats it, where drafts are long
const QUICK = { builds: 'native,node-simd', prompts: '6' };

/**
 * @typedef {object} Mode
 * @property {string} name
 * @property {boolean} idsOnly whether exits and confidence depend on the clock
 * @property {{ mode: string, accuracy?: number, kv?: string, temperature?: number,
 *   seed?: number }} options
 *
 * @typedef {{ id: string, text: string, modes: Mode[] }} Prompt
 * @typedef {{ id: string, text: string }} Text to score
 *
 * @typedef {object} Job what one build does
 * @property {string} build
 * @property {string} root
 * @property {string} program
 * @property {string} model
 * @property {string} heads
 * @property {number} tokens
 * @property {Prompt[]} prompts
 * @property {Text[]} texts
 * @property {number} loading so many prompts are also answered while the model is loading
 *
 * @typedef {Record<string, string[]>} Lines by name of what was asked
 * @typedef {{ kernel: string, lines: Lines }} Answers of a build
 */

/** @type {Mode} */
const full = { name: 'full', idsOnly: false, options: { mode: 'full' } };
/** @type {Mode[]} */
const exits = [0.95, 0.9, 0.98].flatMap((accuracy) =>
  ['maps', 'exact'].map((kv) => ({
    name: `exit ${accuracy} ${kv}`,
    idsOnly: false,
    options: { mode: 'exit', accuracy, kv },
  })),
);
/** @type {Mode[]} */
const lossless = [
  { name: 'lossless', idsOnly: true, options: { mode: 'lossless' } },
  {
    name: 'lossless sampled',
    idsOnly: true,
    options: { mode: 'lossless', temperature: 0.8, seed: 7 },
  },
];
const LOADING = 2; // prompts that are also answered while the model is loading

/** Options of Node: version 20 computes relaxed SIMD wrongly in its baseline compiler. */
const old = Number(process.versions.node.split('.')[0]) < 22;
const relaxed = old ? ['--no-liftoff', '--experimental-wasm-relaxed-simd'] : [];
/** @type {Record<string, string[]>} */
const builds = {
  'native': [],
  'wasi': [],
  'wasi-relaxed': relaxed,
  'node-simd': [],
  'node-relaxed': relaxed,
};

/**
 * The selection; a smaller one is the beginning of a larger one. Every prompt is answered in full,
 * by one of the exits' settings and by one of the lossless ones, in turn.
 * @returns {Prompt[]}
 */
function select(/** @type {number} */ count) {
  const plain = prompts(count, 'test');
  const repetitive = fs
    .readFileSync(path.join(root, 'tests/data/repetitive.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  return Array.from({ length: count }, (_, i) => {
    const again = i % REPETITIVE_EVERY === REPETITIVE_EVERY - 4 && repetitive.shift();
    const { id, turns } = again || plain.shift();
    const others = [exits, lossless].map((list) => list[i % list.length]);
    return { id, text: turns[0], modes: [full, ...others] };
  });
}

/** @returns {Text[]} */
function textsToScore() {
  const mixed = fs.readFileSync(path.join(root, 'tests/answers/mixed.txt'), 'utf8');
  const length = Math.floor(mixed.length / 3);
  return [0, 1, 2].map((i) => ({
    id: `mixed ${i + 1}`,
    text: mixed.slice(i * length, i * length + 300),
  }));
}

/** A process for each build, as a flag of Node may be its own. @returns {Promise<Answers>} */
function answersOf(/** @type {Job} */ job) {
  const began = Date.now();
  const script = fileURLToPath(new URL('bits-build.mjs', import.meta.url));
  const child = fork(script, [], { execArgv: ['--no-warnings', ...builds[job.build]] });
  /** @type {Answers} */
  const answers = { kernel: '', lines: {} };
  let done = false;
  child.on('message', (/** @type {any} */ { kernel, name, lines, end }) => {
    if (kernel) answers.kernel = kernel;
    if (name) answers.lines[name] = lines;
    if (end) done = true;
  });
  child.send(job);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (!done) return void reject(new Error(`${job.build}: ended early (${signal ?? code})`));
      const seconds = ((Date.now() - began) / 1000).toFixed(0);
      const n = Object.keys(answers.lines).length;
      console.log(`${job.build}: ${n} answers, kernel ${answers.kernel}, ${seconds} s`);
      resolve(answers);
    });
  });
}

/** The first difference, or null. */
function difference(/** @type {string[]} */ was, /** @type {string[]} */ is) {
  const at = is.findIndex((line, i) => line !== was[i]);
  if (at < 0 && is.length === was.length) return null;
  const i = at < 0 ? is.length : at;
  return `line ${i} was ${was[i] ?? 'not there'}, is ${is[i] ?? 'not there'}`;
}

const EARLY = 'loading, '; // so begin the names of replies that began while the model was loading

/** Those replies against the ones after that. */
function checkLoading(/** @type {Lines} */ lines) {
  const early = Object.entries(lines).filter(([name]) => name.startsWith(EARLY));
  return early.flatMap(([name, is]) => {
    const different = difference(lines[name.slice(EARLY.length)], is);
    return different ? [`${name}, beside the model that is there: ${different}`] : [];
  });
}

/** What differs from the file; early replies are judged by checkLoading. @returns {string[]} */
function compare(/** @type {Answers | undefined} */ was, /** @type {Answers} */ is) {
  if (!was) return ['not in the file'];
  if (was.kernel !== is.kernel) return [`kernel ${was.kernel} in the file, ${is.kernel} here`];
  const complete = Object.entries(is.lines).filter(([name]) => !name.startsWith(EARLY));
  return complete.flatMap(([name, lines]) => {
    const different = was.lines[name] ? difference(was.lines[name], lines) : 'not in the file';
    return different ? [`${name}: ${different}`] : [];
  });
}

const sha256 = (/** @type {string} */ name) =>
  createHash('sha256').update(fs.readFileSync(name)).digest('hex');

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    compare: { type: 'string' },
    quick: { type: 'boolean', default: false },
    builds: { type: 'string' },
    prompts: { type: 'string' },
    root: { type: 'string', default: root },
    program: { type: 'string' },
    model: { type: 'string', default: defaultModel },
    jobs: { type: 'string', default: `${os.availableParallelism()}` },
  },
});
const all = Object.keys(builds).join();
const chosen = (values.builds ?? (values.quick ? QUICK.builds : all)).split(',');
const unknown = chosen.find((name) => !builds[name]);
const count = Number(values.prompts ?? (values.quick ? QUICK.prompts : 50));
if (unknown !== undefined || !(count >= 1) || !values.out === !values.compare) {
  console.error(
    unknown === undefined
      ? 'bits: give --out FILE or --compare FILE, and --prompts from 1'
      : `bits: --builds ${unknown}: they are ${Object.keys(builds).join(', ')}`,
  );
  process.exit(2);
}

const at = path.resolve(values.root);
const model = fs.realpathSync(values.model); // WASI follows no link that leads out of its folder
const heads = path.resolve(values.model.replace(/\.gguf$/, '.exits.gguf'));
const header = { format: 1, tokens: TOKENS, model: sha256(model), heads: sha256(heads) };
/** @type {typeof header & { builds: Record<string, Answers> } | null} */
const file = values.compare && JSON.parse(fs.readFileSync(values.compare, 'utf8'));
for (const [key, value] of Object.entries(header)) {
  if (!file || /** @type {any} */ (file)[key] === value) continue;
  console.error(`bits: ${values.compare} was made with another ${key}, not ${value}`);
  process.exit(1);
}

const job = {
  root: at,
  model,
  heads,
  tokens: TOKENS,
  prompts: select(count),
  texts: textsToScore(),
  loading: values.quick ? 1 : LOADING,
  program: path.resolve(values.program ?? path.join(at, 'build/exitlm')),
};
/** @type {Record<string, Answers>} */
const answered = {};
let failed = false;
await inParallel(chosen, Number(values.jobs), async (build) => {
  const is = await answersOf({ ...job, build });
  const found = [...checkLoading(is.lines), ...(file ? compare(file.builds[build], is) : [])];
  if (found.length) {
    const more = found.length > 1 ? ` (and ${found.length - 1} more)` : '';
    console.log(`DIFFERENT: ${build}, ${found[0]}${more}`);
  }
  failed ||= found.length > 0;
  answered[build] = is;
  const whole = { ...header, builds: answered };
  if (values.out) fs.writeFileSync(values.out, `${JSON.stringify(whole, null, 1)}\n`);
});
if (file && !failed) console.log('the same bits');
process.exit(failed ? 1 : 0);
