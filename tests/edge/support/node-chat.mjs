// The same engine file as in the Worker, in Node: loads the packed model, answers a question some
// times, prints tokens a second of each.
import fs from 'node:fs';
import { ExitLM } from '../../../web/src/edge.js';

const [manifest, file, question, mode, tokens, times] = process.argv.slice(2);
const wasm = await WebAssembly.compile(fs.readFileSync(file));
const lm = await ExitLM.load(manifest, { wasm, kvType: 'q8', kvMaps: false, contextLength: 1024 });
await lm.ready;
for (let i = 0; i <= Number(times); i++) {
  let first = 0;
  let n = 0;
  for await (const _ of lm.chat([{ role: 'user', content: question }], {
    mode,
    maxTokens: Number(tokens),
  })) {
    if (n++ === 0) first = performance.now();
  }
  // the first one warms up, as the Worker is
  if (i > 0) console.log(((n - 1) / (performance.now() - first)) * 1000);
}
