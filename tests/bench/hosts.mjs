// Where answers are measured: the native program, the package in Node, the package in Debian's
// Chromium with one wasm build or the other.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { defaultModel, program } from '../answers/tools.mjs';

export const heads = defaultModel.replace(/\.gguf$/, '.exits.gguf');

/**
 * @typedef {{ mode: string, accuracy?: number, maxTokens: number, temperature?: number, seed?:
 *   number }} Options
 * @typedef {{ ids: number[], speed: number, promptMs: number, meanDepth: number, meanWork: number,
 *   attempts: number, drafted: number, accepted: number }} Answer
 * speed in tokens a second after the first; promptMs from the question to the first token
 * @typedef {{ answer: (turns: string[], options: Options) => Promise<Answer[]>, close: () =>
 *   Promise<void> }} Host an answer to each turn of a new conversation
 * @typedef {{ threads: number, throttle: number }} Setup
 */

/** Turns of a conversation are lines of the program's input. */
const oneLine = (/** @type {string} */ turn) => turn.replaceAll('\n', ' ');

/** A process for each conversation. @returns {Promise<Host>} */
async function native(/** @type {Setup} */ { threads }) {
  return {
    answer: (turns, { mode, accuracy, maxTokens, temperature = 0, seed = 0 }) =>
      new Promise((resolve, reject) => {
        const child = spawn(program, [
          'chat',
          defaultModel,
          ...(turns.length === 1 ? ['-p', turns[0]] : []),
          '--heads',
          heads,
          '--json',
          '--mode',
          mode,
          '--max-tokens',
          `${maxTokens}`,
          '--threads',
          `${threads}`,
          '--temp',
          `${temperature}`,
          '--seed',
          `${seed}`,
          ...(accuracy ? ['--accuracy', `${accuracy}`] : []),
        ]);
        let out = '';
        let errors = '';
        child.stdout.setEncoding('utf8').on('data', (text) => {
          out += text;
        });
        child.stderr.setEncoding('utf8').on('data', (text) => {
          errors += text;
        });
        child.on('error', reject);
        child.on('close', (code) => {
          if (code !== 0) {
            reject(new Error(`the program ended with ${code}: ${errors}`));
            return;
          }
          /** @type {Answer[]} */
          const answers = [];
          /** @type {number[]} */
          let ids = [];
          for (const line of out
            .trim()
            .split('\n')
            .map((text) => JSON.parse(text))) {
            if (line.type === 'token') ids.push(line.id);
            if (line.type !== 'done') continue;
            answers.push({
              ids,
              speed: line.tokens_per_second,
              promptMs: line.prompt_ms,
              meanDepth: line.mean_depth,
              meanWork: line.mean_work,
              attempts: line.draft_attempts,
              drafted: line.drafted,
              accepted: line.accepted,
            });
            ids = [];
          }
          resolve(answers);
        });
        child.stdin.end(
          turns.length === 1 ? '' : turns.map((turn) => `${oneLine(turn)}\n`).join(''),
        );
      }),
    async close() {},
  };
}

/** In Node and, as text, in a page. @returns {Promise<Answer[]>} */
const converse = async (
  /** @type {any} */ lm,
  /** @type {string[]} */ turns,
  /** @type {any} */ options,
) => {
  const messages = [];
  const answers = [];
  for (const turn of turns) {
    messages.push({
      role: 'user',
      content: turns.length === 1 ? turn : turn.replaceAll('\n', ' '),
    });
    const ids = [];
    const reply = lm.chat(messages, options);
    for await (const { id } of reply) ids.push(id);
    const { text, timing, meanDepth, meanWork, draftAttempts, drafted, accepted } =
      await reply.result;
    messages.push({ role: 'assistant', content: text });
    answers.push({
      ids,
      speed: timing.tokensPerSecond,
      promptMs: timing.promptMs,
      meanDepth,
      meanWork,
      attempts: draftAttempts,
      drafted,
      accepted,
    });
  }
  return answers;
};

/** @returns {Promise<Host>} */
async function node(/** @type {Setup} */ { threads }) {
  const { ExitLM } = await import('../../web/src/index.js');
  const lm = await ExitLM.load(defaultModel, { heads, threads, cache: 'none' });
  await lm.ready;
  return {
    answer: (turns, options) => converse(lm, turns, options),
    close: async () => {
      await lm.dispose();
    },
  };
}

/** @returns {Promise<Host>} */
async function chromium(/** @type {string} */ variant, /** @type {Setup} */ { threads, throttle }) {
  const { start } = await import('../page/browser.mjs');
  const it = await start();
  const page = await it.open('/tests/page/blank.html');
  await page.evaluate(
    async ({ options, model, source }) => {
      const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
      const lm = await ExitLM.load(model, options);
      await lm.ready;
      const code = await import(
        URL.createObjectURL(new Blob([`export default ${source}`], { type: 'text/javascript' }))
      );
      Object.assign(window, { lm, converse: code.default });
    },
    {
      model: `/models/${path.basename(defaultModel)}`,
      source: converse.toString(),
      // The DevTools protocol slows the page's own thread down and no worker.
      options: {
        wasm: `/web/dist/exitlm-${variant}${threads > 1 ? '-mt' : ''}.wasm`,
        heads: `/models/${path.basename(heads)}`,
        threads,
        cache: 'none',
        worker: throttle === 1,
        kvMaps: true,
      },
    },
  );
  if (throttle > 1)
    await (
      await page.context().newCDPSession(page)
    ).send('Emulation.setCPUThrottlingRate', { rate: throttle });
  return {
    answer: (turns, options) =>
      page.evaluate(
        (given) => {
          const w = /** @type {any} */ (window);
          return w.converse(w.lm, given.turns, given.options);
        },
        { turns, options },
      ),
    close: () => it.close(),
  };
}

/** @type {Record<string, (setup: Setup) => Promise<Host>>} */
const kinds = {
  native,
  node,
  'chromium-relaxed': (setup) => chromium('relaxed', setup),
  'chromium-simd': (setup) => chromium('simd', setup),
};
export const hostNames = Object.keys(kinds);

/** @returns {Promise<Host>} */
export function openHost(
  /** @type {string} */ name,
  /** @type {Partial<Setup>} */ { threads = 1, throttle = 1 } = {},
) {
  if (!kinds[name]) throw new Error(`--hosts: ${name} is none of ${hostNames.join(', ')}`);
  return kinds[name]({ threads, throttle });
}

export const median = (/** @type {number[]} */ list) => {
  const sorted = list.filter((x) => Number.isFinite(x)).sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : NaN;
};
