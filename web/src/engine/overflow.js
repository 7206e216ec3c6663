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
import { turnsToLeaveOut } from '../link/turns.js';

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
  const reply = Math.min(maxTokens, contextLength / 4);
  const goesOn = messages.length >= session.messages && session.dropped < rest.length;
  const before = goesOn ? session.dropped : 0;
  /** @type {Prompt} */
  let prompt = { text: '', plain: [] };
  const dropped = await turnsToLeaveOut(rest, before, async (at) => {
    prompt = await template([...messages.slice(0, begin), ...rest.slice(at)]);
    return count(prompt) < (contextLength - reply) * (at === before ? 1 : 0.5);
  });
  session.dropped = dropped;
  session.messages = messages.length;
  return { ...prompt, dropped };
}
