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

/** The older completions: a text that goes on. @param {ChatCompletion | ChatCompletionChunk} one */
const textOf = ({ id, choices, ...rest }) => ({
  ...rest,
  id: id.replace('chatcmpl', 'cmpl'),
  object: 'text_completion',
  choices: choices.map(({ index, finish_reason, logprobs, ...choice }) => {
    const { content, exit } = 'delta' in choice ? choice.delta : choice.message;
    return { index, text: content ?? '', finish_reason, logprobs, ...(exit ? { exit } : {}) };
  }),
});

/** @type {Shape} */
const text = {
  read({ prompt: given, echo, best_of: best, suffix, logprobs, ...rest }) {
    const prompt = Array.isArray(given) && given.length === 1 ? given[0] : given;
    if (typeof prompt !== 'string')
      throw new ExitLMError('USAGE', 'parameter prompt: one text was expected');
    for (const [name, value] of Object.entries({
      echo,
      suffix,
      logprobs,
      best_of: best !== 1 && best,
    }))
      if (value)
        throw new ExitLMError('USAGE', `parameter ${name}: not supported by ExitLM; leave it out`);
    return { ...readRequest({ ...rest, messages: [{ role: 'user', content: prompt }] }), prompt };
  },
  whole: textOf,
  async *events(chunks) {
    for await (const chunk of chunks) if (!chunk.choices[0]?.delta.role) yield textOf(chunk);
  },
};

/** @type {Record<string, Shape>} */
export const SHAPES = {
  '/v1/chat/completions': chat,
  '/v1/completions': text,
  '/v1/responses': responses,
};
