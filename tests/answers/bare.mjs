// A model and a session of an engine without the package around them; in Node, and in a page, which
// imports this file by its address.

/** @param {any} engine @param {Uint8Array} file a whole model @returns {number} the model */
export function loadModel(engine, file) {
  const loader = engine.make('loader_create', 0, 0, 0, 0);
  engine.staged(file, (/** @type {number} */ memory, /** @type {number} */ n) => {
    engine.run('loader_push', loader, memory, n);
  });
  return engine.make('loader_finish', loader);
}

/**
 * @param {any} engine
 * @param {number} model
 * @param {{ contextTokens: number, kernel?: number }} options the others are zeroed
 * @returns {number} the session
 */
export function openSession(engine, model, options) {
  const bytes = engine.sizeOf('session_options');
  return engine.with(bytes, (/** @type {number} */ memory) => {
    engine.u8.fill(0, memory, memory + bytes);
    engine.write('session_options', memory, options);
    return engine.make('session_create', model, memory, false);
  });
}

/** Tokens of a model's vocabulary. @param {any} engine @param {number} model @returns {number} */
export const vocabOf = (engine, model) =>
  engine.with(engine.sizeOf('model_info'), (/** @type {number} */ memory) => {
    engine.call('model_describe', model, memory);
    return engine.read('model_info', memory).vocab;
  });
