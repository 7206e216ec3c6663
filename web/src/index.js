/**
 * ExitLM: small language models in a page, in Node, Deno and Bun, on the CPU alone.
 *
 * ```js
 * import { ExitLM } from 'exitlm';
 * const lm = await ExitLM.load('/models/smollm2-135m-instruct.gguf');
 * for await (const token of lm.chat([{ role: 'user', content: 'Why is the sky blue?' }])) show(token.text, token.depth);
 * ```
 *
 * @typedef {import('./link/errors.js').ExitLMErrorCode} ExitLMErrorCode
 * @typedef {import('./link/types.js').ModelSource} ModelSource
 * @typedef {import('./link/types.js').LoadOptions} LoadOptions
 * @typedef {import('./link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('./link/types.js').Progress} Progress
 * @typedef {import('./link/types.js').KeyValueCache} KeyValueCache
 * @typedef {import('./link/types.js').Info} Info
 * @typedef {import('./link/types.js').Exits} Exits
 * @typedef {import('./link/types.js').Level} Level
 * @typedef {import('./link/types.js').Check} Check
 * @typedef {import('./link/types.js').ChatMessage} ChatMessage
 * @typedef {import('./link/types.js').Tool} Tool
 * @typedef {import('./link/types.js').ToolCall} ToolCall
 * @typedef {import('./link/types.js').Likely} Likely
 * @typedef {import('./link/types.js').Features} Features
 * @typedef {import('./client/calibrate.js').CalibrateOptions} CalibrateOptions
 * @typedef {import('./client/calibrate.js').CalibrateProgress} CalibrateProgress
 * @typedef {import('./client/calibrate.js').Calibration} Calibration
 * @typedef {import('./client/reply.js').Token} Token
 * @typedef {import('./client/reply.js').DraftEvent} DraftEvent
 * @typedef {import('./client/reply.js').Result} Result
 */
export { ExitLM } from './client/page.js';
export { Reply } from './client/reply.js';
export { ExitLMError } from './link/errors.js';
