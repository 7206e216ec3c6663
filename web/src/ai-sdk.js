/** A language model for the Vercel AI SDK. */
export * from './client/ai-sdk.js';
