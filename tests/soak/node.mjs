// The Node process of the soak: a round for each message, and the bytes of JavaScript that are left
// after it, without garbage (--expose-gc).
import { ExitLM } from '../../web/src/index.js';
import { round } from './round.js';

process.on('message', async (/** @type {Parameters<typeof round>[1]} */ models) => {
  const done = await round(ExitLM, models).catch((error) => ({ error: error.stack }));
  globalThis.gc?.();
  await new Promise(setImmediate); // what is closed by now is freed
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.({ ...done, heap: heapUsed + external });
});
