// Installs what is missing for building and testing, and nothing that is there.
//
//   node wasm/setup/setup.mjs native|wasm|fuzz|browser|npm|model|arm|browsers …     (default: all but the last two)
//
// System packages come through apt (sudo where this is not root), Emscripten
// into ${XDG_CACHE_HOME:-~/.cache}/exitlm, npm packages by `npm ci`, the model
// into models/. Uses nothing but Node's own modules: it runs in a clean clone.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchModel, findModel, isComplete } from '../../models/fetch.mjs';

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const cache = path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'exitlm');

// What install-emscripten.sh installs.
const EMSCRIPTEN = [{ version: '6.0.5', llvm: 22 }];
/** An emcc on the PATH is used from this version on. */
const OLDEST_EMSCRIPTEN = '6.0.0';
/** clang of this version compiles the WASI module and the fuzz targets. */
const LLVM = 22;

export class SetupError extends Error {}

const onTerminal = process.stderr.isTTY;
export const say = (/** @type {string} */ line) => process.stderr.write(`${onTerminal ? '\x1b[36m' : ''}[setup]${onTerminal ? '\x1b[0m' : ''} ${line}\n`);

/** Runs a program with its output on standard error; what it says is shown only when it fails if `quiet`. */
export function run(program, args, { cwd = root, env = process.env, quiet = false, failure = '' } = {}) {
  const result = spawnSync(program, args, { cwd, env, stdio: ['inherit', quiet ? 'pipe' : 2, quiet ? 'pipe' : 2], maxBuffer: 1 << 28 });
  if (result.error || result.status !== 0) {
    if (quiet) process.stderr.write(Buffer.concat([result.stdout ?? Buffer.alloc(0), result.stderr ?? Buffer.alloc(0)]));
    const how = result.error ? result.error.message : `ended with ${result.status ?? result.signal}`;
    throw new SetupError(`${[program, ...args.slice(0, 3)].join(' ')} … ${how}.${failure && ` ${failure}`}`);
  }
  return quiet ? result.stdout.toString() : '';
}

/** Runs a program that takes long: every ten seconds its latest line is shown, all of it when it fails. */
function runLong(/** @type {string} */ program, /** @type {string[]} */ args, /** @type {string} */ failure) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ['inherit', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
    const beat = setInterval(() => say(`  … ${said.trim().split('\n').at(-1)?.slice(0, 100)}`), 10e3);
    child.on('error', (error) => {
      clearInterval(beat);
      reject(new SetupError(`${program}: ${error.message}. ${failure}`));
    });
    child.on('close', (code) => {
      clearInterval(beat);
      if (code === 0) return resolve(undefined);
      process.stderr.write(said);
      reject(new SetupError(`${program} ended with ${code}. ${failure}`));
    });
  });
}

/** What a program prints, or null where it does not run. */
export function output(/** @type {string} */ program, /** @type {string[]} */ ...args) {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  return result.error || result.status !== 0 ? null : result.stdout.trim();
}

/** A program's path on the PATH, or null. */
export function which(/** @type {string} */ program) {
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(folder, program);
    try {
      fs.accessSync(file, fs.constants.X_OK);
      if (fs.statSync(file).isFile()) return file;
    } catch { /* not in this folder */ }
  }
  return null;
}

const olderThan = (/** @type {string} */ a, /** @type {string} */ b) => {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number));
  const at = [0, 1, 2].find((i) => (x[i] ?? 0) !== (y[i] ?? 0));
  return at !== undefined && (x[at] ?? 0) < (y[at] ?? 0);
};

// ---- system packages ------------------------------------------------------------

const clang = `/usr/bin/clang-${LLVM}`;
const wasiLibrary = '/usr/lib/wasm32-wasi/libc.a';
const hasFile = (/** @type {string} */ file) => fs.existsSync(file);

/** @typedef {[isThere: () => unknown, aptPackage: string]} Need */

/** What each part of the work needs from the system. @type {Record<string, Need[]>} */
const needs = {
  native: [
    [() => which('cc') && which('make'), 'build-essential'],
    [() => which('c++'), 'g++'], // an example in C++ is among the tests
    [() => which('cmake'), 'cmake'],
  ],
  pip: [
    [() => which('python3'), 'python3'],
    [() => output('python3', '-m', 'pip', '--version') !== null, 'python3-pip'],
  ],
  wasi: [
    [() => hasFile(clang), `clang-${LLVM}`],
    [() => hasFile(`/usr/bin/wasm-ld-${LLVM}`), `lld-${LLVM}`],
    [() => hasFile(wasiLibrary), 'wasi-libc'],
    [() => hasFile(wasiBuiltins()), `libclang-rt-${LLVM}-dev-wasm32`],
  ],
  fuzz: [
    [() => hasFile(clang), `clang-${LLVM}`],
    [() => hasFile(`/usr/lib/llvm-${LLVM}/lib/clang/${LLVM}/lib/linux/libclang_rt.fuzzer-x86_64.a`) || process.arch !== 'x64', `libclang-rt-${LLVM}-dev`],
  ],
  arm: [
    [() => which('aarch64-linux-gnu-gcc') && hasFile('/usr/aarch64-linux-gnu/lib/libc.so.6'), 'gcc-aarch64-linux-gnu'],
    [() => hasFile('/usr/aarch64-linux-gnu/include/stdio.h'), 'libc6-dev-arm64-cross'],
    [() => which('qemu-aarch64'), 'qemu-user'],
  ],
  browser: [
    [() => chromium() !== null, 'chromium'],
    [() => chromium() !== '/usr/bin/chromium' || hasFile('/usr/share/fonts/truetype'), 'fonts-dejavu-core'],
  ],
  browsers: [
    [() => process.env.EXITLM_FIREFOX || which('firefox-esr') || which('firefox'), 'firefox-esr'],
    [() => which('WebKitWebDriver'), 'webkit2gtk-driver'],
    [() => which('Xvfb'), 'xvfb'],
  ],
};
/** What Emscripten needs. @returns {Need[]} */
const llvmNeeds = (/** @type {number} */ version) => [
  [() => hasFile(`/usr/bin/clang-${version}`), `clang-${version}`],
  [() => hasFile(`/usr/bin/wasm-ld-${version}`), `lld-${version}`],
  [() => hasFile(`/usr/lib/llvm-${version}/bin/llvm-ar`), `llvm-${version}`],
  [() => which('xz'), 'xz-utils'],
  [() => which('python3'), 'python3'],
];

function wasiBuiltins() {
  return `/usr/lib/llvm-${LLVM}/lib/clang/${LLVM}/lib/wasi/libclang_rt.builtins-wasm32.a`;
}

/** The browser for the tests: $EXITLM_CHROMIUM, else Debian's. */
export function chromium() {
  return process.env.EXITLM_CHROMIUM || which('chromium');
}

/** Installs the packages of those of `list` that are missing. */
async function ensurePackages(/** @type {Need[]} */ list, /** @type {string} */ purpose) {
  const absent = () => [...new Set(list.filter(([there]) => !there()).map(([, name]) => name))];
  const missing = absent();
  if (missing.length === 0) return;
  const line = `apt-get install ${missing.join(' ')}`;
  const isRoot = process.getuid?.() === 0;
  if (!which('apt-get')) {
    throw new SetupError(`${purpose} needs ${missing.join(', ')}, and this system has no apt: install what they bring by hand.`);
  }
  if (!isRoot && !which('sudo')) {
    throw new SetupError(`${purpose} needs ${missing.join(', ')}; this is not root and there is no sudo. As root: ${line}`);
  }
  say(`${purpose}: ${isRoot ? '' : 'sudo '}${line} (a minute or two)`);
  const began = Date.now();
  // Without a terminal sudo fails at once instead of asking for a password that nobody types.
  const become = isRoot ? [] : ['sudo', ...(process.stdin.isTTY ? [] : ['-n'])];
  const [program, ...rest] = [...become, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-o', 'DPkg::Lock::Timeout=600'];
  const failure = `Run it by hand, as root: apt-get update && ${line}`;
  await runLong(program, [...rest, 'update'], failure);
  await runLong(program, [...rest, 'install', '-y', '--no-install-recommends', ...missing], failure);
  if (absent().length) throw new SetupError(`apt installed ${missing.join(', ')}, but what ${absent().join(', ')} should bring is not there.`);
  say(`installed after ${seconds(began)}`);
}

const seconds = (/** @type {number} */ began) => `${((Date.now() - began) / 1000).toFixed(0)} s`;

// ---- Emscripten --------------------------------------------------------------------

/**
 * Emscripten's compiler with what it needs: of the PATH if it is new enough, else of the cache; null where there is neither.
 * @returns {{ emcc: string, wasmOpt: string, version: string, env: NodeJS.ProcessEnv } | null}
 */
function findEmscripten() {
  const emcc = which('emcc');
  const version = emcc && /^emcc .*? (\d+\.\d+\.\d+)/m.exec(output(emcc, '--version') ?? '')?.[1];
  if (emcc && version && !olderThan(version, OLDEST_EMSCRIPTEN)) {
    const binaryen = output(path.join(path.dirname(emcc), 'em-config'), 'BINARYEN_ROOT');
    const wasmOpt = path.join(binaryen ?? '', 'bin/wasm-opt');
    if (hasFile(wasmOpt)) return { emcc, wasmOpt, version, env: process.env };
  }
  const installed = EMSCRIPTEN.find((one) => hasFile(path.join(cache, `emscripten-${one.version}`, 'complete')));
  if (!installed) return null;
  const prefix = path.join(cache, `emscripten-${installed.version}`);
  // Settings of another Emscripten in the environment would override the prefix's own.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(EM_|EMSDK|EMCC_)/.test(name)));
  return { emcc: path.join(prefix, 'bin/emcc'), wasmOpt: path.join(prefix, 'binaryen/bin/wasm-opt'), version: installed.version, env };
}

/** Emscripten of the PATH or of the cache; installed into the cache where there is neither. */
export async function ensureEmscripten() {
  const found = findEmscripten();
  if (found) return found;
  const failures = [];
  for (const { version, llvm } of EMSCRIPTEN) {
    say(`Emscripten ${version} into ${cache} (about a minute)`);
    const began = Date.now();
    try {
      await ensurePackages(llvmNeeds(llvm), `Emscripten ${version}`);
      run('bash', [path.join(root, 'wasm/setup/install-emscripten.sh'), cache, version]);
      say(`Emscripten ${version} installed after ${seconds(began)}`);
      return /** @type {NonNullable<ReturnType<typeof findEmscripten>>} */ (findEmscripten());
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      say(`that failed: ${error.message}`);
      failures.push(error.message);
    }
  }
  throw new SetupError(`Emscripten could not be installed. Put an emcc (${OLDEST_EMSCRIPTEN} or later) on the PATH, ` +
    `for instance with emsdk, and start again. What failed:\n  ${failures.join('\n  ')}`);
}

// ---- npm packages, the model, and all of it -------------------------------------------

/** `npm ci`, when node_modules does not match package-lock.json. */
export function ensureNpm() {
  const stamp = path.join(root, 'node_modules/.exitlm-lock');
  const lock = createHash('sha256').update(fs.readFileSync(path.join(root, 'package-lock.json'))).digest('hex');
  if (hasFile(stamp) && fs.readFileSync(stamp, 'utf8') === lock) return;
  say('npm packages: npm ci');
  const began = Date.now();
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { quiet: true, failure: 'Is the npm registry reachable (npm ping)?' });
  fs.writeFileSync(stamp, lock);
  say(`npm packages installed after ${seconds(began)}`);
}

const modelIsThere = () => isComplete(path.join(root, 'models', findModel().file), findModel());

/** @typedef {'native' | 'wasm' | 'fuzz' | 'arm' | 'browser' | 'browsers' | 'npm' | 'model' | 'edge'} Part */
/** All but `arm`, the cross compiler and emulator of npm run test:neon, `browsers`, Firefox and WebKitGTK of npm run test:browsers, and `edge`, pip for Wasmtime. @type {Part[]} */
export const everything = ['native', 'wasm', 'fuzz', 'browser', 'npm', 'model'];

/**
 * Sets up those parts.
 * @param {Part[]} parts
 */
export async function setUp(parts) {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) throw new SetupError(`Node ${process.versions.node} is too old: 20 or later is needed.`);
  const fetchesModel = parts.includes('model') && !(await modelIsThere());
  await ensurePackages([
    ...(parts.includes('native') ? needs.native : []),
    ...(parts.includes('wasm') ? needs.wasi : []),
    ...(parts.includes('wasm') && !findEmscripten() ? llvmNeeds(EMSCRIPTEN[0].llvm) : []),
    ...(parts.includes('fuzz') ? needs.fuzz : []),
    ...(parts.includes('arm') ? needs.arm : []),
    ...(parts.includes('browser') ? needs.browser : []),
    ...(parts.includes('browsers') ? needs.browsers : []),
    ...(parts.includes('edge') ? needs.pip : []), // Wasmtime comes by pip
    ...(fetchesModel && which('apt-get') ? needs.pip : []), // without it the model's other sources are tried
  ], 'building and testing');
  if (parts.includes('npm')) ensureNpm();
  if (parts.includes('wasm')) await ensureEmscripten();
  if (fetchesModel) await fetchModel(undefined, { log: say });
}

/** The compiler of the WASI module. */
export const wasi = { clang, ld: `/usr/bin/wasm-ld-${LLVM}` };

/** Ends the process with a sentence for what a person can mend, with a trace for what is a mistake here. */
export function exitWith(/** @type {unknown} */ error) {
  if (error instanceof SetupError || !(error instanceof Error)) console.error(`exitlm: ${error instanceof Error ? error.message : error}`);
  else console.error(error);
  process.exit(1);
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const parts = /** @type {Part[]} */ (process.argv.slice(2));
  const unknown = parts.find((part) => ![...everything, 'arm', 'browsers', 'edge'].includes(part));
  if (unknown) {
    console.error(`exitlm: "${unknown}" is not a part of the set-up; the parts are ${everything.join(', ')}, arm`);
    process.exit(2);
  }
  setUp(parts.length ? parts : everything).then(() => say('everything is there'), exitWith);
}
