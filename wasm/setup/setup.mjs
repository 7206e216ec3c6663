// Installs what is missing for building and testing, and nothing that is there.
//
//   node wasm/setup/setup.mjs native|wasm|wasi|fuzz|browser|npm|model|arm|m32|browsers|edge …
//
// (default: all but the last four)
//
// What the machine has comes first: cmake and ninja, an emcc of the PATH, a clang
// that compiles for WASI (with $WASI_SDK_PATH or $WASI_SYSROOT if they are set).
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
export const cache = path.join(
  process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'),
  'exitlm',
);

// What install-emscripten.sh installs.
const EMSCRIPTEN = [{ version: '6.0.5', llvm: 22 }];
/** An emcc on the PATH is used from this version on. */
const OLDEST_EMSCRIPTEN = '6.0.0';
const TOOLCHAIN = 'cmake/Modules/Platform/Emscripten.cmake';
/** clang of this version compiles the WASI module and the fuzz targets. */
const LLVM = 22;

export class SetupError extends Error {}

const onTerminal = process.stderr.isTTY;
export const say = (/** @type {string} */ line) =>
  process.stderr.write(
    `${onTerminal ? '\x1b[36m' : ''}[setup]${onTerminal ? '\x1b[0m' : ''} ${line}\n`,
  );

/**
 * Runs a program with its output on standard error; what it says is shown only when it fails if
 * `quiet`.
 */
export function run(
  program,
  args,
  { cwd = root, env = process.env, quiet = false, failure = '' } = {},
) {
  const result = spawnSync(program, args, {
    cwd,
    env,
    stdio: ['inherit', quiet ? 'pipe' : 2, quiet ? 'pipe' : 2],
    maxBuffer: 1 << 28,
  });
  if (result.error || result.status !== 0) {
    if (quiet)
      process.stderr.write(
        Buffer.concat([result.stdout ?? Buffer.alloc(0), result.stderr ?? Buffer.alloc(0)]),
      );
    const how = result.error
      ? result.error.message
      : `ended with ${result.status ?? result.signal}`;
    throw new SetupError(
      `${[program, ...args.slice(0, 3)].join(' ')} … ${how}.${failure && ` ${failure}`}`,
    );
  }
  return quiet ? result.stdout.toString() : '';
}

/**
 * Runs a program that takes long: every ten seconds its latest line is shown, all of it when it
 * fails.
 */
function runLong(
  /** @type {string} */ program,
  /** @type {string[]} */ args,
  /** @type {string} */ failure,
) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ['inherit', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (data) => {
        said += data;
      });
    const beat = setInterval(
      () => say(`  … ${said.trim().split('\n').at(-1)?.slice(0, 100)}`),
      10e3,
    );
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
    } catch {
      /* not in this folder */
    }
  }
  return null;
}

const olderThan = (/** @type {string} */ a, /** @type {string} */ b) => {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number));
  const at = [0, 1, 2].find((i) => (x[i] ?? 0) !== (y[i] ?? 0));
  return at !== undefined && (x[at] ?? 0) < (y[at] ?? 0);
};

// ---- system packages ------------------------------------------------------------

const hasFile = (/** @type {string} */ file) => fs.existsSync(file);

/** The compilers to try, the machine's own before Debian's. */
const clangs = () => [which('clang'), which(`clang-${LLVM}`)].filter((file) => file !== null);

/** Whether a compiler links a small program with those flags. */
function links(/** @type {string} */ compiler, /** @type {string[]} */ ...flags) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-try-'));
  const source = flags.includes('-fsanitize=fuzzer,address')
    ? 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return n && d[0] == 77; }'
    : '#include <stdio.h>\nint main(void) { return puts("") < 0; }';
  try {
    return (
      spawnSync(compiler, [...flags, '-x', 'c', '-', '-o', path.join(folder, 'a')], {
        input: source,
      }).status === 0
    );
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/**
 * What `find` gives, asked again only while it gives nothing. @template T @param {() => T |
 * undefined} find
 */
const once = (find) => {
  /** @type {T | undefined} */
  let found;
  return () => (found ??= find());
};

/** The compiler of the WASI module, and the sysroot where it is not the compiler's own. */
export const findWasi = once(() => {
  const sdk = process.env.WASI_SDK_PATH;
  const sysroot = process.env.WASI_SYSROOT ?? '';
  const flags = [
    '--target=wasm32-wasi',
    '-Wno-deprecated',
    '--no-wasm-opt',
    '-msimd128',
    '-mrelaxed-simd',
    ...(sysroot ? [`--sysroot=${sysroot}`] : []),
  ];
  const clang = (sdk ? [path.join(sdk, 'bin/clang')] : clangs()).find((file) =>
    links(file, ...flags),
  );
  if (!clang && (sdk || sysroot))
    throw new SetupError(
      `${sdk ? `WASI_SDK_PATH names ${sdk}` : `WASI_SYSROOT names ${sysroot}`}, but no clang compiles for WASI with it.`,
    );
  return clang && { clang, sysroot };
});

/** A clang with libFuzzer and AddressSanitizer. */
export const findFuzzer = once(() =>
  clangs().find((file) => links(file, '-fsanitize=fuzzer,address')),
);

/** @typedef {[isThere: () => unknown, aptPackage: string, why: string]} Need */

/** @type {Need[]} */
const cmake = [
  [() => which('cmake'), 'cmake', 'describes the build'],
  [() => which('ninja'), 'ninja-build', 'runs the build'],
];
/** What each part of the work needs from the system. @type {Record<string, Need[]>} */
const needs = {
  native: [
    ...cmake,
    [
      () => which('cc') || which('gcc') || which('clang'),
      'build-essential',
      'compiles the program',
    ],
    [() => which('c++') || which('g++') || which('clang++'), 'g++', 'compiles a test in C++'],
  ],
  pip: [
    [() => which('python3'), 'python3', 'runs pip'],
    [
      () => output('python3', '-m', 'pip', '--version') !== null,
      'python3-pip',
      'fetches from PyPI',
    ],
  ],
  wasm: cmake,
  wasi: /** @type {Need[]} */ ([
    [() => hasFile(`/usr/bin/clang-${LLVM}`), `clang-${LLVM}`, 'compiles the WASI module'],
    [() => hasFile(`/usr/bin/wasm-ld-${LLVM}`), `lld-${LLVM}`, 'links it'],
    [() => hasFile('/usr/lib/wasm32-wasi/libc.a'), 'wasi-libc', 'is its C library'],
    [
      () =>
        hasFile(`/usr/lib/llvm-${LLVM}/lib/clang/${LLVM}/lib/wasi/libclang_rt.builtins-wasm32.a`),
      `libclang-rt-${LLVM}-dev-wasm32`,
      "is its compiler's library",
    ],
  ]).map(([there, ...what]) => /** @type {Need} */ ([() => findWasi() || there(), ...what])),
  fuzz: [
    [
      () => findFuzzer() || hasFile(`/usr/bin/clang-${LLVM}`),
      `clang-${LLVM}`,
      'compiles the fuzz targets',
    ],
    [findFuzzer, `libclang-rt-${LLVM}-dev`, 'is their libFuzzer'],
  ],
  arm: [
    [
      () => which('aarch64-linux-gnu-gcc') && hasFile('/usr/aarch64-linux-gnu/lib/libc.so.6'),
      'gcc-aarch64-linux-gnu',
      'compiles for ARM',
    ],
    [
      () => hasFile('/usr/aarch64-linux-gnu/include/stdio.h'),
      'libc6-dev-arm64-cross',
      'compiles for ARM',
    ],
    [() => which('qemu-aarch64'), 'qemu-user', 'runs what is compiled for ARM'],
  ],
  // Debian's gcc-multilib would remove the compiler for ARM, that of one version does not.
  m32: [
    [
      () => links('c++', '-m32', '-lstdc++'),
      `g++-${output('gcc', '-dumpversion')?.split('.')[0] ?? 12}-multilib`,
      'compiles for 32-bit x86',
    ],
  ],
  browser: [
    [() => chromium() !== null, 'chromium', 'runs the page tests'],
    [
      () => chromium() !== '/usr/bin/chromium' || hasFile('/usr/share/fonts/truetype'),
      'fonts-dejavu-core',
      'is a font for them',
    ],
  ],
  browsers: [
    [
      () => process.env.EXITLM_FIREFOX || which('firefox-esr') || which('firefox'),
      'firefox-esr',
      'runs the page tests',
    ],
    [() => which('WebKitWebDriver'), 'webkit2gtk-driver', 'runs the page tests'],
    [() => which('Xvfb'), 'xvfb', 'is a screen for WebKitGTK'],
  ],
};
/** What Emscripten needs. @returns {Need[]} */
const llvmNeeds = (/** @type {number} */ version) => [
  [
    () => hasFile(`/usr/bin/clang-${version}`),
    `clang-${version}`,
    'is the compiler behind Emscripten',
  ],
  [() => hasFile(`/usr/bin/wasm-ld-${version}`), `lld-${version}`, 'links WebAssembly'],
  [
    () => hasFile(`/usr/lib/llvm-${version}/bin/llvm-ar`),
    `llvm-${version}`,
    "packs Emscripten's libraries",
  ],
  [() => which('xz'), 'xz-utils', 'unpacks Emscripten'],
  [() => which('python3'), 'python3', 'runs Emscripten'],
];

/** The browser for the tests: $EXITLM_CHROMIUM, else Debian's. */
export function chromium() {
  return process.env.EXITLM_CHROMIUM || which('chromium');
}

/** Installs the packages of those of `list` that are missing, after saying which and why. */
async function ensurePackages(/** @type {Need[]} */ list) {
  const absent = () => [
    ...new Map(list.filter(([there]) => !there()).map(([, name, why]) => [name, why])),
  ];
  const found = absent();
  if (found.length === 0) return;
  const missing = found.map(([name]) => name);
  const line = `apt-get install ${missing.join(' ')}`;
  const isRoot = process.getuid?.() === 0;
  const wanted = `Missing on this machine:\n${found.map(([name, why]) => `    ${name} (${why})`).join('\n')}`;
  if (!which('apt-get'))
    throw new SetupError(
      `${wanted}\nThis system has no apt: install what these Debian packages bring by hand.`,
    );
  if (!isRoot && !which('sudo'))
    throw new SetupError(`${wanted}\nThis is not root and there is no sudo. As root: ${line}`);
  say(`${wanted}\n  Installing them, a minute or two: ${isRoot ? '' : 'sudo '}${line}`);
  const began = Date.now();
  // Without a terminal sudo fails at once instead of asking for a password that nobody types.
  const become = isRoot ? [] : ['sudo', ...(process.stdin.isTTY ? [] : ['-n'])];
  const [program, ...rest] = [
    ...become,
    'env',
    'DEBIAN_FRONTEND=noninteractive',
    'apt-get',
    '-q',
    '-o',
    'DPkg::Lock::Timeout=600',
  ];
  const failure = `Run it by hand, as root: apt-get update && ${line}`;
  await runLong(program, [...rest, 'update'], failure);
  await runLong(
    program,
    [...rest, 'install', '-y', '--no-install-recommends', ...missing],
    failure,
  );
  if (absent().length)
    throw new SetupError(
      `apt installed ${missing.join(', ')}, but what ${absent()
        .map(([name]) => name)
        .join(', ')} should bring is not there.`,
    );
  say(`installed after ${seconds(began)}`);
}

const seconds = (/** @type {number} */ began) => `${((Date.now() - began) / 1000).toFixed(0)} s`;

// ---- Emscripten --------------------------------------------------------------------

/**
 * Emscripten's compiler with what it needs: of the PATH if it is new enough, else of the cache;
 * null where there is neither.
 * @returns {{ toolchain: string, wasmOpt: string, version: string, env: NodeJS.ProcessEnv } | null}
 */
function findEmscripten() {
  const emcc = which('emcc');
  const version = emcc && /^emcc .*? (\d+\.\d+\.\d+)/m.exec(output(emcc, '--version') ?? '')?.[1];
  if (emcc && version && !olderThan(version, OLDEST_EMSCRIPTEN)) {
    const told = (/** @type {string} */ name) =>
      output(path.join(path.dirname(emcc), 'em-config'), name) ?? '';
    const toolchain = path.join(told('EMSCRIPTEN_ROOT'), TOOLCHAIN);
    const wasmOpt = path.join(told('BINARYEN_ROOT'), 'bin/wasm-opt');
    if (hasFile(toolchain) && hasFile(wasmOpt))
      return { toolchain, wasmOpt, version, env: process.env };
  }
  const installed = EMSCRIPTEN.find((one) =>
    hasFile(path.join(cache, `emscripten-${one.version}`, 'complete')),
  );
  if (!installed) return null;
  const prefix = path.join(cache, `emscripten-${installed.version}`);
  // Settings of another Emscripten in the environment would override the prefix's own.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(EM_|EMSDK|EMCC_)/.test(name)),
  );
  return {
    toolchain: path.join(prefix, 'share/emscripten', TOOLCHAIN),
    wasmOpt: path.join(prefix, 'binaryen/bin/wasm-opt'),
    version: installed.version,
    env,
  };
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
      await ensurePackages(llvmNeeds(llvm));
      run('bash', [path.join(root, 'wasm/setup/install-emscripten.sh'), cache, version]);
      say(`Emscripten ${version} installed after ${seconds(began)}`);
      return /** @type {NonNullable<ReturnType<typeof findEmscripten>>} */ (findEmscripten());
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      say(`that failed: ${error.message}`);
      failures.push(error.message);
    }
  }
  throw new SetupError(
    `Emscripten could not be installed. Put an emcc (${OLDEST_EMSCRIPTEN} or later) on the PATH, ` +
      `for instance with emsdk, and start again. What failed:\n  ${failures.join('\n  ')}`,
  );
}

// ---- npm packages, the model, and all of it -------------------------------------------

/** `npm ci`, when node_modules does not match package-lock.json. */
export function ensureNpm() {
  const stamp = path.join(root, 'node_modules/.exitlm-lock');
  const lock = createHash('sha256')
    .update(fs.readFileSync(path.join(root, 'package-lock.json')))
    .digest('hex');
  if (hasFile(stamp) && fs.readFileSync(stamp, 'utf8') === lock) return;
  say('npm packages: npm ci');
  const began = Date.now();
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    quiet: true,
    failure: 'Is the npm registry reachable (npm ping)?',
  });
  fs.writeFileSync(stamp, lock);
  say(`npm packages installed after ${seconds(began)}`);
}

const modelIsThere = () => isComplete(path.join(root, 'models', findModel().file), findModel());

/**
 * @typedef {'native' | 'wasm' | 'wasi' | 'fuzz' | 'arm' | 'm32' | 'browser' | 'browsers' | 'npm'
 *   | 'model' | 'edge'} Part
 */
/** What is not set up unless it is named: what single phases of the tests need. @type {Part[]} */
const others = ['arm', 'm32', 'browsers', 'edge'];
/** @type {Part[]} */
export const everything = ['native', 'wasm', 'wasi', 'fuzz', 'browser', 'npm', 'model'];

/**
 * Sets up those parts.
 * @param {Part[]} parts
 */
export async function setUp(parts) {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20)
    throw new SetupError(`Node ${process.versions.node} is too old: 20 or later is needed.`);
  const fetchesModel = parts.includes('model') && !(await modelIsThere());
  await ensurePackages([
    ...parts.flatMap((part) => needs[part] ?? []),
    ...(parts.includes('wasm') && !findEmscripten() ? llvmNeeds(EMSCRIPTEN[0].llvm) : []),
    ...(parts.includes('edge') ? needs.pip : []), // Wasmtime comes by pip
    ...(fetchesModel && which('apt-get') ? needs.pip : []), // without it the model's other sources are tried
  ]);
  if (parts.includes('npm')) ensureNpm();
  // WASI's module goes through its Binaryen
  if (parts.includes('wasm') || parts.includes('wasi')) await ensureEmscripten();
  if (fetchesModel) await fetchModel(undefined, { log: say });
}

/**
 * Ends the process with a sentence for what a person can mend, with a trace for what is a mistake
 * here.
 */
export function exitWith(/** @type {unknown} */ error) {
  if (error instanceof SetupError || !(error instanceof Error))
    console.error(`exitlm: ${error instanceof Error ? error.message : error}`);
  else console.error(error);
  process.exit(1);
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const parts = /** @type {Part[]} */ (process.argv.slice(2));
  const all = [...everything, ...others];
  const unknown = parts.find((part) => !all.includes(part));
  if (unknown) {
    console.error(
      `exitlm: "${unknown}" is not a part of the set-up; the parts are ${all.join(', ')}`,
    );
    process.exit(2);
  }
  setUp(parts.length ? parts : everything).then(() => say('everything is there'), exitWith);
}
