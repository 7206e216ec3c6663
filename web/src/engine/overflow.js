/**
 * Conversations that outgrow the context: with `overflow: 'drop'` the oldest turns stay out of the
 * prompt. What follows them is then at other positions and has to be read anew, so much is dropped
 * at once, and the next turns leave out the same.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('./template.js').Prompt} Prompt
 * @typedef {import('./sessions.js').Session} Session
 */
import { usage } from '../link/options.js';

/**
 * @param {object} given
 * @param {ChatMessage[]} given.messages
 * @param {import('../link/types.js').GenerateOptions} given.options
 * @param {Session} given.session is told what was dropped
 * @param {number} given.contextLength
 * @param {(messages: ChatMessage[]) => Promise<Prompt>} given.template
 * @param {(prompt: Prompt) => number} given.count its tokens
 * @returns {Promise<Prompt>}
 */
export async function fitting({ messages, options, session, contextLength, template, count }) {
  const { overflow = 'error', maxTokens = Infinity } = options;
  if (overflow !== 'error' && overflow !== 'drop') usage('overflow', "'error' or 'drop'", overflow);
  if (overflow === 'error') return template(messages);
  const begin = Math.max(
    0,
    messages.findIndex(({ role }) => role !== 'system'),
  );
  const rest = messages.slice(begin);
  /** Where a turn begins, so that what is left is a conversation too. */
  const cuts = [...rest.keys()].filter((i) => rest[i].role === 'user');
  const without = (/** @type {number} */ dropped) =>
    template([...messages.slice(0, begin), ...rest.slice(dropped)]);
  const reply = Math.min(maxTokens, contextLength / 4);
  const fits = (/** @type {Prompt} */ prompt, share = 1) =>
    count(prompt) < (contextLength - reply) * share;
  const goesOn = messages.length >= session.messages && session.dropped < rest.length;
  let dropped = goesOn ? session.dropped : 0;
  let prompt = await without(dropped);
  if (!fits(prompt))
    for (const next of cuts.filter((i) => i > dropped)) {
      dropped = next;
      prompt = await without(dropped);
      if (fits(prompt, 0.5)) break;
    }
  session.dropped = dropped;
  session.messages = messages.length;
  return { ...prompt, dropped };
}
