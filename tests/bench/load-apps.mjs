// How soon does the chat page answer on a line without a limit, and a page behind Vite's development
// server, against one that loads the same file in one stream?
//
//   node tests/bench/load-apps.mjs [--ways order,range,page,vite] [--rounds 5]
//
// Chromium, from localhost, each time into an empty profile with the cache on, in turn.
//   order  a plain page, the file from a server without ranges: what the others are compared with
//   range  the same with ranges             page   the chat page as `npm start` serves it
//   vite   a plain page behind Vite, which serves the model from its folder `public`
// The page's sources come over the same line; of `order`, `range` and `vite` they are there before
// the clock starts, of `page` when a question is sent.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createApp, serve } from '../bundlers/support/app.mjs';
import { tools } from '../bundlers/support/tools.mjs';
import { start } from '../page/browser.mjs';
import { median } from './hosts.mjs';
import { openProfile } from './load-page.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const MODEL = 'smollm2-135m-instruct.gguf';
const PROMPT = 'Please tell me in a few clear sentences why the sky is blue.';
const { values } = parseArgs({
  options: {
    ways: { type: 'string', default: 'order,range,page,vite' },
    rounds: { type: 'string', default: '5' },
  },
});
const task = { prompt: PROMPT, mode: 'exit', threads: 1, heads: true };

/** @typedef {{ began: number, firstAt: number, readyAt: number, requests: number }} Times */

/** What loads a model and answers, at an address. @param {boolean} ranges */
const plain = async (ranges) => {
  const server = await start({ ranges }, { browser: false });
  return { address: server.address, url: `${server.address}/models/${MODEL}`, close: server.close };
};

async function vite() {
  const app = createApp({ script: '/src/index.js' });
  fs.writeFileSync(
    path.join(app, 'src/index.js'),
    `import { ExitLM } from 'exitlm';\nglobalThis.bundled = { ExitLM };\ndocument.title = 'bundled';\n`,
  );
  for (const name of [MODEL, MODEL.replace('.gguf', '.exits.gguf')])
    fs.copyFileSync(path.join(root, 'models', name), path.join(app, 'public', name));
  const program = path.join(tools(), 'node_modules/vite/bin/vite.js');
  const { url, stop } = await serve(program, ['--port', '0', '--host', 'localhost'], app);
  const first = await openProfile(url.slice(0, -1)); // Vite prepares the package at the first visit
  const page = await first.context.newPage();
  await page.goto(url);
  await page.waitForFunction(() => document.title === 'bundled');
  await first.close();
  return { address: url.slice(0, -1), url: url + MODEL, close: stop };
}

/**
 * A question to the chat page.
 * @param {string} address @returns {Promise<Times>}
 */
async function askPage(address) {
  const profile = await openProfile(address);
  try {
    const page = await profile.context.newPage();
    await page.goto(`${address}/web/demo/`);
    await page.getByRole('textbox', { name: 'Message' }).fill(PROMPT);
    const watching = page.evaluate(async () => {
      const { model } = await import(/** @type {any} */ ('/web/demo/model.js'));
      const clock = () => performance.timeOrigin + performance.now();
      const times = { began: NaN, firstAt: NaN, readyAt: NaN };
      await new Promise((resolve, reject) => {
        const look = () => {
          if (model.state === 'failed') reject(model.error);
          if (model.state !== 'none') times.began ||= clock();
          // A recorded answer stands there before.
          const [first] = [...document.querySelectorAll('.answer')].filter(
            (answer) => !answer.closest('#recorded'),
          );
          if (/** @type {any} */ (first)?.answer?.run?.tokens?.length) times.firstAt ||= clock();
          if (model.state === 'ready') times.readyAt ||= clock();
          if (times.firstAt && times.readyAt) resolve(undefined);
          else setTimeout(look, 5);
        };
        look();
      });
      return times;
    });
    await page.keyboard.press('Enter');
    return { ...(await watching), requests: profile.requests() };
  } finally {
    await profile.close();
  }
}

/** @param {{ address: string, url: string }} at @param {string} [page] @returns {Promise<Times>} */
async function loadPlain({ address, url }, page) {
  const profile = await openProfile(address);
  try {
    const times = await profile.run('exitlm', { ...task, url }, page);
    return { ...times, requests: profile.requests() };
  } finally {
    await profile.close();
  }
}

/** @type {Record<string, { close: () => Promise<void>, run: () => Promise<Times> }>} */
const ways = {};
for (const way of values.ways.split(',')) {
  const at = way === 'vite' ? await vite() : await plain(way !== 'order');
  ways[way] = {
    close: at.close,
    run: () =>
      way === 'page' ? askPage(at.address) : loadPlain(at, way === 'vite' ? '/' : undefined),
  };
}
/** @type {Record<string, { first: number, ready: number, requests: number }[]>} */
const runs = {};
for (let round = 0; round < Number(values.rounds); round++)
  for (const [way, { run }] of Object.entries(ways)) {
    const { began, firstAt, readyAt, requests } = await run();
    (runs[way] ??= []).push({ first: firstAt - began, ready: readyAt - began, requests });
    process.stderr.write(
      `${way}: ${(firstAt - began).toFixed(0)} ms, ${(readyAt - began).toFixed(0)} ms\n`,
    );
  }
for (const { close } of Object.values(ways)) await close();

const [reference] = Object.keys(runs);
for (const [way, list] of Object.entries(runs)) {
  const shown = (/** @type {'first' | 'ready'} */ what) => {
    const times = median(list.map((r, i) => r[what] / runs[reference][i][what]));
    return `${(median(list.map((r) => r[what])) / 1000).toFixed(2)} s (${times.toFixed(2)} times ${reference})`;
  };
  console.log(
    `${way.padEnd(6)} first token after ${shown('first')}, all there after ${shown('ready')}, ${median(list.map((r) => r.requests))} requests`,
  );
}
