// @ts-self-types="../types/edge.d.ts"
/**
 * ExitLM where there are no workers and nothing may be compiled from bytes: Cloudflare Workers and
 * the like.
 *
 * ```js
 * import { ExitLM, createHandler } from 'exitlm/edge';
 * import wasm from 'exitlm/exitlm-relaxed.wasm';
 * const answer = createHandler({
 *   model: 'smollm2-135m-instruct',
 *   load: (env) => ExitLM.load('https://assets.local/model/manifest.json', { wasm, kvType: 'q8', contextLength: 1024, fetch: env.ASSETS.fetch.bind(env.ASSETS) }),
 * });
 * export default { fetch: answer };
 * ```
 *
 * @typedef {import('./serve/handler.js').HandlerOptions} HandlerOptions
 * @typedef {import('./serve/handler.js').Metrics} Metrics
 * @typedef {import('./serve/handler.js').ServiceState} ServiceState
 */
export { ExitLM } from './client/edge.js';
export { Reply } from './client/reply.js';
export { Session } from './client/session.js';
export { ExitLMError } from './link/errors.js';
export { createHandler } from './serve/handler.js';
