// @ts-self-types="../types/react.d.ts"
/**
 * A model in a component of React, 18 or later.
 *
 * ```js
 * import { useExitLM } from 'exitlm/react';
 *
 * function Chat() {
 *   const { state, progress, messages, send, stop } = useExitLM('/models/smollm2-135m-instruct.gguf');
 *   …
 * }
 * ```
 *
 * @typedef {import('./client/react.js').View} View
 * @typedef {import('./client/react.js').Talk} Talk
 */
export { useExitLM } from './client/react.js';
