// The example Worker as a user has it: a folder of its own, the package as npm packs it in
// node_modules, the model packed into public/model; run by `wrangler dev` in the real workerd.
//
// VSCODE_INSPECTOR_OPTIONS keeps wrangler's own inspector away: it makes a message to wrangler of
// each 4 KB that the Worker fetches, and 98 MB of weights are so many that wrangler runs out of
// sockets (web/edge/cloudflare/README.md).
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { root } from '../../js/support/cli.mjs';
import { ofProcess, tree } from '../../processes.mjs';
import { runtimes } from './runtimes.mjs';

const LOG_CHARACTERS = 20_000;

/** The package as it is published, unpacked into node_modules. */
function installPackage(/** @type {string} */ project) {
  const out = execFileSync(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--pack-destination', project],
    { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const tarball = path.join(project, /"filename":\s*"([^"]+)"/.exec(out)?.[1] ?? '');
  const to = path.join(project, 'node_modules/exitlm');
  fs.mkdirSync(to, { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '--strip-components=1', '-C', to]);
  fs.rmSync(tarball);
}

/** @returns {Promise<number>} a port that is free now */
export async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(undefined));
  });
  const { port } = /** @type {net.AddressInfo} */ (server.address());
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

const environment = (/** @type {string} */ project) => ({
  ...process.env,
  WRANGLER_SEND_METRICS: 'false',
  WRANGLER_SEND_ERROR_REPORTS: 'false',
  CI: '1',
  VSCODE_INSPECTOR_OPTIONS: '{}',
  XDG_CONFIG_HOME: path.join(project, '.config'),
});

/**
 * The Worker of a project as it is deployed, in workerd alone: only so its V8 takes flags.
 * @param {Worker} worker
 * @param {string[]} v8Flags
 */
export async function startBare({ project }, v8Flags) {
  const { wrangler, workerd } = runtimes();
  const bare = path.join(project, 'bare');
  execFileSync(process.execPath, [wrangler, 'deploy', '--dry-run', '--outdir', bare], {
    cwd: project,
    env: environment(project),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const wasm = fs.readdirSync(bare).find((name) => name.endsWith('.wasm'));
  const port = await freePort();
  fs.writeFileSync(
    path.join(bare, 'config.capnp'),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ${JSON.stringify(v8Flags)},
  services = [
    (name = "worker", worker = (
      modules = [
        (name = "worker.js", esModule = embed "worker.js"),
        (name = "${wasm}", wasm = embed "${wasm}"),
      ],
      compatibilityDate = "2026-04-01",
      bindings = [
        (name = "MODEL", text = "model"),
        (name = "OPEN", text = "1"),
        (name = "ASSETS", service = "assets"),
      ],
    )),
    (name = "assets", disk = "${path.join(project, 'public')}"),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "worker")],
);
`,
  );
  const child = spawn(workerd, ['serve', path.join(bare, 'config.capnp')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? code));
  });
  const url = `http://127.0.0.1:${port}`;
  while (!(await fetch(`${url}/health`).catch(() => null))?.ok && child.exitCode === null)
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
  return { url, ended, stop: () => child.kill() };
}

/**
 * @param {object} options
 * @param {(to: string) => unknown} options.model packs a model into this folder
 * @param {Record<string, string | number>} [options.vars]
 * @param {boolean} [options.fixture] wrap the Worker in tests/edge/fixture/worker.js
 * @param {(file: string, text: string) => string} [options.edit] of the example's files
 */
export async function startWorker({ model, vars = {}, fixture = false, edit = (_, text) => text }) {
  const { wrangler } = runtimes();
  const project = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-worker-'));
  installPackage(project);
  const example = path.join(project, 'node_modules/exitlm/web/edge/cloudflare');
  for (const file of ['wrangler.jsonc', 'package.json', 'src/worker.js', 'public/index.html']) {
    fs.mkdirSync(path.dirname(path.join(project, file)), { recursive: true });
    fs.writeFileSync(
      path.join(project, file),
      edit(file, fs.readFileSync(path.join(example, file), 'utf8')),
    );
  }
  if (fixture)
    fs.copyFileSync(
      path.join(root, 'tests/edge/fixture/worker.js'),
      path.join(project, 'src/fixture.js'),
    );
  await model(path.join(project, 'public/model'));
  const port = await freePort();
  const args = [
    wrangler,
    'dev',
    ...(fixture ? ['src/fixture.js'] : []),
    '--ip',
    '127.0.0.1',
    '--port',
    String(port),
    '--show-interactive-dev-session=false',
    ...Object.entries(vars).flatMap(([name, value]) => ['--var', `${name}:${value}`]),
  ];
  const child = spawn(process.execPath, args, {
    cwd: project,
    env: environment(project),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      if (log.length < LOG_CHARACTERS) log += data;
    });
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    const gone = new Promise((resolve) => {
      child.once('exit', resolve);
    });
    try {
      if (child.exitCode === null) process.kill(-(child.pid ?? 0), 'SIGTERM');
    } catch {
      /* it has ended */
    }
    if (child.exitCode === null && child.signalCode === null)
      await Promise.race([
        gone,
        new Promise((resolve) => {
          setTimeout(resolve, 5000);
        }),
      ]);
    try {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    } catch {
      /* all have ended */
    }
    fs.rmSync(project, { recursive: true, force: true });
  };
  for (let tries = 0; ; tries++) {
    if (child.exitCode !== null || tries > 600) {
      await stop();
      throw new Error(`wrangler dev did not start:\n${log}`);
    }
    const answer = await fetch(`${url}/health`).catch(() => null);
    if (answer?.ok) break;
    await new Promise((resolve) => {
      setTimeout(resolve, 200);
    });
  }
  // Wrangler puts a proxy of its own before the Worker, which does not tell it of clients that go
  // away: tests speak to workerd.
  let direct = '';
  for (const other of portsOf(child.pid ?? 0)) {
    if (other === port || direct) continue;
    const health = await fetch(`http://127.0.0.1:${other}/health`, {
      signal: AbortSignal.timeout(5000),
    })
      .then((r) => r.json())
      .catch(() => null);
    if (health?.model) direct = `http://127.0.0.1:${other}`;
  }
  if (!direct) throw new Error('no port of workerd found behind wrangler');
  return { url: direct, proxied: url, project, stop, log: () => log, pid: child.pid ?? 0 };
}

/** @typedef {Awaited<ReturnType<typeof startWorker>>} Worker */

/** @param {string} url @param {object} body @param {RequestInit} [init] */
export const ask = (url, body, init = {}) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
    headers: { 'content-type': 'application/json', ...init.headers },
  });

/**
 * Asks over a bare connection, which may be cut at any moment.
 * @param {string} url
 * @param {object} body
 */
export async function askBare(url, body) {
  const socket = new net.Socket();
  let received = 0;
  socket.on('error', () => {});
  socket.on('data', (data) => {
    received += data.length;
  });
  const begun = new Promise((resolve) => {
    socket.once('data', resolve);
  });
  await new Promise((resolve) => {
    socket.connect(Number(new URL(url).port), '127.0.0.1', () => resolve(undefined));
  });
  const text = JSON.stringify(body);
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
  );
  return {
    begun,
    received: () => received,
    cut: () => socket.resetAndDestroy(),
    close: () => socket.destroy(),
  };
}

/** Chunks of a streamed answer. @param {Response} response */
export async function* chunksOf(response) {
  let text = '';
  const decoder = new TextDecoder();
  for await (const piece of /** @type {any} */ (response.body)) {
    text += decoder.decode(piece, { stream: true });
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2))
      yield text.slice(0, end).replace(/^data: /, '');
  }
}

/** Of a Worker with the fixture: bytes of its linear memories. @param {string} url */
export async function linearMemory(url) {
  const sizes = /** @type {number[]} */ (await (await fetch(`${url}/v1/test/memory`)).json());
  return sizes.reduce((sum, n) => sum + n, 0);
}

/** Ports on which a process listens, and its children's. @param {number} process */
const portsOf = (process) =>
  tree(process).flatMap((pid) => {
    /** @type {string[]} */
    let open = [];
    try {
      open = fs.readdirSync(`/proc/${pid}/fd`);
    } catch {
      /* it has ended */
    }
    const sockets = new Set(
      open.map((fd) => {
        try {
          return /socket:\[(\d+)\]/.exec(fs.readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
        } catch {
          return undefined;
        }
      }),
    );
    const lines = ofProcess(pid, 'net/tcp')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/));
    return lines
      .filter((columns) => columns[3] === '0A' && sockets.has(columns[9]))
      .map((columns) => parseInt(columns[1].split(':')[1], 16));
  });

const TICKS = 100; // of /proc/PID/stat, a second

/** CPU milliseconds that workerd has used, all of its processes below `pid`. @param {number} pid */
export const cpuMs = (pid) =>
  tree(pid)
    .map((one) => ofProcess(one, 'stat'))
    .filter((stat) => stat.includes('(workerd)'))
    .map((stat) => stat.slice(stat.lastIndexOf(')') + 2).split(' '))
    .reduce((ms, fields) => ms + ((Number(fields[11]) + Number(fields[12])) / TICKS) * 1000, 0);

/**
 * What the isolate takes, in bytes, as its V8 tells it over workerd's inspector: `heap`, the
 * JavaScript heap, garbage included; `outside`: objects of the runtime and buffers outside that
 * heap, linear memory excepted.
 */
export async function inspectIsolate(/** @type {{ pid: number }} */ { pid }) {
  /** @type {string | undefined} */
  let address;
  for (const port of portsOf(pid)) {
    const targets = await fetch(`http://127.0.0.1:${port}/json/list`, {
      signal: AbortSignal.timeout(5000),
    })
      .then((r) => r.json())
      .catch(() => []);
    if (Array.isArray(targets))
      address ??= targets.find(({ id }) => /^core:user:exitlm/.test(id))?.webSocketDebuggerUrl;
  }
  if (!address) throw new Error('no inspector of workerd found');
  // Node 20 has no WebSocket of its own; wrangler brings one.
  const { default: WebSocket } = await import(runtimes().ws);
  const socket = new WebSocket(address);
  /** @type {Map<number, (result: any) => void>} */
  const waiting = new Map();
  await new Promise((resolve, reject) => {
    socket.on('open', resolve);
    socket.on('error', reject);
  });
  socket.on('message', (/** @type {Buffer} */ data) => {
    const { id, result } = JSON.parse(String(data));
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  let next = 1;
  const call = (/** @type {string} */ method) =>
    new Promise((resolve) => {
      const id = next++;
      waiting.set(id, resolve);
      socket.send(JSON.stringify({ id, method }));
    });
  return {
    /** Without garbage. */
    async inUse() {
      // collects all garbage at once, where collectGarbage waits for a task that never runs
      await call('HeapProfiler.takeHeapSnapshot');
      return this.usage();
    },
    /** @returns {Promise<{ heap: number, outside: number }>} */
    async usage() {
      const {
        usedSize,
        embedderHeapUsedSize = 0,
        backingStorageSize = 0,
      } = await call('Runtime.getHeapUsage');
      return { heap: usedSize, outside: embedderHeapUsedSize + backingStorageSize };
    },
    close: () => socket.close(),
  };
}
