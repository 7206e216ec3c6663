// @ts-self-types="../types/openai.d.ts"
/** Chat completions in the shape of OpenAI's client library. */
export * from './client/openai.js';
export { default } from './client/openai.js';
export { openaiFetch } from './serve/openai-fetch.js';
