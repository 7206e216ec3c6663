// Larger models: does a file of 1 or 3 billion weights load and answer, how much memory does it take, how
// fast is it after 40, 512 and 2,000 tokens? The weights are random, in Llama 3.2's shapes with Q4_0
// throughout; the file lies in models/ while it is needed (0.7 or 1.8 GB). In Chromium all times are
// the page's processor time.
//
//   node tests/bench/scale.mjs [--shape 1b|3b] [--hosts native,chromium-relaxed] [--context 40,512,2000]
//   [--tokens 16] [--kv-type f32|f16|q8]
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { program, root } from '../answers/tools.mjs';
import { F32, ggufFile, key, vocabularyKeys } from '../js/support/gguf.mjs';
import { start } from '../page/browser.mjs';

const shapes = {
  '1b': { dim: 2048, ffn: 8192, layers: 16, heads: 32, kvHeads: 8, headDim: 64 },
  '3b': { dim: 3072, ffn: 8192, layers: 28, heads: 24, kvHeads: 8, headDim: 128 },
};
const VOCABULARY = 128256;

const { values } = parseArgs({
  options: {
    'shape': { type: 'string', default: '1b' },
    'hosts': { type: 'string', default: 'native' },
    'context': { type: 'string', default: '40,512,2000' },
    'tokens': { type: 'string', default: '16' },
    'kv-type': { type: 'string', default: 'f32' },
  },
});
const shape = shapes[/** @type {keyof typeof shapes} */ (values.shape)];
const contexts = values.context.split(',').map(Number);
const tokens = Number(values.tokens);
const contextLength = Math.max(...contexts) + tokens + 16;

// ---- The file ----
const Q4_0 = 2;
const BLOCK = 18; // bytes of 32 weights: a scale in f16 and their 4 bits

/** Blocks whose weights have about the deviation 1 / root(cols); a prime number, so that rows differ. */
function randomBlocks(/** @type {number} */ cols) {
  const blocks = Buffer.alloc(4099 * BLOCK);
  let state = cols;
  for (let i = 0; i < blocks.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    blocks[i] = state >>> 24;
  }
  const scale = (15 - Math.round(Math.log2(4.6 * Math.sqrt(cols)))) << 10; // a power of two
  for (let i = 0; i < blocks.length; i += BLOCK) blocks.writeUInt16LE(scale, i);
  return blocks;
}

function tensors() {
  const { dim, ffn, layers, heads, kvHeads, headDim } = shape;
  const list = [
    { name: 'token_embd.weight', dims: [dim, VOCABULARY] },
    { name: 'output_norm.weight', dims: [dim] },
  ];
  for (let i = 0; i < layers; i++)
    list.push(
      ...Object.entries({
        attn_norm: [dim],
        attn_q: [dim, heads * headDim],
        attn_k: [dim, kvHeads * headDim],
        attn_v: [dim, kvHeads * headDim],
        attn_output: [heads * headDim, dim],
        ffn_norm: [dim],
        ffn_gate: [dim, ffn],
        ffn_up: [dim, ffn],
        ffn_down: [ffn, dim],
      }).map(([name, dims]) => ({ name: `blk.${i}.${name}.weight`, dims })),
    );
  let offset = 0;
  return list.map(({ name, dims }) => {
    const [cols, rows] = dims;
    const bytes = rows ? ((rows * cols) / 32) * BLOCK : 4 * cols;
    const tensor = { name, dims, type: rows ? Q4_0 : 0, offset, bytes };
    offset += Math.ceil(bytes / 32) * 32;
    return tensor;
  });
}

function write(/** @type {string} */ file) {
  const { dim, ffn, layers, heads, kvHeads, headDim } = shape;
  const all = tensors();
  const vocabulary = vocabularyKeys('llama-bpe').map((k) => {
    if (!/\.(tokens|token_type)$/.test(k.name)) return k;
    const fill = k.name.endsWith('tokens') ? (/** @type {number} */ i) => `unused ${i}` : () => 1;
    const more = Array.from({ length: VOCABULARY - k.value.length }, (_, i) => fill(i));
    return { ...k, value: [...k.value, ...more] };
  });
  const header = ggufFile(
    [
      key('general.architecture', 'llama'),
      key('general.name', `random ${values.shape}`),
      key('llama.block_count', layers),
      key('llama.context_length', 131072),
      key('llama.embedding_length', dim),
      key('llama.feed_forward_length', ffn),
      key('llama.attention.head_count', heads),
      key('llama.attention.head_count_kv', kvHeads),
      key('llama.attention.key_length', headDim),
      key('llama.attention.value_length', headDim),
      key('llama.rope.dimension_count', headDim),
      key('llama.rope.freq_base', 500000, F32),
      key('llama.attention.layer_norm_rms_epsilon', 1e-5, F32),
      ...vocabulary,
    ],
    all,
  );
  const fd = fs.openSync(file, 'w');
  fs.writeSync(fd, header);
  for (const { dims, type, bytes } of all) {
    const pattern =
      type === Q4_0 ? randomBlocks(dims[0]) : Buffer.from(new Float32Array(dims[0]).fill(1).buffer);
    const whole = Buffer.alloc(Math.ceil(bytes / 32) * 32, pattern);
    fs.writeSync(fd, whole);
  }
  fs.closeSync(fd);
}

// ---- The hosts ----
/**
 * @typedef {{ loadMs: number, memory: number, what: string, rows: { context: number, promptSpeed?:
 *   number, speed: number }[] }} Result
 */

/** @returns {Promise<Result>} */
async function native(/** @type {string} */ file) {
  const measure = async (/** @type {number} */ context) =>
    JSON.parse(
      (
        await promisify(execFile)(program, [
          ...['bench', file, '--json', '--heads', 'none', '--reps', '1'],
          ...['--context', `${context}`, '--prompt-tokens', `${context}`],
          ...['--gen-tokens', `${tokens}`, '--ctx', `${contextLength}`],
          ...['--kv-type', values['kv-type']],
        ])
      ).stdout,
    );
  const reports = [];
  for (const context of contexts) reports.push(await measure(context));
  return {
    loadMs: reports[0].load_ms,
    memory: Math.max(...reports.map((r) => r.peak_bytes)),
    what: 'peak of the process',
    rows: reports.map((r, i) => ({
      context: contexts[i],
      promptSpeed: r.prompt[0].tokens_per_second,
      speed: r.decode[0].tokens_per_second,
    })),
  };
}

/** @returns {Promise<Result>} */
async function chromium(/** @type {string} */ variant, /** @type {string} */ file) {
  const it = await start();
  try {
    const page = await it.open('/tests/page/blank.html');
    page.setDefaultTimeout(0);
    const browser = await it.browser.newBrowserCDPSession();
    const now = async () => {
      const { processInfo } = await browser.send('SystemInfo.getProcessInfo');
      return processInfo
        .filter((/** @type {{ type: string }} */ { type }) => type === 'renderer')
        .reduce((/** @type {number} */ sum, /** @type {any} */ { cpuTime }) => sum + cpuTime, 0);
    };
    const began = await now();
    const memory = await page.evaluate(
      async (given) => {
        const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
        const lm = await ExitLM.load(given.model, given.options);
        await lm.ready;
        Object.assign(window, { lm });
        return lm.info.memory.total;
      },
      {
        model: `/models/${path.basename(file)}`,
        options: {
          wasm: `/web/dist/exitlm-${variant}.wasm`,
          heads: false,
          threads: 1,
          cache: 'none',
          contextLength,
          kvType: values['kv-type'],
        },
      },
    );
    const loadMs = ((await now()) - began) * 1000;
    // letters that are not merged, a token each; the second reply re-uses the first one's prompt
    const reply = (/** @type {number} */ context, /** @type {number} */ maxTokens) =>
      page.evaluate(
        async ([n, most]) => {
          const prompt = Array.from({ length: n }, (_, i) => 'abcdfgjk'[(i * i) % 8]).join('');
          const { lm } = /** @type {any} */ (window);
          const { usage } = await lm.complete(prompt, { maxTokens: most, mode: 'full' }).result;
          return usage.completionTokens;
        },
        [context, maxTokens],
      );
    const rows = [];
    for (const context of contexts) {
      const times = [await now()];
      await reply(context, 1);
      times.push(await now());
      const written = await reply(context, tokens);
      times.push(await now());
      rows.push({
        context,
        promptSpeed: context / (times[1] - times[0]),
        speed: written / (times[2] - times[1]),
      });
    }
    return { loadMs, memory, what: 'info.memory', rows };
  } finally {
    await it.close();
  }
}

/** @type {Record<string, (file: string) => Promise<Result>>} */
const hosts = {
  native,
  'chromium-relaxed': (file) => chromium('relaxed', file),
  'chromium-simd': (file) => chromium('simd', file),
};
const unknown = values.hosts.split(',').find((name) => !hosts[name]);
if (!shape || unknown)
  throw new Error(
    `scale: --shape is one of ${Object.keys(shapes)}, --hosts some of ${Object.keys(hosts)}`,
  );

const file = path.join(root, `models/scale-${values.shape}-${process.pid}.gguf`);
try {
  write(file);
  const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
  console.log(
    `${values.shape}, ${megabytes(fs.statSync(file).size)}, K/V ${values['kv-type']} for ${contextLength} tokens\n\n` +
      '| host | context | prompt, tokens/s | tokens/s |\n|---|---|---|---|',
  );
  for (const name of values.hosts.split(',')) {
    const result = await hosts[name](file);
    for (const { context, promptSpeed, speed } of result.rows)
      console.log(`| ${name} | ${context} | ${promptSpeed?.toFixed(1)} | ${speed.toFixed(2)} |`);
    console.log(
      `\n${name}: loaded in ${(result.loadMs / 1000).toFixed(1)} s, ${megabytes(result.memory)} (${result.what})\n`,
    );
  }
} finally {
  fs.rmSync(file, { force: true });
}
