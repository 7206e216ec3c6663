/** A helper thread's script: see threads.js. */
import { isNode, nodeModule } from '../link/platform.js';
import { importsOf } from './engine.js';

/** @param {import('./threads.js').ThreadStart} start */
async function run({ module, memory, pool, stackTop, tls }) {
  const { exports } = await WebAssembly.instantiate(module, importsOf(module, memory));
  const call = /** @type {any} */ (exports);
  call.__stack_pointer.value = stackTop;
  call.__wasm_init_tls?.(tls);
  try {
    call.exitlm_wasm_pool_join(pool); // returns when the pool ends
  } catch (error) {
    // the engine's own thread ends with this, instead of waiting for ever
    call.exitlm_wasm_pool_fail(pool);
    throw error;
  }
}

if (isNode)
  nodeModule('node:worker_threads').then(({ parentPort }) => parentPort.once('message', run));
else globalThis.onmessage = ({ data }) => void run(data);
