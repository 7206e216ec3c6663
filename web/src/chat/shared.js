/**
 * What interfaces of others need of ours: the exits of a reply, and messages that other libraries
 * write.
 *
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {import('../link/types.js').Result} Result
 *
 * @typedef {object} Exit how deep a token went
 * @property {number} layer
 * @property {number} of
 * @property {number} depth
 * @property {number} work
 * @property {number} head
 * @property {number} confidence
 *
 * @typedef {{ mode: string, meanDepth: number, meanWork: number, exits: Record<string, number>,
 *   drafted: number, accepted: number, tokensPerSecond: number | null }} ExitSummary
 */
import { ExitLMError } from '../link/errors.js';
import { modeOf } from '../link/options.js';

/** @param {Token} token @returns {Exit} */
export const exitOf = ({ layer, of, depth, work, head, confidence }) => ({
  layer,
  of,
  depth,
  work,
  head,
  confidence,
});

/**
 * @param {Result} result
 * @param {{ exits: Exits | null }} lm
 * @param {GenerateOptions} options
 * @returns {ExitSummary}
 */
export const summaryOf = (
  { meanDepth, meanWork, exits, drafted, accepted, timing },
  lm,
  options,
) => ({
  mode: modeOf(options, lm.exits),
  meanDepth,
  meanWork,
  exits,
  drafted,
  accepted,
  tokensPerSecond: timing.tokensPerSecond,
});

/**
 * The text of a message's content: a string, or a list of parts that are all text.
 * @param {unknown} content
 * @param {string} where for the error
 * @returns {string}
 */
export function textOf(content, where) {
  if (typeof content === 'string') return content;
  if (content === null || content === undefined) return '';
  if (!Array.isArray(content))
    throw new ExitLMError(
      'USAGE',
      `${where}: a string or a list of parts was expected, not ${typeof content}`,
    );
  return content
    .map((part, i) => {
      if (typeof part === 'string') return part;
      const text = part?.text ?? part?.value;
      if (part?.type !== 'text' || typeof text !== 'string') {
        throw new ExitLMError(
          'UNSUPPORTED',
          `${where}[${i}]: the model reads text only, not ${JSON.stringify(part?.type) ?? typeof part}`,
        );
      }
      return text;
    })
    .join('');
}
