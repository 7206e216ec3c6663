/**
 * Options of JavaScript as structs of C. Names behind enums come from C.
 */
import { ExitLMError } from '../link/errors.js';
import { defaultMode, number, usage } from '../link/options.js';

/** @typedef {import('./engine.js').Engine} Engine */

/**
 * @param {string[]} names in the order of C
 * @param {string} option
 * @param {unknown} value
 */
function choice(names, option, value) {
  const index = names.indexOf(/** @type {string} */ (value));
  if (index < 0) usage(option, `one of ${names.map((n) => `'${n}'`).join(', ')}`, value);
  return index;
}

const MOST = 0xffffffff;
/** As in `exitlm_kv_policy`; the fourth, `propagate`, is for the program's `eval` alone. */
const REPLY_POLICIES = ['auto', 'exact', 'maps'];

/**
 * The struct for one reply. `free` gives back what C needs only while it starts the reply.
 * @param {Engine} engine
 * @param {Record<string, any>} options
 * @param {number} nHeads
 * @returns {{ struct: number, seed: string | null, free: () => void }} `seed`: the one in use,
 *   where sampling needs one
 */
export function generateOptions(engine, options, nHeads) {
  const mode = options.mode ?? defaultMode(Boolean(options.grammar), nHeads > 0);
  const temperature = number(options, 'temperature', 0, 100) ?? 0;
  const seed = seedOf(options.seed, temperature > 0);
  const stop = stopStrings(options.stop);
  const maxTokens = number(options, 'maxTokens', 1, MOST, true);
  const thresholds = thresholdsOf(options.thresholds, nHeads);
  const values = {
    mode: choice(engine.names.mode, 'mode', mode),
    accuracy: number(options, 'accuracy', 0.5, 1),
    strategy:
      options.strategy === undefined
        ? undefined
        : choice(engine.names.strategy, 'strategy', options.strategy),
    kv: options.kv === undefined ? undefined : choice(REPLY_POLICIES, 'kv', options.kv),
    maxTokens,
    temperature,
    topK: number(options, 'topK', 0, MOST, true),
    topP: number(options, 'topP', 0, 1),
    minP: number(options, 'minP', 0, 1),
    repeatPenalty: number(options, 'repeatPenalty', 0.1, 10),
    seed,
    audit: number(options, 'audit', 0, 1),
    maxDraft: number(options, 'maxDraft', 0, 8, true),
    draftLayer: number(options, 'draftLayer', 0, MOST, true),
    draftLength: number(options, 'draftLength', 0, 8, true),
    events: options.events === true,
    grammar: options.grammar,
    logprobs: typeof options.logprobs === 'number',
    topLogprobs: number(options, 'logprobs', 0, 20, true),
    mapsCome: options.mapsCome,
  };
  /** @type {number[]} */
  const blocks = [];
  const free = () => blocks.forEach((block) => engine.free(block));
  try {
    const struct = engine.create('generate_options', values);
    blocks.push(struct);
    if (stop.length)
      engine.write('generate_options', struct, {
        stop: stringList(engine, stop, blocks),
        nStop: stop.length,
      });
    if (thresholds) {
      const memory = engine.alloc(4 * thresholds.length);
      blocks.push(memory);
      thresholds.forEach((value, i) => engine.view.setFloat32(memory + 4 * i, value, true));
      engine.write('generate_options', struct, { thresholds: memory });
    }
    if (options.level) {
      const level = engine.create('level', levelFields(engine, options.level));
      blocks.push(level);
      engine.write('generate_options', struct, { level });
    }
    return { struct, seed: temperature > 0 ? String(seed) : null, free };
  } catch (error) {
    free();
    throw error;
  }
}

/**
 * @param {Engine} engine
 * @param {import('../link/types.js').Level} level
 */
function levelFields({ names }, { onDevice, ...level }) {
  return {
    ...level,
    strategy: names.strategy.indexOf(level.strategy),
    kv: names.kv.indexOf(level.kv),
    kvType: names.kvType.indexOf(level.kvType),
  };
}

/**
 * @param {Engine} engine
 * @param {string[]} list
 * @param {number[]} blocks
 * @returns {number} `const char *const *`
 */
function stringList(engine, list, blocks) {
  const encoder = new TextEncoder();
  const pointers = list.map((text) => {
    const bytes = encoder.encode(text);
    const memory = engine.alloc(bytes.length + 1);
    blocks.push(memory);
    engine.u8.set(bytes, memory);
    engine.u8[memory + bytes.length] = 0;
    return memory;
  });
  const array = engine.alloc(4 * list.length);
  blocks.push(array);
  for (const [i, pointer] of pointers.entries())
    engine.view.setUint32(array + 4 * i, pointer, true);
  return array;
}

/** @param {unknown} value @param {number} nHeads @returns {number[] | null} */
function thresholdsOf(value, nHeads) {
  if (value === undefined || value === null) return null;
  if (nHeads === 0)
    throw new ExitLMError(
      'USAGE',
      'option thresholds: there are no exit heads that they could be for',
    );
  if (
    !Array.isArray(value) ||
    value.length !== nHeads ||
    value.some((t) => !(typeof t === 'number' && t >= 0 && t <= 2))
  )
    usage('thresholds', `a list of ${nHeads} numbers from 0 to 2, one for each exit head,`, value);
  return /** @type {number[]} */ (value);
}

/** @param {unknown} value @returns {string[]} */
function stopStrings(value) {
  if (value === undefined || value === null) return [];
  const list = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(list) || list.some((s) => typeof s !== 'string' || s === ''))
    usage('stop', 'a string or a list of strings, none of them empty', value);
  return list;
}

/**
 * @param {unknown} value
 * @param {boolean} needed
 * @returns {number | bigint}
 */
function seedOf(value, needed) {
  if (value === undefined || value === null)
    return needed ? crypto.getRandomValues(new Uint32Array(1))[0] : 0;
  if (typeof value === 'bigint' && value >= 0n && value < 2n ** 64n) return value;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  return usage('seed', 'an integer of at least 0', value);
}

/**
 * @param {Engine} engine
 * @param {{ contextLength: number, kvType: string | null, threads: number, heads: number }} options
 */
export function sessionOptions(engine, { contextLength, kvType, threads, heads }) {
  return {
    heads,
    contextTokens: contextLength,
    kvType: kvType === null ? 0 : choice(engine.names.kvType, 'kvType', kvType),
    threads,
  };
}
