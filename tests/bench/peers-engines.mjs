// The engines of peers.mjs: each opens a model and times prompts and answers, by the clock, one after
// the other.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { openLlama } from '../answers/llamacpp.mjs';
import { program, root } from '../answers/tools.mjs';
import { start } from '../page/browser.mjs';
import { ofProcess } from '../processes.mjs';
import { wllama } from './load-wllama.mjs';

/**
 * @typedef {object} Setup
 * @property {string} model
 * @property {number} threads
 * @property {number[]} prompts lengths of prompts whose speed is wanted
 * @property {number[]} contexts …and after how many tokens that of an answer is
 * @property {number} tokens of an answer
 * @property {(at: number, length: number) => Promise<Passage>} passage so many tokens of a text, from
 *   one on
 * @property {string} [kernel] of the native program
 * @property {string} [llamaBench] path of a llama-bench
 *
 * @typedef {{ ids: number[], text: string }} Passage
 * @typedef {Record<string, number>} Speeds tokens/s: prompt32, decode40 …
 * @typedef {object} Engine
 * @property {(nth: number) => Promise<Speeds>} round
 * @property {() => number} peakBytes NaN where nobody tells
 * @property {number} kvBytes of a number in the K/V cache
 * @property {() => unknown} close
 *
 * @typedef {{ firstMs: number, restMs: number, tokens: number }} Timing until the first token, from
 *   it to the last
 */

/** A program's output, and the most memory that it had. @param {string} file @param {string[]} args */
async function run(file, args) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let errors = '';
  let peakBytes = 0;
  const look = setInterval(() => {
    const [, kb] = /VmHWM:\s+(\d+)/.exec(ofProcess(child.pid ?? 0, 'status')) ?? [0, 0];
    peakBytes = Math.max(peakBytes, Number(kb) * 1024);
  }, 20);
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    errors += text;
  });
  const [status] = await once(child, 'close').finally(() => clearInterval(look));
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: status ${status}\n${errors}`);
  return { result: JSON.parse(out), peakBytes };
}

/** The native program, a process for each length. @param {Setup} setup @returns {Promise<Engine>} */
async function native({ model, threads, prompts, contexts, tokens, kernel }) {
  let peak = 0;
  const bench = async (/** @type {string[]} */ lengths) => {
    const { result, peakBytes } = await run(program, [
      'bench',
      model,
      ...['--heads', 'none', '--reps', '1', '--threads', `${threads}`, '--json'],
      ...(kernel ? ['--kernel', kernel] : []),
      ...lengths,
    ]);
    peak = Math.max(peak, peakBytes);
    return result;
  };
  return {
    async round() {
      /** @type {Speeds} */
      const speeds = {};
      for (const length of prompts) {
        const few = ['--context', '1', '--gen-tokens', '2'];
        const { prompt } = await bench(['--prompt-tokens', `${length}`, ...few]);
        speeds[`prompt${length}`] = prompt[0].tokens_per_second;
      }
      const after = ['--context', contexts.join(), '--gen-tokens', `${tokens}`];
      const { decode } = await bench(['--prompt-tokens', '1', ...after]);
      contexts.forEach((context, i) => {
        speeds[`decode${context}`] = decode[i].tokens_per_second;
      });
      return speeds;
    },
    peakBytes: () => peak,
    kvBytes: 2,
    close() {},
  };
}

/** llama.cpp's own measurement. @param {Setup} setup @returns {Promise<Engine>} */
async function llamaBench({ model, threads, prompts, contexts, tokens, llamaBench: file }) {
  if (!file) throw new Error('llama-bench: --llama-bench PATH is wanted');
  let peak = 0;
  const bench = async (/** @type {string[]} */ lengths) => {
    const { result, peakBytes } = await run(file, [
      ...['-m', model, '-t', `${threads}`, '-r', '1', '-o', 'json'],
      ...lengths,
    ]);
    peak = Math.max(peak, peakBytes);
    return /** @type {{ avg_ts: number }[]} */ (result).map((one) => one.avg_ts);
  };
  return {
    async round() {
      const read = await bench(['-p', prompts.join(), '-n', '0']);
      const written = await bench(['-p', '0', '-n', `${tokens}`, '-d', contexts.join()]);
      return Object.fromEntries([
        ...prompts.map((length, i) => [`prompt${length}`, read[i]]),
        ...contexts.map((length, i) => [`decode${length}`, written[i]]),
      ]);
    },
    peakBytes: () => peak,
    kvBytes: 2,
    close() {},
  };
}

/**
 * An engine that answers a prompt token by token: a prompt's time is that until the first one.
 * @param {Setup} setup
 * @param {(passage: Passage, tokens: number) => Promise<Timing>} answer
 * @param {Pick<Engine, 'peakBytes' | 'kvBytes' | 'close'>} rest
 * @returns {Engine}
 */
const streaming = ({ prompts, contexts, tokens, passage }, answer, rest) => ({
  async round(nth) {
    /** @type {Speeds} */
    const speeds = {};
    for (const [i, length] of [...new Set([...prompts, ...contexts])].entries()) {
      const wanted = contexts.includes(length) ? tokens : 1;
      // each begins somewhere else, so that nothing is left of the one before
      const {
        firstMs,
        restMs,
        tokens: got,
      } = await answer(await passage(97 * (8 * nth + i), length), wanted);
      if (prompts.includes(length)) speeds[`prompt${length}`] = (1000 * length) / firstMs;
      if (wanted === 1) continue;
      // an answer that ends by itself before it tells anything is left out of the medians
      speeds[`decode${length}`] = got < wanted / 2 ? NaN : (1000 * (got - 1)) / restMs;
    }
    return speeds;
  },
  ...rest,
});

/** In Node and, as text, in a page. */
const timed = async (/** @type {AsyncIterable<unknown>} */ stream, /** @type {number} */ began) => {
  let first = NaN;
  let last = NaN;
  let tokens = 0;
  for await (const _ of stream) {
    last = performance.now();
    if (tokens++ === 0) first = last;
  }
  return { firstMs: first - began, restMs: last - first, tokens };
};

const ownOptions = (/** @type {Setup} */ { threads, prompts, contexts, tokens }) => ({
  threads,
  cache: /** @type {const} */ ('none'),
  contextLength: Math.max(...prompts, ...contexts) + tokens + 16,
  heads: /** @type {const} */ (false),
});

/** The package in Node, in a worker thread. @param {Setup} setup @returns {Promise<Engine>} */
async function inNode(setup) {
  const { ExitLM } = await import('../../web/src/index.js');
  const lm = await ExitLM.load(setup.model, ownOptions(setup));
  await lm.ready;
  return streaming(
    setup,
    async ({ text }, maxTokens) =>
      timed(lm.complete(text, { maxTokens, mode: 'full' }), performance.now()),
    { peakBytes: () => lm.info.memory.total, kvBytes: 4, close: () => lm.dispose() },
  );
}

/**
 * A page of Chromium. `open` runs in it once, and gives what answers there.
 * @template T
 * @param {Setup} setup
 * @param {(given: T) => Promise<{ answer: (text: string, tokens: number) => Promise<Timing>, bytes: number }>} open
 * @param {T} given
 * @param {Pick<Engine, 'kvBytes'> & { serve?: import('../../web/serve.mjs').ServeOptions, done?: () => void }} options
 * @returns {Promise<Engine>}
 */
async function inPage(setup, open, given, { kvBytes, serve = {}, done = () => {} }) {
  const it = await start(serve);
  const page = await it.open('/tests/page/blank.html');
  const bytes = await page.evaluate(
    `(async () => {
      globalThis.timed = ${timed};
      const { answer, bytes } = await (${open})(${JSON.stringify(given)});
      Object.assign(window, { answer });
      return bytes;
    })()`,
  );
  return streaming(
    setup,
    ({ text }, tokens) =>
      page.evaluate(
        ([prompt, n]) => /** @type {any} */ (window).answer(prompt, n),
        /** @type {const} */ ([text, tokens]),
      ),
    {
      peakBytes: () => Number(bytes ?? NaN),
      kvBytes,
      async close() {
        await it.close();
        done();
      },
    },
  );
}

/** The package in Debian's Chromium. @param {'simd' | 'relaxed'} variant */
const inChromium = (variant) => (/** @type {Setup} */ setup) =>
  inPage(
    setup,
    async ({ model, options }) => {
      const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
      const lm = await ExitLM.load(model, options);
      await lm.ready;
      return {
        answer: (text, maxTokens) =>
          timed(lm.complete(text, { maxTokens, mode: 'full' }), performance.now()),
        bytes: lm.info.memory.total,
      };
    },
    {
      model: `/models/${path.basename(setup.model)}`,
      options: {
        ...ownOptions(setup),
        wasm: `/web/dist/exitlm-${variant}${setup.threads > 1 ? '-mt' : ''}.wasm`,
      },
    },
    { kvBytes: 4 },
  );

/** wllama in the same browser. @param {Setup} setup @returns {Promise<Engine>} */
async function inWllama(setup) {
  const folder = fs.mkdtempSync(path.join(root, 'build/wllama-'));
  fs.symlinkSync(wllama(), path.join(folder, 'wllama'));
  for (const name of ['models', 'tests', 'web'])
    fs.symlinkSync(path.join(root, name), path.join(folder, name));
  return inPage(
    setup,
    async ({ model, threads, context }) => {
      const { openWllama } = await import(/** @type {any} */ ('/tests/bench/wllama-page.js'));
      const lm = await openWllama(new URL(model, location.href).href, { threads, context });
      return {
        async answer(text, tokens) {
          const began = performance.now();
          const stream = await lm.createCompletion({
            prompt: text,
            max_tokens: tokens,
            temperature: 0,
            cache_prompt: false,
            ignore_eos: true,
            stream: true,
          });
          return timed(stream, began);
        },
        bytes: NaN,
      };
    },
    {
      model: `/models/${path.basename(setup.model)}`,
      threads: setup.threads,
      context: ownOptions(setup).contextLength,
    },
    {
      kvBytes: 2,
      serve: { root: folder, folders: ['web', 'tests', 'wllama', 'models'] },
      done: () => fs.rmSync(folder, { recursive: true, force: true }),
    },
  );
}

/** llama.cpp as npm's node-llama-cpp has it. @param {Setup} setup @returns {Promise<Engine>} */
async function nodeLlama(setup) {
  const llama = await openLlama(setup.model, {
    threads: setup.threads,
    context: ownOptions(setup).contextLength,
  });
  return streaming(
    setup,
    ({ ids }, tokens) => timed(llama.tokens(ids, tokens), performance.now()),
    { peakBytes: () => NaN, kvBytes: 2, close: () => llama.close() },
  );
}

/** @type {Record<string, (setup: Setup) => Promise<Engine>>} */
export const kinds = {
  native,
  'node': inNode,
  'chromium-relaxed': inChromium('relaxed'),
  'chromium-simd': inChromium('simd'),
  'llama-bench': llamaBench,
  'llama.cpp': nodeLlama,
  'wllama': inWllama,
};
