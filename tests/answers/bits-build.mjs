// What one build answers, for bits.mjs, which starts this and gets a message for each answer.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { File, OpenFile, PreopenDirectory, WASI } from '@bjorn3/browser_wasi_shim';
import { modelServer } from '../js/support/model-server.mjs';

/**
 * @typedef {import('./bits.mjs').Job} Job
 * @typedef {import('./bits.mjs').Mode} Mode
 * @typedef {(args: string[], input?: string) => Promise<string>} Run gives the output
 */

/** Slow enough that a reply of full depth begins before the last byte. */
const LOADING_BYTES_PER_SECOND = 24e6;

const send = (/** @type {any} */ message) => {
  process.send?.(message);
};
const sha = (/** @type {string} */ text) =>
  createHash('sha256').update(text).digest('hex').slice(0, 16);

/** One token, as it is written down. */
function tokenLine(/** @type {Mode} */ mode, /** @type {any} */ { id, layer, head, confidence }) {
  return mode.idsOnly ? `${id}` : `${id} of layer ${layer} head ${head} ${confidence}`;
}
/** @param {string} reason @param {number} promptTokens @param {string} text */
const lastLine = (reason, promptTokens, text) =>
  `${reason} after a prompt of ${promptTokens}, text ${sha(text)}`;

/** The native program. @returns {Run} */
function native(/** @type {Job} */ { program }) {
  const run = promisify(execFile);
  return async (args, input = '') => {
    const running = run(program, args, { maxBuffer: 1 << 28 });
    running.child.stdin?.end(input);
    return (await running).stdout;
  };
}

/**
 * The WASI module, compiled once: each run is an instance of its own. Not by node:wasi, which
 * crashes in Node 20 once the program has ended.
 * @returns {Promise<Run>}
 */
async function wasi(/** @type {Job} */ { root, build, model, heads }) {
  const file = path.join(root, 'build', build === 'wasi' ? 'exitlm.wasm' : 'exitlm-relaxed.wasm');
  const module = await WebAssembly.compile(fs.readFileSync(file));
  const contents = new Map([model, heads].map((name) => [name, new File(fs.readFileSync(name))]));
  return async (args, text = '') => {
    const [stdin, stdout, stderr] = [text, '', ''].map(
      (given) => new File(new TextEncoder().encode(given)),
    );
    const fds = [stdin, stdout, stderr].map((it) => new OpenFile(it));
    const names = new Map([...contents].map(([name, it]) => [path.basename(name), it]));
    const given = args.map((arg) => (contents.has(arg) ? path.basename(arg) : arg));
    const folders = [new PreopenDirectory('.', names)];
    const shim = new WASI(['exitlm', ...given], [], [...fds, ...folders], { debug: false });
    const imports = { wasi_snapshot_preview1: shim.wasiImport };
    const instance = await WebAssembly.instantiate(module, imports);
    const status = shim.start(/** @type {any} */ (instance));
    const read = (/** @type {File} */ { data }) => new TextDecoder().decode(data);
    if (status !== 0) throw new Error(`${file} ended with ${status}: ${read(stderr)}`);
    return read(stdout);
  };
}

const linesOf = (/** @type {string} */ output) => output.trim().split('\n');

/** The answers of a command line. */
async function commandLine(/** @type {Job} */ job, /** @type {Run} */ run) {
  for (const { id, text, modes } of job.prompts) {
    for (const mode of modes) {
      const { temperature, ...options } = mode.options;
      const all = {
        ...options,
        ...(temperature && { temp: temperature }),
        'heads': job.heads,
        'threads': 1,
        'kv-type': 'f32', // which every build has
        'max-tokens': job.tokens,
      };
      const given = Object.entries(all).flatMap(([name, value]) => [`--${name}`, `${value}`]);
      const output = await run(['chat', job.model, '-p', text, '--json', ...given]);
      const [start, ...rest] = linesOf(output).map((line) => JSON.parse(line));
      const done = rest.pop();
      const name = `${mode.name}, ${id}`;
      if (done?.type !== 'done') throw new Error(`${job.build}, ${name}: the output has no end`);
      const lines = rest.map((token) => tokenLine(mode, token));
      lines.push(lastLine(done.reason, done.prompt_tokens, done.text));
      send({ kernel: start.kernel, name, lines });
    }
  }
  for (const { id, text } of job.texts) {
    const given = ['-f', '-', '--top', '5', '--json', '--threads', '1'];
    const output = await run(['score', job.model, ...given], text);
    send({ name: `score, ${id}`, lines: linesOf(output).map(sha) });
  }
}

/** The answers of the package: while the model is loading, then of one that is there. */
async function javascript(/** @type {Job} */ job) {
  const { exports } = JSON.parse(fs.readFileSync(path.join(job.root, 'package.json'), 'utf8'));
  const urlOf = (/** @type {string} */ file) => pathToFileURL(path.join(job.root, file));
  const { ExitLM } = await import(urlOf(exports['.'].default).href);
  const variant = job.build.slice('node-'.length);
  const wasm = urlOf(exports['./*.wasm'].replace('*', `exitlm-${variant}`));
  const options = { wasm, threads: 1, cache: 'none', kvMaps: true };
  /** @param {any} lm @param {string} text @param {Mode} mode */
  const answer = async (lm, text, mode) => {
    const asked = [{ role: 'user', content: text }];
    const reply = lm.chat(asked, { ...mode.options, maxTokens: job.tokens });
    const lines = [];
    for await (const token of reply) lines.push(tokenLine(mode, token));
    const { reason, usage, text: whole } = await reply.result;
    return [...lines, lastLine(reason, usage.promptTokens, whole)];
  };

  const lm = await ExitLM.load(job.model, { ...options, heads: job.heads });
  await lm.ready;
  const { kernel } = lm.info;
  if (!kernel.startsWith(variant)) throw new Error(`${job.build}: computes with ${kernel}`);
  send({ kernel });
  for (const { id, text, modes } of job.prompts) {
    for (const mode of modes) {
      send({ name: `${mode.name}, ${id}`, lines: await answer(lm, text, mode) });
    }
  }
  await lm.dispose();

  const [modelPath, headsPath] = [job.model, job.heads].map((file) => `/${path.basename(file)}`);
  const files = {
    [modelPath]: new Uint8Array(fs.readFileSync(job.model)),
    [headsPath]: new Uint8Array(fs.readFileSync(job.heads)),
  };
  const server = await modelServer(files, { bytesPerSecond: LOADING_BYTES_PER_SECOND });
  for (const { id, text, modes } of job.prompts.slice(0, job.loading)) {
    for (const mode of modes) {
      const early = await ExitLM.load(`${server.address}${modelPath}`, {
        ...options,
        heads: `${server.address}${headsPath}`,
      });
      let ready = false;
      early.ready.then(
        () => {
          ready = true;
        },
        () => {},
      );
      const lines = answer(early, text, mode);
      if (ready) throw new Error(`${job.build}: all was there too soon: LOADING_BYTES_PER_SECOND`);
      send({ name: `loading, ${mode.name}, ${id}`, lines: await lines });
      await early.ready;
      await early.dispose();
    }
  }
  await server.close();
}

process.once('message', async (/** @type {Job} */ job) => {
  if (job.build === 'native') await commandLine(job, native(job));
  else if (job.build.startsWith('wasi')) await commandLine(job, await wasi(job));
  else await javascript(job);
  send({ end: true });
  process.disconnect();
});
