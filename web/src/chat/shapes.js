/**
 * What a request to an address is, and what its answer looks like. A chat completion is what all are
 * made of: each shape turns its own parameters into one's, and a completion, or its chunks, into its
 * own.
 *
 * @typedef {import('./completions.js').ChatCompletion} ChatCompletion
 * @typedef {import('./completions.js').ChatCompletionChunk} ChatCompletionChunk
 * @typedef {import('./completions.js').ChatRequest & { prompt?: string }} ShapedRequest prompt: a
 *   text that is continued as it stands
 *
 * @typedef {object} Shape
 * @property {(parameters: any) => ShapedRequest} read
 * @property {(completion: ChatCompletion) => object} whole
 * @property {(chunks: AsyncIterable<ChatCompletionChunk>) => AsyncGenerator<any, void, undefined>}
 *   events
 */
import { ExitLMError } from '../link/errors.js';
import { readRequest } from './completions.js';
import { responses } from './responses.js';

/** @type {Shape} */
const chat = {
  read: readRequest,
  whole: (completion) => completion,
  async *events(chunks) {
    yield* chunks;
  },
};

/**
 * The older shape of log-probabilities. Offsets are in characters of the text that is returned.
 * @param {import('./completions.js').Logprobs | null} logprobs
 * @param {number} offset of the first
 */
function olderLogprobs(logprobs, offset) {
  if (!logprobs) return null;
  const { content } = logprobs;
  return {
    tokens: content.map(({ token }) => token),
    token_logprobs: content.map(({ logprob }) => logprob),
    top_logprobs: content.map(({ top_logprobs: top }) =>
      // of texts that are there twice the likelier stays
      Object.fromEntries(top.map(({ token, logprob }) => [token, logprob]).reverse()),
    ),
    text_offset: content.map(({ token }) => {
      const at = offset;
      offset += [...token].length;
      return at;
    }),
  };
}

/**
 * The older completions: a text that goes on.
 * @param {ChatCompletion | ChatCompletionChunk} one
 * @param {number} [offset] characters before it
 */
const textOf = ({ id, choices, ...rest }, offset = 0) => ({
  ...rest,
  id: id.replace('chatcmpl', 'cmpl'),
  object: 'text_completion',
  choices: choices.map(({ index, finish_reason, logprobs, ...choice }) => {
    const { content, exit } = 'delta' in choice ? choice.delta : choice.message;
    return {
      index,
      text: content ?? '',
      finish_reason,
      logprobs: olderLogprobs(logprobs, offset),
      ...(exit ? { exit } : {}),
    };
  }),
});

/** @type {Shape} */
const text = {
  read({ prompt: given, echo, best_of: best, suffix, logprobs, ...rest }) {
    const prompt = Array.isArray(given) && given.length === 1 ? given[0] : given;
    if (typeof prompt !== 'string')
      throw new ExitLMError('USAGE', 'parameter prompt: one text was expected');
    for (const [name, value] of Object.entries({ echo, suffix, best_of: best !== 1 && best }))
      if (value)
        throw new ExitLMError('USAGE', `parameter ${name}: not supported by ExitLM; leave it out`);
    const likeliest = Number.isInteger(logprobs)
      ? { logprobs: true, top_logprobs: logprobs }
      : { logprobs };
    return {
      ...readRequest({ ...rest, ...likeliest, messages: [{ role: 'user', content: prompt }] }),
      prompt,
    };
  },
  whole: (completion) => textOf(completion),
  async *events(chunks) {
    let offset = 0;
    for await (const chunk of chunks) {
      if (chunk.choices[0]?.delta.role) continue;
      yield textOf(chunk, offset);
      offset += [...(chunk.choices[0]?.delta.content ?? '')].length;
    }
  },
};

/** @type {Record<string, Shape>} */
export const SHAPES = {
  '/v1/chat/completions': chat,
  '/v1/completions': text,
  '/v1/responses': responses,
};
