/**
 * Chat templates: the model's own program (Jinja), run by `@huggingface/jinja`, which is loaded at
 * the first chat.
 */
import { ExitLMError, messageOf } from '../link/errors.js';

/**
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {{ source: string, bosToken: string, eosToken: string, addBos: boolean }} TemplateInfo
 * @typedef {{ render(context: Record<string, unknown>): string }} Template
 */

/**
 * @param {TemplateInfo} info
 * @returns {(messages: ChatMessage[]) => Promise<string>} the prompt of a conversation, without a
 *   begin-of-text token that the tokenizer adds
 */
export function createTemplate({ source, bosToken, eosToken, addBos }) {
  /** @type {Promise<Template> | undefined} */
  let compiling;
  /** A conversation is often counted, then asked. */
  let last = { key: '', text: '' };
  return async (messages) => {
    if (!source) {
      throw new ExitLMError(
        'UNSUPPORTED',
        'this model has no chat template; use complete() with a prompt in the form that it knows',
      );
    }
    const template = await (compiling ??= compile(source));
    const key = JSON.stringify(messages);
    if (last.key !== key) {
      let text;
      try {
        text = template.render({
          messages,
          add_generation_prompt: true,
          bos_token: bosToken,
          eos_token: eosToken,
        });
      } catch (cause) {
        throw new ExitLMError(
          'USAGE',
          `the model's chat template refuses this conversation: ${messageOf(cause)}`,
          { cause },
        );
      }
      last = {
        key,
        text: addBos && bosToken && text.startsWith(bosToken) ? text.slice(bosToken.length) : text,
      };
    }
    return last.text;
  };
}

/** @param {string} source @returns {Promise<Template>} */
async function compile(source) {
  const { Template } = await import('../../dist/jinja.js');
  try {
    return new Template(source);
  } catch (cause) {
    throw new ExitLMError(
      'UNSUPPORTED',
      `the model's chat template cannot be read: ${messageOf(cause)}; use complete() instead`,
      { cause },
    );
  }
}
