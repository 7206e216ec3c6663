/** What the caller is told of a model and its heads: plain data, read from the engine's structs. */

/**
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./template.js').Prompt} Prompt
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').Info} Info
 */

/**
 * @param {Engine} engine
 * @param {number} model
 * @param {number} session 0: none
 * @returns {Omit<Info, 'memory' | 'kvType'>}
 */
export function describeModel(engine, model, session) {
  const info = engine.with(engine.sizeOf('model_info'), (struct) => {
    engine.call('model_describe', model, struct);
    return engine.read('model_info', struct);
  });
  return {
    name: engine.text(info.name),
    architecture: engine.text(info.architecture),
    licence: engine.text(info.licence),
    quantisation: engine.text(info.quantisation),
    layers: info.layers,
    parameters: info.parameters,
    vocabulary: info.vocab,
    dimension: info.dim,
    contextLength: engine.call('session_context_tokens', session),
    modelContextLength: info.contextTokens,
    weightBytes: info.weightBytes,
    fingerprint: info.fingerprint,
    kernel: engine.text(engine.call('session_kernel', session)),
    threads: engine.call('session_threads', session),
    version: engine.version,
  };
}

/** 0.99, not the nearest float. @param {number} x */
const rounded = (x) => Math.round(x * 1e6) / 1e6;

/**
 * @param {Engine} engine
 * @param {number} heads
 * @returns {Exits}
 */
export function describeHeads(engine, heads) {
  const info = engine.with(engine.sizeOf('heads_info'), (struct) => {
    engine.call('heads_describe', heads, struct);
    return engine.read('heads_info', struct);
  });
  const ofHeads = (/** @type {any[]} */ list) => list.slice(0, info.nHeads);
  const levels = engine.with(engine.sizeOf('level'), (struct) =>
    Array.from({ length: engine.call('heads_levels', heads) }, (_, i) => {
      engine.run('heads_level', heads, i, struct);
      const level = engine.read('level', struct);
      return {
        ...level,
        strategy: engine.names.strategy[level.strategy],
        kv: engine.names.kv[level.kv],
        kvType: engine.names.kvType[level.kvType],
        accuracy: rounded(level.accuracy),
        delta: rounded(level.delta),
        temperature: rounded(level.temperature),
        threshold: ofHeads(level.threshold),
        coverage: ofHeads(level.coverage),
      };
    }),
  );
  return {
    layers: ofHeads(info.head).map(({ layer }) => layer),
    heads: ofHeads(info.head).map((head) => ({ ...head, form: engine.text(head.form) })),
    metric: engine.names.metric[info.metric],
    kv: engine.names.kv[info.kv],
    kvType: engine.names.kvType[info.kvType],
    defaultAccuracy: rounded(info.defaultAccuracy),
    fingerprint: engine.text(info.fingerprint),
    licence: engine.text(info.licence),
    data: engine.text(info.data),
    engineVersion: engine.text(info.engineVersion),
    levels,
  };
}

/**
 * @param {Engine} engine
 * @param {number} model
 * @returns {import('./template.js').TemplateInfo}
 */
export function describeTemplate(engine, model) {
  const [bos, eos, addBos] = engine.with(12, (ids) => {
    engine.call('model_special', model, ids);
    return engine.i32s(ids, 3);
  });
  const source = engine.with(4, (n) => {
    const at = engine.call('model_chat_template', model, n);
    return engine.text(at, engine.view.getUint32(n, true));
  });
  const text = (/** @type {number} */ id) => (id < 0 ? '' : textOfIds(engine, model, [id]));
  return {
    source,
    bosToken: text(bos),
    eosToken: text(eos),
    addBos: addBos === 1,
    specialsIn: (written) => specialsIn(engine, model, written),
  };
}

/**
 * @param {Engine} engine
 * @param {number} model
 * @param {number[]} ids
 * @returns {string}
 */
export function textOfIds(engine, model, ids) {
  return engine.with(ids.length * 4 + 8, (memory) => {
    for (const [i, id] of ids.entries()) engine.view.setInt32(memory + 4 * i, id, true);
    const count = memory + 4 * ids.length;
    engine.run('detokenize', model, memory, ids.length, 0, 0, count);
    const bytes = engine.view.getUint32(count, true);
    return engine.with(bytes, (text) => {
      engine.run('detokenize', model, memory, ids.length, text, bytes, count);
      return engine.text(text, bytes);
    });
  });
}

/**
 * Calls `use` with a prompt in linear memory, as C takes it: text and bytes of it, then stretches
 * that are text alone and their number.
 * @template T
 * @param {Engine} engine
 * @param {string | Prompt} prompt
 * @param {(...memory: [number, number, number, number]) => T} use
 * @returns {T}
 */
export function withPrompt(engine, prompt, use) {
  const { text, plain } = typeof prompt === 'string' ? { text: prompt, plain: [] } : prompt;
  return engine.withText(text, (memory, n) =>
    engine.withBytes(new Uint8Array(Uint32Array.from(plain.flat()).buffer), (spans) =>
      use(memory, n, spans, plain.length),
    ),
  );
}

/**
 * @param {Engine} engine
 * @param {number} model
 * @param {string | Prompt} prompt
 * @param {boolean} special special tokens in the text count as such
 * @param {boolean} bos begin-of-text comes first where the model wants it
 * @returns {number[]}
 */
export function idsOfText(engine, model, prompt, special, bos) {
  return withPrompt(engine, prompt, (...text) => {
    const flags = engine.call('tokenize_flags', bos, special);
    const attempt = (/** @type {number} */ capacity) =>
      engine.with(capacity * 4 + 8, (ids) => {
        const count = ids + capacity * 4;
        engine.run('tokenize', model, ...text, flags, ids, capacity, count);
        const found = engine.view.getUint32(count, true);
        return { found, ids: engine.i32s(ids, Math.min(found, capacity)) };
      });
    const most = text[1] + 8;
    const { found, ids } = attempt(most);
    return found <= most ? ids : attempt(found).ids;
  });
}

/**
 * Texts of the special tokens that somebody has written into a text.
 * @param {Engine} engine
 * @param {number} model
 * @param {string} text
 * @returns {string[]}
 */
export function specialsIn(engine, model, text) {
  const ids = (/** @type {string} */ of, /** @type {boolean} */ special) =>
    idsOfText(engine, model, of, special, false);
  const always = new Set(ids(text, false));
  return [...new Set(ids(text, true))]
    .filter((id) => !always.has(id))
    .map((id) => textOfIds(engine, model, [id]))
    .filter((token) => ids(token, true).length === 1 && ids(token, false).length > 1);
}
