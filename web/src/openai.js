// @ts-self-types="../types/openai.d.ts"
/**
 * What the real client of OpenAI calls instead of the network.
 *
 * ```js
 * import OpenAI from 'openai';
 * import { openaiFetch } from 'exitlm/openai';
 * const client = new OpenAI({ baseURL: 'http://exitlm/v1', apiKey: 'none', fetch: openaiFetch(lm) });
 * ```
 *
 * Beside OpenAI's parameters `mode`, `accuracy`, `strategy`, `top_k`, `min_p`, `repeat_penalty`, `kv` and
 * `audit` are taken. A parameter that is not known is ignored, and the header `X-ExitLM-Warning` names
 * it; one without which the answer would mean something else (`logit_bias`, …) is refused by name,
 * with status 400. Temperature is 0 where it is left out.
 *
 * @typedef {import('./chat/shared.js').Exit} Exit how deep a token went: `choices[0].delta.exit`
 * @typedef {import('./chat/shared.js').ExitSummary} ExitSummary of a reply: `choices[0].message.exit`
 * @typedef {import('./chat/completions.js').OpenAIExtras} OpenAIExtras
 */
export { openaiFetch } from './serve/openai-fetch.js';
