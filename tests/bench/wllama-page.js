// In a page whose server has wllama under /wllama.

/** A model of wllama. @param {string} url @param {{ threads: number, context: number }} options */
export async function openWllama(url, { threads, context }) {
  const { Wllama, LoggerWithoutDebug } = await import(/** @type {any} */ ('/wllama/esm/index.js'));
  const engine = new Wllama(
    { default: '/wllama/esm/wasm/wllama.wasm' },
    { logger: LoggerWithoutDebug, suppressNativeLog: true },
  );
  await engine.loadModelFromUrl(url, { n_ctx: context, n_threads: threads, n_gpu_layers: 0 });
  return engine;
}
