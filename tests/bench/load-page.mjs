// One load and one answer in a page of Chromium, by ExitLM or by wllama.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { ARGS, executablePath } from '../page/browser.mjs';

/**
 * @typedef {object} Task
 * @property {string} url of the model
 * @property {string} prompt
 * @property {string} mode
 * @property {number | null} [accuracy] of mode exit; null: the heads' default
 * @property {number} threads
 * @property {boolean} heads whether there are any
 * @property {string} [sha256] of the model
 * @property {boolean} [audit] ask for the full model's first token too, afterwards
 *
 * @typedef {object} Answer times as of clock()
 * @property {number} began
 * @property {number} talkableAt
 * @property {number} firstAt the first token was out
 * @property {number} readyAt everything was there
 * @property {string} first its text
 * @property {number | null} layer
 * @property {number} promptTokens
 * @property {boolean | null} agrees the full model's first token is the same
 */

/**
 * A profile on the disk, empty at first: what it caches stays until `close`. @param {string}
 * address of the server with the packages
 */
export async function openProfile(address) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-profile-'));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath,
    headless: true,
    args: ARGS,
  });
  let requests = 0;
  context.on('request', (request) => {
    if (/\.(gguf|bin)$/.test(request.url())) requests++;
  });
  return {
    /** For models and heads, so far. */
    requests: () => requests,
    /**
     * A tab of its own for each. @param {'exitlm' | 'wllama'} engine @param {Task} task @param
     * {string} [at] path of the page @returns {Promise<Answer>}
     */
    async run(engine, task, at = '/tests/page/blank.html') {
      const page = await context.newPage();
      await page.goto(`${address}${at}`);
      const answer = await page.evaluate(engine === 'exitlm' ? byExitLM : byWllama, task);
      await page.close();
      return answer;
    },
    context,
    async close() {
      await context.close();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** In the page. @param {Task} task @returns {Promise<Answer>} */
async function byExitLM({ url, prompt, mode, accuracy = null, threads, heads, sha256, audit }) {
  const { ExitLM } =
    /** @type {any} */ (globalThis).bundled ??
    (await import(/** @type {any} */ ('/web/src/index.js')));
  const clock = () => performance.timeOrigin + performance.now();
  const messages = [{ role: 'user', content: prompt }];
  const began = clock();
  const lm = await ExitLM.load(url, { threads, sha256, ...(heads ? {} : { heads: false }) });
  const talkableAt = clock();
  const ready = lm.ready.then(clock);
  const reply = lm.chat(messages, {
    mode,
    maxTokens: 24,
    ...(mode === 'exit' && accuracy !== null ? { accuracy } : {}),
  });
  let firstAt = NaN;
  let first = '';
  let layer = null;
  for await (const token of reply) {
    if (first) continue;
    firstAt = clock();
    first = token.text;
    layer = token.layer;
  }
  const { usage } = await reply.result;
  const readyAt = await ready;
  const agrees = audit
    ? (await lm.chat(messages, { mode: 'full', maxTokens: 1 }).result).text === first
    : null;
  await lm.dispose(); // the cache has everything then
  return {
    began,
    talkableAt,
    firstAt,
    readyAt,
    first,
    layer,
    promptTokens: usage.promptTokens,
    agrees,
  };
}

/** In the page. @param {Task} task @returns {Promise<Answer>} */
async function byWllama({ url, prompt, threads }) {
  const { openWllama } = await import(/** @type {any} */ ('/tests/bench/wllama-page.js'));
  const clock = () => performance.timeOrigin + performance.now();
  const began = clock();
  const engine = await openWllama(url, { threads, context: 2048 });
  const readyAt = clock();
  const stream = await engine.createChatCompletion({
    messages: [{ role: 'user', content: prompt }],
    max_tokens: 24,
    temperature: 0,
    stream: true,
  });
  let firstAt = NaN;
  let first = '';
  for await (const { choices } of stream) {
    const text = choices[0]?.delta?.content;
    if (!text || first) continue;
    firstAt = clock();
    first = text;
    break;
  }
  await engine.exit();
  return {
    began,
    talkableAt: readyAt,
    firstAt,
    readyAt,
    first,
    layer: null,
    promptTokens: 0,
    agrees: null,
  };
}
