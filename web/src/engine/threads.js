/**
 * Helper threads of an engine with shared memory: workers that instantiate the same module on the
 * same memory and take parts of its work (wasm/pool.c). The engine waits for none of them to
 * arrive.
 */
import { insteadOf } from '../link/address.js';
import { isNode, nodeModule } from '../link/platform.js';

/** @typedef {import('./engine.js').Engine} Engine */
/**
 * @typedef {{ module: WebAssembly.Module, memory: WebAssembly.Memory, pool: number, stackTop:
 *   number, tls: number }} ThreadStart
 */

const STACK_BYTES = 256 * 1024;

/**
 * @param {Engine} engine
 * @param {number} pool in the engine
 * @param {number} threads with the caller's own
 * @returns {() => void} ends them
 */
export function startThreads(engine, pool, threads) {
  let ended = false;
  /** @type {{ terminate(): unknown }[]} */
  const workers = [];
  for (let i = 1; i < threads; i++) {
    /** @type {ThreadStart} */
    const start = {
      module: engine.module,
      memory: engine.memory,
      pool,
      stackTop: engine.alloc(STACK_BYTES) + STACK_BYTES,
      tls: engine.allocTls(),
    };
    startWorker(start).then(
      (worker) => {
        if (ended) worker.terminate();
        else workers.push(worker);
      },
      () => {}, // one helper less; results are the same
    );
  }
  return () => {
    ended = true;
    for (const worker of workers) worker.terminate();
  };
}

/** @param {ThreadStart} start */
async function startWorker(start) {
  if (isNode) {
    const { Worker: NodeWorker } = await nodeModule('node:worker_threads');
    const worker = new NodeWorker(new URL('../thread.js', import.meta.url), { execArgv: [] });
    worker.unref();
    worker.on('error', () => {});
    worker.postMessage(start);
    return worker;
  }
  const script = insteadOf('thread.js');
  const worker = script
    ? new Worker(script, { type: 'module' })
    : new Worker(new URL('../thread.js', import.meta.url), { type: 'module' });
  worker.onerror = () => {};
  worker.postMessage(start);
  return worker;
}
