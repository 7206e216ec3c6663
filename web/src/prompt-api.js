// @ts-self-types="../types/prompt-api.d.ts"
/** Chrome's Prompt API (`LanguageModel`) for every browser. */
export * from './client/prompt-api.js';
