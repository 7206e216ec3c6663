// Everything that has to pass (npm test), from a clean clone: sets up, builds, looks at the
// sources (npm run lint), and runs the tests of the C code (as built for use, and under
// sanitizers), short runs of the fuzz targets,
// the tests of the JavaScript, and the page in Debian's Chromium.
//
//   node tests/run.mjs [--only PHASE,…] [--filter TEXT] [--kernel NAME]
//
// PHASE is one of lint, c, sanitize, tsan, m32, fuzz, neon, js, node-lts, page, bundlers, browsers,
// edge; set-up and build always run. Left out unless named: browsers, the page in Firefox and
// WebKitGTK (npm run test:browsers), neon, the C tests for 64-bit ARM under qemu (npm run test:neon), tsan, those with
// threads under ThreadSanitizer, m32, all of them for 32-bit x86 (gcc-multilib), and node-lts, the
// JavaScript tests under Node's current LTS (npm run test:node-lts). --filter runs the test files
// (ctest: the tests) whose name contains TEXT. --kernel: the native program and the C tests use no
// better instruction set than that one. Test files:
//   tests/c/test_*.c   tests/fuzz/fuzz_*.c   tests/js/**/*.test.mjs   tests/page/**/*.test.mjs
//                      tests/bundlers/**/*.test.mjs   tests/edge/**/*.test.mjs
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { build, buildPreset, treeOf } from '../wasm/setup/build.mjs';
import { nodeLts } from './js/support/node-lts.mjs';
import { lint } from './lint.mjs';
import { SetupError, output as saidBy, root, setUp } from '../wasm/setup/setup.mjs';

const PHASES = [
  'lint',
  'c',
  'sanitize',
  'tsan',
  'm32',
  'fuzz',
  'neon',
  'js',
  'node-lts',
  'page',
  'bundlers',
  'browsers',
  'edge',
];
const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    filter: { type: 'string', default: '' },
    kernel: { type: 'string' },
  },
});
const { kernel } = values;
const chosen =
  values.only?.split(',') ??
  PHASES.filter((name) => !['tsan', 'm32', 'neon', 'browsers', 'node-lts'].includes(name));
const unknown = chosen.find((name) => !PHASES.includes(name));
if (unknown) {
  console.error(`exitlm: --only ${unknown}: the phases are ${PHASES.join(', ')}`);
  process.exit(2);
}

const cores = String(os.availableParallelism());
// As many files at a time as there are cores: Node's own choice leaves one idle.
const JS = ['--import', './tests/js/support/invariants.mjs', `--test-concurrency=${cores}`];
/** @type {{ name: string, seconds: number, result: string, failed: boolean }[]} */
const phases = [];

/** Runs one phase; what it throws is a failure of the phase, and the others still run. */
async function phase(/** @type {string} */ name, /** @type {() => unknown} */ body) {
  console.log(`\n=== ${name}`);
  const began = Date.now();
  let result;
  let failed = false;
  try {
    result = String((await body()) ?? 'done');
  } catch (error) {
    failed = true;
    result = error instanceof SetupError ? error.message.split('\n')[0] : String(error);
    console.error(error instanceof SetupError ? error.message : error);
  }
  const seconds = (Date.now() - began) / 1000;
  phases.push({ name, seconds, result, failed });
  console.log(`--- ${name}: ${failed ? 'FAILED' : result} (${seconds.toFixed(1)} s)`);
  return !failed;
}

/**
 * Runs a program and shows its output; resolves to the output, rejects where the status is not 0.
 */
function show(/** @type {string} */ program, /** @type {string[]} */ args, env = process.env) {
  const { status, stdout, error } = spawnSync(program, args, {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 2],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  process.stdout.write(stdout ?? '');
  if (error || status !== 0)
    throw new SetupError(`${summary(stdout ?? '') || program}${error ? `: ${error.message}` : ''}`);
  return stdout;
}

/** What the runner itself says about how many passed. */
function summary(/** @type {string} */ output) {
  const ctest = /\d+% tests passed, .*/.exec(output)?.[0];
  if (ctest) return ctest;
  const count = (/** @type {string} */ what) =>
    new RegExp(`^(?:# |ℹ )${what} (\\d+)$`, 'm').exec(output)?.[1];
  return count('tests')
    ? `${count('tests')} tests, ${count('pass')} passed, ${count('fail')} failed, ${count('skipped')} skipped`
    : '';
}

const ctest = (/** @type {string} */ preset) =>
  summary(
    show('ctest', [
      ...(kernel
        ? ['--test-dir', treeOf(preset, kernel), '--output-on-failure']
        : ['--preset', preset]),
      '-j',
      cores,
      ...(values.filter ? ['-R', values.filter.replace(/[^\w]/g, '.')] : []),
    ]),
  ) || 'no tests';

async function buildAndTest(/** @type {string} */ preset) {
  await buildPreset(preset, { quiet: true, kernel });
  return ctest(preset);
}

/** Node's own test runner over the test files of a folder. */
function nodeTests(
  /** @type {string} */ folder,
  /** @type {string[]} */ extra = [],
  wanted = (/** @type {string} */ file) => file !== 'engines.test.mjs',
  node = process.execPath,
) {
  const at = path.join(root, 'tests', folder);
  const files = (fs.existsSync(at) ? fs.readdirSync(at, { recursive: true }) : [])
    .map(String)
    .filter((f) => f.endsWith('.test.mjs') && f.includes(values.filter) && wanted(f))
    .sort()
    .map((f) => path.join('tests', folder, f));
  if (files.length === 0) return 'no test files';
  return summary(
    show(node, ['--test', '--test-reporter=spec', '--test-timeout=900000', ...extra, ...files]),
  );
}

const began = Date.now();
/** @type {import('../wasm/setup/setup.mjs').Part[]} */
const parts = ['native', 'wasm', 'wasi', 'npm', 'model'];
if (chosen.includes('page') || chosen.includes('bundlers')) parts.push('browser');
if (chosen.includes('browsers')) parts.push('browsers');
if (chosen.includes('edge')) parts.push('edge');
if (chosen.includes('fuzz')) parts.push('fuzz');
if (chosen.includes('neon')) parts.push('arm');
if (chosen.includes('m32')) parts.push('m32');
/** The native build for `--kernel`, which the tests are told of. */
async function buildForKernel() {
  await buildPreset('native', { quiet: true, kernel });
  process.env.EXITLM = path.join(treeOf('native', kernel), 'exitlm');
  const tiny = path.join(root, 'tests/data/tiny.gguf');
  const said = saidBy(process.env.EXITLM, 'chat', tiny, '-p', 'a', '--max-tokens', '1', '--json');
  const used = JSON.parse(said?.split('\n')[0] ?? '{}').kernel;
  if (used !== kernel)
    throw new SetupError(`--kernel ${kernel}: this machine does not run it; it runs ${used}`);
}

const ready =
  (await phase('set-up', () => setUp(parts))) &&
  (await phase('build', () => build('everything'))) &&
  (!kernel || (await phase(`build for ${kernel}`, buildForKernel)));

if (ready) {
  const run = {
    'lint': () => phase('lint', () => lint()),
    'c': () => phase('C tests', () => ctest('native')),
    'sanitize': () =>
      phase('C tests under AddressSanitizer and UndefinedBehaviorSanitizer', () =>
        buildAndTest('sanitize'),
      ),
    'tsan': () => phase('C tests with threads, under ThreadSanitizer', () => buildAndTest('tsan')),
    'm32': () => phase('C tests for 32-bit x86', () => buildAndTest('m32')),
    'fuzz': () => phase('fuzz targets, a short run each', () => buildAndTest('fuzz')),
    'neon': () => phase('C tests for 64-bit ARM, under qemu', () => buildAndTest('neon')),
    'js': () => phase('JavaScript tests', () => nodeTests('js', JS)),
    'node-lts': () =>
      phase("JavaScript tests under Node's current LTS", () =>
        nodeTests('js', JS, undefined, nodeLts()),
      ),
    'page': () =>
      phase('page tests in Chromium', () => nodeTests('page', ['--test-concurrency=1'])),
    'bundlers': () =>
      phase('the package in Vite, webpack, esbuild and Rollup', () =>
        nodeTests('bundlers', ['--test-concurrency=1']),
      ),
    'browsers': () =>
      phase('page tests in Firefox and WebKitGTK', () =>
        nodeTests('page', ['--test-concurrency=1'], (file) => file === 'engines.test.mjs'),
      ),
    'edge': () => phase('edge tests', () => nodeTests('edge', ['--test-concurrency=1'])),
  };
  for (const name of PHASES)
    if (chosen.includes(name)) await run[/** @type {keyof typeof run} */ (name)]();
}

console.log(`\n=== ${((Date.now() - began) / 1000).toFixed(0)} s in all`);
const width = Math.max(...phases.map(({ name }) => name.length));
for (const { name, seconds, result, failed } of phases) {
  console.log(
    `${failed ? 'FAILED' : 'ok    '}  ${name.padEnd(width)}  ${seconds.toFixed(1).padStart(6)} s  ${result}`,
  );
}
const failures = phases.filter(({ failed }) => failed);
console.log(
  failures.length
    ? `\n${failures.length} of ${phases.length} phases failed`
    : `\nall ${phases.length} phases passed`,
);
process.exit(failures.length ? 1 : 0);
