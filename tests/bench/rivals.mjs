// Ways of drafting beside each other, and what one more row of a verification costs: `exitlm bench
// --lossless` natively, and the same program's WASI module in Debian's Chromium, where V8 compiles
// it as it compiles the package's.
//
//   node tests/bench/rivals.mjs [--hosts native,chromium-relaxed,chromium-simd] [--reps 5]
//   [--tokens 96] [--context 40,512] [--model models/FILE.gguf, with its heads beside it] [--accuracy
//   0.95,0.90] [--no-rivals: the modes alone]
import { execFile } from 'node:child_process';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { defaultModel, program } from '../answers/tools.mjs';
import { start } from '../page/browser.mjs';

const { values } = parseArgs({
  allowNegative: true,
  options: {
    hosts: { type: 'string', default: 'native,chromium-relaxed,chromium-simd' },
    reps: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '96' },
    context: { type: 'string', default: '40,512' },
    model: { type: 'string', default: defaultModel },
    accuracy: { type: 'string' },
    rivals: { type: 'boolean', default: true },
  },
});
const options = [
  ...(values.rivals ? ['--lossless'] : []),
  '--json',
  '--reps',
  values.reps,
  '--gen-tokens',
  values.tokens,
  '--context',
  values.context,
  ...(values.accuracy ? ['--accuracy', values.accuracy] : []),
];
const model = path.basename(values.model);
const heads = model.replace(/\.gguf$/, '.exits.gguf');

const native = async () =>
  (await promisify(execFile)(program, ['bench', values.model, ...options], { maxBuffer: 1 << 26 }))
    .stdout;

async function chromium(/** @type {string} */ module) {
  const it = await start({ folders: ['tests', 'models', 'build', 'node_modules'] });
  try {
    const page = await it.open('/tests/page/blank.html');
    return await page.evaluate(
      async (given) => {
        const { WASI, File, OpenFile, ConsoleStdout, PreopenDirectory } = await import(
          /** @type {any} */ ('/node_modules/@bjorn3/browser_wasi_shim/dist/index.js')
        );
        const bytes = async (/** @type {string} */ url) =>
          new Uint8Array(await (await fetch(url)).arrayBuffer());
        const files = await Promise.all(
          given.files.map(
            async (name) => /** @type {const} */ ([name, new File(await bytes(`/models/${name}`))]),
          ),
        );
        let out = '';
        const decoder = new TextDecoder();
        const stdout = new ConsoleStdout((/** @type {Uint8Array} */ buffer) => {
          out += decoder.decode(buffer, { stream: true });
        });
        const stderr = ConsoleStdout.lineBuffered((/** @type {string} */ line) =>
          console.log(line),
        );
        const wasi = new WASI(
          ['exitlm', 'bench', `models/${given.files[0]}`, ...given.options],
          [],
          [
            new OpenFile(new File([])),
            stdout,
            stderr,
            new PreopenDirectory('models', new Map(files)),
          ],
          { debug: false },
        );
        const { instance } = await WebAssembly.instantiateStreaming(
          fetch(`/build/${given.module}`),
          { wasi_snapshot_preview1: wasi.wasiImport },
        );
        const code = wasi.start(/** @type {any} */ (instance));
        if (code !== 0) throw new Error(`exitlm bench ended with ${code}`);
        return out;
      },
      { module, options, files: [model, heads] },
    );
  } finally {
    await it.close();
  }
}

/** @type {Record<string, () => Promise<string>>} */
const hosts = {
  native,
  'chromium-relaxed': () => chromium('exitlm-relaxed.wasm'),
  'chromium-simd': () => chromium('exitlm.wasm'),
};
for (const name of values.hosts.split(',')) {
  if (!hosts[name]) throw new Error(`--hosts: ${name} is none of ${Object.keys(hosts).join(', ')}`);
  const report = JSON.parse(await hosts[name]());
  console.log(
    `\n${name}, ${report.kernel}\n\n| mode | after | tokens/s | times full | accepted | drafts an attempt | tokens a verification |\n|---|---|---|---|---|---|---|`,
  );
  for (const run of report.decode) {
    const mode = [run.mode, run.variant, run.accuracy]
      .filter((x) => x !== undefined && x !== null)
      .join(', ');
    console.log(
      `| ${mode} | ${run.context} | ${run.tokens_per_second.toFixed(0)} | ${run.speedup.toFixed(2)} | ${run.drafted ? `${run.accepted} of ${run.drafted}` : ''} | ` +
        `${run.drafted ? run.mean_draft_length.toFixed(1) : ''} | ${run.tokens_per_verification ? run.tokens_per_verification.toFixed(1) : ''} |`,
    );
  }

  if (!report.r) continue;
  console.log(
    `\nr, the cost of one more row: ${Object.entries(report.r)
      .map(([n, r]) => `${n}: ${Number(r).toFixed(2)}`)
      .join(', ')}`,
  );
}
