/**
 * A reply that may call tools, or else has a shape. The engine holds a reply to one of the two.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Result} Result
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {AsyncIterable<Token> & { result: Promise<Result>, cancel(): void }} PlainReply
 */

/**
 * Calls come first: a reply that begins with words is none, and is written anew in its shape.
 * @param {import('./exitlm.js').ExitLM} lm
 * @param {ChatMessage[]} messages
 * @param {GenerateOptions} options
 * @returns {Promise<PlainReply>}
 */
export async function shapeOrCall(lm, messages, options) {
  const { schema, json, pattern, ...calling } = options;
  const { tools, toolChoice, parallelToolCalls, ...shaped } = options;
  const shapes = schema !== undefined || json === true || pattern !== undefined;
  if (!shapes || !tools || toolChoice === 'none') return lm.chat(messages, options);
  const first = lm.chat(messages, calling);
  /** @type {Token[]} */
  const tokens = [];
  for await (const token of first) {
    if (token.text.trim()) break;
    tokens.push(token);
  }
  const result = await first.result;
  if (!result.toolCalls?.length) return lm.chat(messages, shaped);
  return {
    result: Promise.resolve(result),
    cancel() {},
    async *[Symbol.asyncIterator]() {
      yield* tokens;
    },
  };
}
