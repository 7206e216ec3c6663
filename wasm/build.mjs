// Builds the WebAssembly files:
//
//   web/dist/exitlm-simd.wasm         the package's engine, SIMD128
//   web/dist/exitlm-relaxed.wasm      the same with relaxed SIMD
//   web/dist/exitlm-simd-mt.wasm      both for several threads (shared memory)
//   web/dist/exitlm-relaxed-mt.wasm
//   build/exitlm.wasm                 the command line as a WASI module, SIMD128
//   build/exitlm-relaxed.wasm         the same with relaxed SIMD
//   build/exitlm-service.wasm         the engine of web/edge/wasmtime/component, only where it is asked for by name
//
//   node wasm/build.mjs [NAME ...] [--force] [--debug]
//
// The package's files are reactors of Emscripten (-sSTANDALONE_WASM --no-entry):
// no generated JavaScript, a handful of imports, exports by name; what imports
// and exports they have stands in wasm/README.md. The WASI module is built by
// clang with wasi-libc, which gives the program the whole of WASI's files.
//
// Objects and files are rebuilt only when a source, a header, a flag or the
// compiler changed. Nothing that is generated is committed.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError, ensureEmscripten, exitWith, output, root, wasi } from './setup/setup.mjs';

const work = path.join(root, 'build/wasm');
const KB = 1024;

const COMPILE = ['-std=c11', '-O3', '-DNDEBUG', '-D_POSIX_C_SOURCE=200809L', '-ffp-contract=off', '-Wall', '-Wextra', '-Werror',
  '-fno-exceptions', '-fvisibility=hidden', '-msimd128', '-mbulk-memory', '-mnontrapping-fptoint', '-msign-ext'];
// The linear memory of a fresh instance: small, for hosts that count it (an edge worker has 128 MB). It grows to the byte.
// Linked without Binaryen's passes (-O1): `optimise` below runs them once, with the flags that the kernels need.
const REACTOR = ['-O1', '--no-entry', '-sSTANDALONE_WASM', '-sDEFAULT_TO_CXX=0', '-sMALLOC=emmalloc', '-sALLOW_MEMORY_GROWTH',
  `-sINITIAL_MEMORY=${2048 * KB}`, '-sMAXIMUM_MEMORY=4GB', `-sSTACK_SIZE=${128 * KB}`, '-Wl,--stack-first', '-Wl,--fatal-warnings'];
// Workers instantiate the same module on the same memory and give themselves a stack: wasm/README.md. The C library's objects are
// those without atomics (hence no check): only the first instance allocates, and the engine's threads use no errno.
const SHARED = ['-Wl,--shared-memory,--import-memory,--no-check-features', '-Wl,--export=__stack_pointer',
  '-Wl,--export-if-defined=__wasm_init_tls,--export-if-defined=__tls_size,--export-if-defined=__tls_align'];
const RELAXED = ['-mrelaxed-simd'];
const THREADS = ['-matomics'];

const KEEP_ORDER = ['', '-nostructure', '-notee', '-notee-nostructure', '-nonesting'].map((form) => `--skip-pass=simplify-locals${form}`);

// The triple under which Debian keeps wasi-libc; clang would rather hear its newer name.
const WASI = ['--target=wasm32-wasi', '-Wno-deprecated'];

/** @typedef {{ name: string, out: string, kind: 'reactor' | 'command' | 'service', compile: string[], link: string[], relaxed: boolean }} Variant */
/** @type {Variant[]} */
export const variants = [
  { name: 'simd', relaxed: false, threads: false },
  { name: 'relaxed', relaxed: true, threads: false },
  { name: 'simd-mt', relaxed: false, threads: true },
  { name: 'relaxed-mt', relaxed: true, threads: true },
].map(({ name, relaxed, threads }) => ({
  name,
  out: `web/dist/exitlm-${name}.wasm`,
  kind: /** @type {const} */ ('reactor'),
  relaxed,
  compile: [...COMPILE, ...(relaxed ? RELAXED : []), ...(threads ? THREADS : [])],
  link: [...REACTOR, ...(relaxed ? RELAXED : []), ...(threads ? [...THREADS, ...SHARED] : [])],
}));
for (const relaxed of [false, true]) {
  variants.push({
    name: relaxed ? 'wasi-relaxed' : 'wasi',
    out: relaxed ? 'build/exitlm-relaxed.wasm' : 'build/exitlm.wasm',
    kind: 'command',
    relaxed,
    compile: [...WASI, ...COMPILE, ...(relaxed ? RELAXED : [])],
    link: [...WASI, '-O3', '--no-wasm-opt', '-Wl,--stack-first', `-Wl,-z,stack-size=${1024 * KB}`, '-Wl,--strip-all', '-Wl,--fatal-warnings'],
  });
}

// An HTTP service as a WASI reactor: what web/edge/wasmtime/component/build.mjs makes a component of.
variants.push({
  name: 'service',
  out: 'build/exitlm-service.wasm',
  kind: 'service',
  relaxed: false,
  compile: [...WASI, ...COMPILE],
  link: [...WASI, '-mexec-model=reactor', '-O3', '--no-wasm-opt', '-Wl,--stack-first', `-Wl,-z,stack-size=${256 * KB}`, '-Wl,--gc-sections,--strip-all', '-Wl,--fatal-warnings'],
});
const standard = variants.filter(({ kind }) => kind !== 'service').map(({ name }) => name);

const list = (/** @type {string} */ folder, /** @type {string} */ ending) => (fs.existsSync(path.join(root, folder))
  ? fs.readdirSync(path.join(root, folder)).filter((f) => f.endsWith(ending)).sort().map((f) => `${folder}/${f}`) : []);

/** The C files of a variant: those for another instruction set are left out. */
function sourcesOf(/** @type {Variant} */ { kind, relaxed }) {
  const foreign = relaxed ? /kernel\/(avx2|avx512vnni|neon|neondot)\.c$/ : /kernel\/(avx2|avx512vnni|neon|neondot|relaxed|relaxed16)\.c$/;
  const own = {
    command: [...list('src/train', '.c'), ...list('src/cli', '.c')],
    reactor: list('wasm', '.c'),
    service: list('web/edge/wasmtime/component', '.c'),
  };
  const library = ['base', 'gguf', 'kernel', 'text', 'model', 'run', 'reply'].flatMap((floor) => list(`src/${floor}`, '.c'));
  return [...library.filter((f) => !foreign.test(f)), ...own[kind]];
}

const sha = (/** @type {(string | Buffer)[]} */ ...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex');
};
const read = (/** @type {string} */ file) => fs.readFileSync(path.join(root, file));

/**
 * A source and every file that it includes with quotes, found by reading them: what its object depends on.
 * @param {string} source
 * @param {Map<string, { text: string, includes: string[] }>} known what was read, for one build
 */
function withIncludes(source, known) {
  /** @type {Map<string, string>} */
  const files = new Map();
  const visit = (/** @type {string} */ file) => {
    if (files.has(file)) return;
    let one = known.get(file);
    if (!one) {
      const text = read(file).toString();
      const includes = [...text.matchAll(/^[ \t]*#[ \t]*include[ \t]+"([^"]+)"/gm)]
        .map(([, name]) => [path.posix.join(path.posix.dirname(file), name), path.posix.join('src', name)].find((f) => fs.existsSync(path.join(root, f))))
        .filter((f) => f !== undefined);
      known.set(file, one = { text, includes });
    }
    files.set(file, one.text);
    one.includes.forEach(visit);
  };
  visit(source);
  return files;
}

/** Most files know nothing of relaxed SIMD and of atomics: without those flags their objects serve all variants. */
const SPECIAL = [
  { flags: RELAXED, used: /__wasm_relaxed_simd__|wasm_\w+_relaxed_/ },
  { flags: THREADS, used: /__wasm_atomics__|__atomic_|stdatomic|memory_atomic_/ },
];

/** Waits until no other process builds in this tree; gives what ends that. */
async function onlyOne(/** @type {(line: string) => void} */ log) {
  const lock = path.join(work, 'lock');
  fs.mkdirSync(work, { recursive: true });
  for (let waited = 0; ; waited++) {
    try {
      fs.writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return () => fs.rmSync(lock, { force: true });
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    const holder = Number(fs.existsSync(lock) ? fs.readFileSync(lock, 'utf8') : 0);
    const age = Date.now() - (fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if ((holder && !isRunning(holder)) || (!holder && age > 5000)) fs.rmSync(lock, { force: true }); // of a build that was killed
    else if (waited === 0) log('  another process builds here, waiting for it');
    await new Promise((resolve) => { setTimeout(resolve, 200); });
  }
}

function isRunning(/** @type {number} */ pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

/** Runs a compiler; rejects with what it wrote. */
function compiler(program, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
    child.on('error', (error) => reject(new SetupError(`${program}: ${error.message}`)));
    child.on('close', (code) => {
      // Emscripten tells of the system libraries that it builds at their first use.
      const library = /generating system library: \S*\/(\S+)\.\.\./.exec(said);
      if (library) process.stderr.write(`  (Emscripten built ${library[1]} and others for the first time)\n`);
      if (code === 0) resolve(said);
      else reject(new SetupError(`${path.basename(program)} failed:\n${said.replace(/^(?:cache:INFO|system_libs:INFO|emcc: error: ').*\n?/gm, '')}`));
    });
  });
}

/** Calls `job` on every item, as many at a time as there are processors; rejects, after all are through, with what failed. */
async function inParallel(items, job) {
  const queue = [...items];
  /** @type {string[]} */
  const failures = [];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      await job(item).catch((/** @type {Error} */ error) => failures.push(error.message));
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, os.availableParallelism()) }, worker));
  if (failures.length) throw new SetupError([...new Set(failures)].join('\n'));
}

/**
 * Builds those variants; tells which files were written anew.
 * @param {{ names?: string[], force?: boolean, debug?: boolean, log?: (line: string) => void }} [options]
 */
export async function buildWasm({ names = standard, force = false, debug = false, log = console.error } = {}) {
  const chosen = names.map((name) => {
    const variant = variants.find((v) => v.name === name);
    if (!variant) throw new SetupError(`no variant "${name}"; there are ${variants.map((v) => v.name).join(', ')}`);
    return variant;
  });
  const emscripten = await ensureEmscripten();
  const done = await onlyOne(log);
  try {
    return await buildVariants(chosen, emscripten, { force, debug, log });
  } finally {
    done();
  }
}

async function buildVariants(/** @type {Variant[]} */ chosen, emscripten, { force, debug, log }) {
  const clangVersion = output(wasi.clang, '--version') ?? '';
  /** @type {ReturnType<typeof fastCompiler> | undefined} */
  let ofEmscripten;
  const objects = path.join(work, 'objects');
  fs.mkdirSync(objects, { recursive: true });
  const known = new Map();
  /** @type {Map<string, () => Promise<void>>} by the object that each makes */
  const jobs = new Map();
  const outputs = [];
  for (const variant of chosen) {
    const program = variant.kind === 'reactor' ? emscripten.emcc : wasi.clang;
    const env = variant.kind === 'reactor' ? emscripten.env : process.env;
    const tool = variant.kind === 'reactor' ? `${program} ${emscripten.version}` : clangVersion;
    const compile = debug ? [...variant.compile.filter((f) => f !== '-DNDEBUG'), '-g'] : variant.compile;
    const link = debug ? [...variant.link.filter((f) => f !== '-Wl,--strip-all'), '-g'] : variant.link;
    const folder = path.join(work, variant.name);
    fs.mkdirSync(folder, { recursive: true });
    const sources = sourcesOf(variant);
    if (variant.kind === 'reactor' && !sources.some((s) => s.startsWith('wasm/'))) {
      log(`  ${variant.out}: left out, wasm/ has no C files yet`);
      continue;
    }
    if (variant.kind === 'command' && !sources.some((s) => s.startsWith('src/cli/'))) {
      log(`  ${variant.out}: left out, src/cli has no C files yet`);
      continue;
    }
    const made = sources.map((source) => {
      const files = withIncludes(source, known);
      const text = [...files.values()].join('\n');
      const flags = compile.filter((flag) => !SPECIAL.some((special) => special.flags.includes(flag) && !special.used.test(text)));
      const key = sha(tool, flags.join(' '), ...[...files].sort().flat());
      const object = path.join(objects, `${source.replaceAll('/', '_').slice(0, -2)}.${key.slice(0, 16)}.o`);
      if (!jobs.has(object) && (force || !fs.existsSync(object))) {
        jobs.set(object, async () => {
          const part = `${object}.part`;
          const compiles = variant.kind === 'reactor' ? (ofEmscripten ??= fastCompiler(emscripten)) : { program: wasi.clang, flags: [] };
          await compiler(compiles.program, [...compiles.flags, ...flags, '-Isrc', '-c', source, '-o', part], env);
          fs.renameSync(part, object);
        });
      }
      return object;
    });
    outputs.push({ variant, program, env, link, made, folder, key: sha(tool, link.join(' '), String(debug), read('wasm/build.mjs'), ...made) });
  }

  const began = Date.now();
  if (jobs.size) log(`  compiling ${jobs.size} files for ${chosen.length} WebAssembly variants`);
  await inParallel([...jobs.values()], (job) => job());

  const stale = outputs.filter(({ variant, folder, key }) => force || !fs.existsSync(path.join(root, variant.out)) ||
    !fs.existsSync(path.join(folder, 'linked')) || fs.readFileSync(path.join(folder, 'linked'), 'utf8') !== key);
  await inParallel(stale, async ({ variant, program, env, link, made, folder, key }) => {
    const out = path.join(root, variant.out);
    const part = path.join(folder, 'linking.wasm');
    fs.mkdirSync(path.dirname(out), { recursive: true });
    await compiler(program, [...link, ...made, '-o', part], env);
    if (!debug) await optimise(emscripten, part, variant);
    fs.renameSync(part, out);
    fs.writeFileSync(path.join(folder, 'linked'), key);
    const size = fs.statSync(out).size;
    log(`  ${variant.out}: ${(size / 1000).toFixed(1)} kB`);
  });
  if (standard.every((name) => chosen.some((variant) => variant.name === name))) { // objects of earlier versions of the sources
    const inUse = new Set(outputs.flatMap(({ made }) => made));
    for (const file of fs.readdirSync(objects)) if (!inUse.has(path.join(objects, file))) fs.rmSync(path.join(objects, file));
  }
  if (stale.length) log(`  WebAssembly built after ${((Date.now() - began) / 1000).toFixed(0)} s`);
  return stale.map(({ variant }) => variant.out);
}

/** Emscripten's clang with Emscripten's flags: a quarter of a second a file less than through emcc, which is used where it tells no flags. */
function fastCompiler(emscripten) {
  const told = spawnSync(emscripten.emcc, ['--cflags'], { env: emscripten.env, encoding: 'utf8' });
  const llvm = spawnSync(path.join(path.dirname(emscripten.emcc), 'em-config'), ['LLVM_ROOT'], { env: emscripten.env, encoding: 'utf8' });
  const clang = path.join((llvm.stdout ?? '').trim(), 'clang');
  const flags = told.status === 0 ? told.stdout.trim().split(/\s+/) : [];
  if (!flags.some((flag) => flag.startsWith('--sysroot=')) || !fs.existsSync(clang)) return { program: emscripten.emcc, flags: [] };
  return { program: clang, flags };
}

/** Binaryen's optimiser over the linked file. Without its simplify-locals passes: they sink each step of a dot product into one nested
 * expression, one accumulator after the other, so that V8 runs out of vector registers (Q4_1, 4 rows: 34 instead of 53 GMAC/s). */
async function optimise(emscripten, file, variant) {
  if (!emscripten.wasmOpt) throw new SetupError('no wasm-opt beside emcc: its BINARYEN_ROOT has none');
  const features = ['--enable-simd', '--enable-bulk-memory', '--enable-nontrapping-float-to-int', '--enable-sign-ext', '--enable-mutable-globals',
    '--enable-multivalue', '--enable-reference-types', ...(variant.relaxed ? ['--enable-relaxed-simd'] : []),
    ...(variant.name.endsWith('-mt') ? ['--enable-threads'] : [])];
  await compiler(emscripten.wasmOpt, [file, '-O3', ...KEEP_ORDER, '--strip-debug', '--strip-producers', ...features, '-o', file], emscripten.env);
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const names = args.filter((arg) => !arg.startsWith('--'));
  buildWasm({ names: names.length ? names : undefined, force: args.includes('--force'), debug: args.includes('--debug') }).catch(exitWith);
}
