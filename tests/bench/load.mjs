// When does the first token come on a slow line, and when from the cache? (npm run bench:load)
//
//   node tests/bench/load.mjs [--ways packed,range,order,checked,wllama,cache] [--modes exit,full]
//   [--prompts 20] [--few 5] [--mbit 20] [--rtt 0] [--jobs 1]
//                             [--threads 1] [--model FILE] [--heads FILE] [--accuracy A]
//                             [--accuracy-check] [--json FILE] [--plot FILE.svg] [--from FILE,…]
//
// Chromium loads the default model from a server of this machine whose line is limited, each time
// into an empty profile with the cache on, and answers a prompt of about 40 tokens meanwhile; the
// packages themselves come over another, unlimited one.
//   packed  shards of `exitlm pack`        wllama  wllama, the plain file from a server with ranges
//   range   the plain file, with ranges    cache   a new tab of a profile that has the model
//           already: ExitLM (a line a mode) and wllama in turn
//   order   the plain file, without
//   checked the same, with its SHA-256 given: a packed model is always verified (only where asked for)
// --mbit 0: a line without a limit. --rtt: so many milliseconds pass before an answer begins.
// --from: rows of earlier runs (--json) are drawn beside those of this one, of which there may be
// none. `exit` of packed and range runs --prompts prompts, --jobs of them at once, each on a line
// of its own; everything else --few, one by one. Shares are of all bytes of the model and of its
// heads (without their K/V maps, which are not fetched), in those that had left the server when the
// first token was out in the page: the manifest and the answers' headers count as sent. "After the
// last byte" counts from the moment when the server had sent all.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { withoutMaps } from '../../web/src/loading/heads.js';
import { start } from '../page/browser.mjs';
import { median } from './hosts.mjs';
import { openLine } from './load-line.mjs';
import { openProfile } from './load-page.mjs';
import { drawLoad } from './load-plot.mjs';
import { wllama, wllamaName } from './load-wllama.mjs';

const WAYS = ['packed', 'range', 'order', 'checked', 'wllama', 'cache'];
/** Without ranges, so from the first byte to the last. */
const STREAMS = ['order', 'checked'];
/** How soon after the last byte `full` has to answer, by way. @type {Record<string, number>} */
const FULL_BAR_MS = { packed: 150, range: 150, order: 300 };
const CACHE_BAR = 5;
const SETTLE_MS = 1500;

const root = fileURLToPath(new URL('../../', import.meta.url));
const { values } = parseArgs({
  options: {
    'ways': { type: 'string' },
    'modes': { type: 'string', default: 'exit,full' },
    'prompts': { type: 'string', default: '20' },
    'few': { type: 'string', default: '5' },
    'mbit': { type: 'string', default: '20' },
    'rtt': { type: 'string', default: '0' },
    'jobs': { type: 'string', default: '1' },
    'threads': { type: 'string', default: '1' },
    'model': { type: 'string', default: 'models/smollm2-135m-instruct.gguf' },
    'heads': { type: 'string' },
    'program': { type: 'string', default: 'build/exitlm' },
    'accuracy': { type: 'string' },
    'accuracy-check': { type: 'boolean', default: false },
    'json': { type: 'string' },
    'plot': { type: 'string' },
    'from': { type: 'string' },
  },
});
const ways =
  values.ways?.split(',') ?? (values.from ? [] : WAYS.filter((way) => way !== 'checked'));
const unknown = ways.find((way) => !WAYS.includes(way));
if (unknown) throw new Error(`--ways: ${unknown} is none of ${WAYS.join(', ')}`);
const model = path.resolve(root, values.model);
const beside = model.replace(/\.gguf$/, '.exits.gguf');
const found = fs.existsSync(beside) ? beside : null;
const heads = values.heads ? path.resolve(values.heads) : found;
// null: the heads' default
const accuracy = values.accuracy === undefined ? null : Number(values.accuracy);
const modes = values.modes.split(',').filter((mode) => mode === 'full' || heads);
const threads = Number(values.threads);
const bitsPerSecond = Number(values.mbit) * 1e6;

const TOPICS = [
  'why the sky is blue',
  'how bread is made',
  'the first people on the Moon',
  'a walk in the mountains',
  'how to learn a language',
  'what a library is for',
  'the history of the bicycle',
  'why leaves turn red',
  'how a bridge carries weight',
  'a recipe for soup',
  'how bees find flowers',
  'what makes a good friend',
  'how computers count',
  'the water cycle',
  'a day at the sea',
  'how music is written down',
  'why we sleep',
  'how paper is made',
  'what stars are',
  'growing tomatoes',
];
const prompts = TOPICS.map((topic) => `Please tell me in a few clear sentences about ${topic}.`);

/** Everything that is served, in one temporary folder. */
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-load-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
for (const name of ['web', 'tests']) fs.symlinkSync(path.join(root, name), path.join(folder, name));
if (ways.includes('wllama') || ways.includes('cache'))
  fs.symlinkSync(wllama(), path.join(folder, 'wllama'));
fs.mkdirSync(path.join(folder, 'models'));
fs.copyFileSync(model, path.join(folder, 'models/plain.gguf'));
if (heads) fs.copyFileSync(heads, path.join(folder, 'models/plain.exits.gguf'));
if (ways.some((way) => way === 'packed' || way === 'cache')) {
  const { status } = spawnSync(
    path.resolve(root, values.program),
    ['pack', path.join(folder, 'models/plain.gguf'), '-o', path.join(folder, 'models/packed')],
    { stdio: ['ignore', 2, 2] },
  );
  if (status !== 0) throw new Error('exitlm pack failed');
}
const sha256 = ways.includes('checked')
  ? createHash('sha256').update(fs.readFileSync(model)).digest('hex')
  : undefined;
/** The heads' K/V maps are not fetched. */
const headsBytes = heads ? withoutMaps(fs.readFileSync(heads)).length : 0;
const totalBytes = fs.statSync(model).size + headsBytes;

const packages = await start(
  { root: folder, folders: ['web', 'tests', 'wllama'] },
  { browser: false },
);
const lineFor = (/** @type {string} */ way) =>
  openLine({
    root: folder,
    folders: ['models'],
    ranges: !STREAMS.includes(way),
    bitsPerSecond,
    rttMs: Number(values.rtt),
  });
const pathOf = (/** @type {string} */ way) =>
  way === 'packed' ? 'models/packed/manifest.json' : 'models/plain.gguf';

/**
 * @typedef {object} Run
 * @property {string} prompt
 * @property {string} first the first token's text
 * @property {number | null} layer that it left from
 * @property {boolean | null} agrees
 * @property {number} promptTokens
 * @property {number} firstMs from the start
 * @property {number} talkableMs
 * @property {number} readyMs
 * @property {number} share of all bytes, when the first token was out
 * @property {number} afterLastByteMs
 * @property {number} sentBytes
 * @property {number} requests
 * @property {{ ms: number, share: number }[]} curve
 */

/** One load into an empty profile. @returns {Promise<Run>} */
async function cold(
  /** @type {string} */ way,
  /** @type {string} */ mode,
  /** @type {string} */ prompt,
) {
  const line = await lineFor(way);
  const profile = await openProfile(packages.address);
  try {
    const answer = await profile.run(way === 'wllama' ? 'wllama' : 'exitlm', {
      url: `${line.address}/${pathOf(way)}`,
      mode,
      accuracy,
      prompt,
      threads,
      heads: heads !== null,
      sha256: way === 'checked' ? sha256 : undefined,
      audit: values['accuracy-check'],
    });
    const step = Math.max(1, Math.floor(line.points.length / 400));
    const total = way === 'wllama' ? fs.statSync(model).size : totalBytes;
    return {
      ...timesOf(prompt, answer),
      share: line.bytesAt(answer.firstAt) / total,
      afterLastByteMs: answer.firstAt - line.lastByteAt(),
      sentBytes: line.points.at(-1)?.bytes ?? 0,
      requests: line.requests(),
      curve: line.points
        .filter((_, i) => i % step === 0)
        .map(({ at, bytes }) => ({ ms: at - answer.began, share: bytes / total })),
    };
  } finally {
    await profile.close();
    await line.close();
  }
}

const timesOf = (
  /** @type {string} */ prompt,
  /** @type {import('./load-page.mjs').Answer} */ {
    began,
    firstAt,
    talkableAt,
    readyAt,
    first,
    layer,
    agrees,
    promptTokens,
  },
) => ({
  prompt,
  first,
  layer,
  agrees,
  promptTokens,
  firstMs: firstAt - began,
  talkableMs: talkableAt - began,
  readyMs: readyAt - began,
});

/** All prompts, so many at once, each on its own line. @returns {Promise<Run[]>} */
async function coldRuns(/** @type {string} */ way, /** @type {string} */ mode) {
  const many = mode === 'exit' && (way === 'packed' || way === 'range');
  const wanted = prompts.slice(0, Number(many ? values.prompts : values.few));
  /** @type {Run[]} */
  const runs = [];
  let next = 0;
  const work = async () => {
    while (next < wanted.length) {
      const i = next++;
      runs[i] = await cold(way, mode, wanted[i]);
      process.stderr.write(
        `${way} ${mode} ${i + 1}/${wanted.length}: ${(runs[i].firstMs / 1000).toFixed(1)} s, ${(100 * runs[i].share).toFixed(1)} %, layer ${runs[i].layer}, ${runs[i].afterLastByteMs.toFixed(0)} ms after the last byte\n`,
      );
    }
  };
  await Promise.all(Array.from({ length: many ? Number(values.jobs) : 1 }, work));
  return runs;
}

/** Ours and wllama's first token from their own caches, in turn. */
async function cacheRuns() {
  const line = await openLine({ root: folder, folders: ['models'] }); // fills the caches at once
  const profile = await openProfile(packages.address);
  /** @type {Record<string, ReturnType<typeof timesOf>[]>} */
  const runs = {};
  try {
    const url = `${line.address}/${pathOf('range')}`;
    /** @type {{ name: string, engine: 'exitlm' | 'wllama', mode: string }[]} */
    const all = [
      ...modes.map((mode) => ({ name: mode, engine: /** @type {const} */ ('exitlm'), mode })),
      { name: 'wllama', engine: 'wllama', mode: '' },
    ];
    for (const { engine } of [all[0], all[all.length - 1]])
      await profile.run(engine, {
        url,
        mode: modes[0],
        prompt: prompts[0],
        threads,
        heads: heads !== null,
      });
    const before = line.points.at(-1)?.bytes ?? 0;
    for (const prompt of prompts.slice(0, Number(values.few))) {
      all.push(/** @type {typeof all[0]} */ (all.shift())); // each follows each of the others
      for (const { name, engine, mode } of all) {
        // the tab before has gone
        await new Promise((resolve) => {
          setTimeout(resolve, SETTLE_MS);
        });
        const run = timesOf(
          prompt,
          await profile.run(engine, {
            url,
            mode,
            accuracy,
            prompt,
            threads,
            heads: heads !== null,
          }),
        );
        (runs[name] ??= []).push(run);
        process.stderr.write(`cache ${name}: first token after ${run.firstMs.toFixed(0)} ms\n`);
      }
    }
    return { runs, networkBytes: (line.points.at(-1)?.bytes ?? 0) - before };
  } finally {
    await profile.close();
    await line.close();
  }
}

const shown = (/** @type {number} */ ms) => `${(ms / 1000).toFixed(2)} s`;
const verdict = (/** @type {boolean} */ met) => (met ? 'met' : 'NOT met');
/** @type {any[]} */
const rows = [];
/** After each row: a run takes many minutes. */
const keep = () => {
  if (values.json)
    fs.writeFileSync(
      values.json,
      JSON.stringify(
        { type: 'load', model: path.basename(model), headsBytes, totalBytes, threads, rows },
        null,
        1,
      ),
    );
};
const say = (/** @type {any} */ row, /** @type {string} */ text) => {
  rows.push(row);
  console.log(text);
  keep();
};

for (const way of WAYS.filter((w) => ways.includes(w) && w !== 'cache')) {
  for (const mode of way === 'wllama' ? ['full'] : modes) {
    const runs = await coldRuns(way, mode);
    const of = (/** @type {(run: Run) => number} */ f) => median(runs.map(f));
    const row = {
      way,
      mode,
      mbit: Number(values.mbit),
      rtt_ms: Number(values.rtt),
      accuracy: mode === 'exit' && way !== 'wllama' ? accuracy : null,
      prompts: runs.length,
      requests: of((r) => r.requests),
      share: of((r) => r.share),
      under78: runs.filter((r) => r.share < 0.78).length,
      under68: runs.filter((r) => r.share < 0.68).length,
      agree: values['accuracy-check'] ? runs.filter((r) => r.agrees).length : null,
      talkable_ms: of((r) => r.talkableMs),
      first_ms: of((r) => r.firstMs),
      ready_ms: of((r) => r.readyMs),
      after_last_byte_ms: of((r) => r.afterLastByteMs),
      sent_bytes: of((r) => r.sentBytes),
      prompt_tokens: of((r) => r.promptTokens),
      runs,
    };
    const line = [
      `${way === 'wllama' ? wllamaName : `${way} ${mode}`}:`.padEnd(14),
      `first token after ${shown(row.first_ms)}, ${(100 * row.share).toFixed(1)} % of the bytes, ${row.requests} requests, ${row.after_last_byte_ms.toFixed(0)} ms after the last byte`,
    ];
    if (way !== 'wllama')
      line.push(`; talkable ${shown(row.talkable_ms)}, all there ${shown(row.ready_ms)}`);
    if (row.agree !== null && way !== 'wllama')
      line.push(`; the full model's token in ${row.agree} of ${row.prompts}`);
    if (mode === 'exit' && !STREAMS.includes(way))
      line.push(
        `\n${' '.repeat(15)}before 78 %: ${row.under78} of ${row.prompts} (bar 16 of 20: ${verdict(row.under78 >= 0.8 * row.prompts)}), before 68 %: ${row.under68} (bar 5 of 20: ${verdict(row.under68 >= 0.25 * row.prompts)})`,
      );
    if (mode === 'full' && FULL_BAR_MS[way])
      line.push(
        ` (bar ${FULL_BAR_MS[way]} ms: ${verdict(row.after_last_byte_ms <= FULL_BAR_MS[way])})`,
      );
    say(row, line.join(' ').replaceAll(' ;', ';').replace(' \n', '\n'));
  }
}
if (ways.includes('cache')) {
  const { runs, networkBytes } = await cacheRuns();
  const theirs = median(runs.wllama.map((r) => r.firstMs));
  console.log(`cache wllama:  first token after ${shown(theirs)}`);
  for (const mode of modes) {
    const ours = median(runs[mode].map((r) => r.firstMs));
    const times = median(runs[mode].map((r, i) => runs.wllama[i].firstMs / r.firstMs));
    say(
      {
        way: 'cache',
        mode,
        prompts: runs[mode].length,
        first_ms: ours,
        talkable_ms: median(runs[mode].map((r) => r.talkableMs)),
        wllama_first_ms: theirs,
        times,
        network_bytes: networkBytes,
        runs: runs[mode],
        wllama: runs.wllama,
      },
      `cache ${mode}:`.padEnd(15) +
        `first token after ${shown(ours)}, ${times.toFixed(1)}x sooner than wllama, median of pairs (bar ${CACHE_BAR}x: ${verdict(times >= CACHE_BAR)})`,
    );
  }
}
await packages.close();
for (const file of values.from?.split(',') ?? [])
  rows.push(...JSON.parse(fs.readFileSync(file, 'utf8')).rows);
keep();
if (values.plot)
  fs.writeFileSync(
    values.plot,
    drawLoad(rows, { mbit: Number(values.mbit), totalBytes, wllamaName }),
  );
if (rows.length === 0) process.exitCode = 1;
