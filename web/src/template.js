/**
 * Chat templates: the model's own program (Jinja), run by `@huggingface/jinja`, which is loaded at the first chat.
 */
import { ExitLMError, messageOf } from './errors.js';

/**
 * @typedef {object} ChatMessage
 * @property {'system' | 'user' | 'assistant' | (string & {})} role
 * @property {string} content
 *
 * @typedef {{ source: string, bosToken: string, eosToken: string, addBos: boolean }} TemplateInfo
 * @typedef {{ render(context: Record<string, unknown>): string }} Template
 */

/** @param {TemplateInfo} info */
export function createTemplate(info) {
  /** @type {Promise<Template> | undefined} */
  let loading;
  return {
    /**
     * The prompt text of a conversation.
     * @param {ChatMessage[]} messages
     * @param {boolean} [addGenerationPrompt]
     * @returns {Promise<string>} without a begin-of-text token that the tokenizer adds
     */
    async render(messages, addGenerationPrompt = true) {
      checkMessages(messages);
      if (!info.source) {
        throw new ExitLMError('UNSUPPORTED', 'this model has no chat template; use complete() with a prompt in the form that it knows');
      }
      loading ??= compile(info.source);
      const template = await loading;
      let text;
      try {
        text = template.render({
          messages,
          add_generation_prompt: addGenerationPrompt,
          bos_token: info.bosToken,
          eos_token: info.eosToken,
        });
      } catch (cause) {
        throw new ExitLMError('USAGE', `the model's chat template refuses this conversation: ${messageOf(cause)}`, { cause });
      }
      return info.addBos && info.bosToken && text.startsWith(info.bosToken) ? text.slice(info.bosToken.length) : text;
    },
  };
}

/** @param {string} source @returns {Promise<Template>} */
async function compile(source) {
  const { Template } = await import('../dist/jinja.js');
  try {
    return new Template(source);
  } catch (cause) {
    throw new ExitLMError('UNSUPPORTED', `the model's chat template cannot be read: ${messageOf(cause)}; use complete() instead`, { cause });
  }
}

/** @param {unknown} messages */
function checkMessages(messages) {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new ExitLMError('USAGE', `messages: a list with at least one { role, content } was expected${typeof messages === 'string' ? "; for a question write [{ role: 'user', content: text }], for a text to be continued use complete(text)" : ''}`);
  }
  for (const [i, message] of messages.entries()) {
    if (typeof message?.role !== 'string' || typeof message?.content !== 'string') {
      throw new ExitLMError('USAGE', `messages[${i}]: { role, content } with two strings was expected`);
    }
  }
}
