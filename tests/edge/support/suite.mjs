// A small suite for any runtime: load, answer, depth, abort, bad model. Prints one JSON object; run
// with the folder of the files.
import { ExitLM } from '../../../web/src/index.js';

const [folder, worker] = globalThis.Deno?.args ?? process.argv.slice(2);
const hi = [{ role: 'user', content: 'Hi, how are you?' }];
const said = async (/** @type {() => Promise<unknown>} */ what) => {
  try {
    await what();
    return 'no error';
  } catch (error) {
    return /** @type {any} */ (error).code ?? /** @type {any} */ (error).message;
  }
};
const options = { worker: worker === 'worker', threads: 1, contextLength: 2048 };
/** More than can be said before it is stopped. */
const long = { maxTokens: 1900, mode: 'full' };

const loads = [];
const lm = await ExitLM.load(`${folder}/tiny.gguf`, {
  ...options,
  onProgress: ({ loaded, total }) => loads.push(loaded / total),
});
await lm.ready;
const reply = lm.chat(hi, { maxTokens: 24, mode: 'exit', accuracy: 0.9 });
const tokens = [];
for await (const token of reply) tokens.push(token);
const { reason, usage, meanDepth } = await reply.result;

const abort = new AbortController();
const stopped = await said(async () => {
  for await (const token of lm.chat(hi, { ...long, signal: abort.signal }))
    if (token.index === 3) abort.abort(new Error('enough'));
});
const left = lm.chat(hi, long);
for await (const token of left) if (token.index === 2) break;
const again = await lm.chat(hi, { maxTokens: 24, mode: 'exit', accuracy: 0.9 }).result;
const bad = {
  notThere: await said(() => ExitLM.load(`${folder}/nowhere.gguf`, options)),
  noModel: await said(() => ExitLM.load(`${folder}/text.gguf`, options)),
  cut: await said(async () => (await ExitLM.load(`${folder}/cut.gguf`, options)).ready),
  bytes: await said(() => ExitLM.load(new Uint8Array(100), options)),
  option: await said(() => lm.chat(hi, { accuracy: 3 }).result),
  noMaps: await said(async () => {
    const lean = await ExitLM.load(`${folder}/tiny.gguf`, { ...options, kvMaps: false });
    await lean.ready;
    await lean.chat(hi, { maxTokens: 4, mode: 'exit', accuracy: 0.9 }).result;
    return lean.dispose();
  }),
};
const packed = await ExitLM.load(`${folder}/packed/manifest.json`, options);
await packed.ready;
const fromShards = await packed.chat(hi, { maxTokens: 24, mode: 'exit', accuracy: 0.9 }).result;
await packed.dispose();
await lm.dispose();
const disposed = await said(() => lm.chat(hi).result);
console.log(
  JSON.stringify({
    loaded: loads.at(-1),
    kernel: lm.info.kernel,
    ids: tokens.map((t) => t.id),
    layers: tokens.map((t) => t.layer),
    depths: tokens.map((t) => t.depth),
    reason,
    usage,
    meanDepth,
    stopped,
    left: (await left.result).reason,
    again: again.text,
    text: tokens.map((t) => t.text).join(''),
    fromShards: fromShards.text,
    bad,
    disposed,
  }),
);
