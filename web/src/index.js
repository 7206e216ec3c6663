/**
 * ExitLM: small language models in a page, in Node, Deno and Bun, on the CPU alone.
 *
 * ```js
 * import { ExitLM } from 'exitlm';
 * const lm = await ExitLM.load('/models/smollm2-135m-instruct.gguf');
 * for await (const token of lm.chat([{ role: 'user', content: 'Why is the sky blue?' }])) show(token.text, token.depth);
 * ```
 */
import { connect } from './connect.js';
import { ExitLM as Base } from './exitlm.js';
import { modelCache } from './cache.js';

/** A language model that can be talked to. */
export class ExitLM extends Base {
  /** @internal @override @type {import('./exitlm.js').Connect} */
  static connect = connect;

  /** Models that earlier visits left on this device. */
  static cache = modelCache;
}

export { ExitLMError } from './errors.js';
export { Reply } from './reply.js';

/**
 * @typedef {import('./errors.js').ExitLMErrorCode} ExitLMErrorCode
 * @typedef {import('./exitlm.js').ModelSource} ModelSource
 * @typedef {import('./exitlm.js').LoadOptions} LoadOptions
 * @typedef {import('./exitlm.js').GenerateOptions} GenerateOptions
 * @typedef {import('./exitlm.js').Progress} Progress
 * @typedef {import('./exitlm.js').KeyValueCache} KeyValueCache
 * @typedef {import('./exitlm.js').Info} Info
 * @typedef {import('./exitlm.js').Exits} Exits
 * @typedef {import('./exitlm.js').Level} Level
 * @typedef {import('./exitlm.js').Check} Check
 * @typedef {import('./cache.js').CachedModel} CachedModel
 * @typedef {import('./calibrate.js').CalibrateOptions} CalibrateOptions
 * @typedef {import('./calibrate.js').CalibrateProgress} CalibrateProgress
 * @typedef {import('./calibrate.js').Calibration} Calibration
 * @typedef {import('./reply.js').Token} Token
 * @typedef {import('./reply.js').DraftEvent} DraftEvent
 * @typedef {import('./reply.js').Result} Result
 * @typedef {import('./template.js').ChatMessage} ChatMessage
 * @typedef {import('./features.js').Features} Features
 */
