// @ts-self-types="../types/ai-sdk.d.ts"
/** A language model for the Vercel AI SDK. */
export * from './client/ai-sdk.js';
