/** Chrome's Prompt API (`LanguageModel`) for every browser. */
export * from './client/prompt-api.js';
