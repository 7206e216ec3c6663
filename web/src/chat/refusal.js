/** What goes wrong with a question, as OpenAI's errors: a status, a code, the parameter. */
import { ExitLMError, messageOf } from '../link/errors.js';

/** An answer other than 200. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   * @param {{ param?: string | null, headers?: Record<string, string> }} [more]
   */
  constructor(status, code, message, { param = null, headers = {} } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.headers = headers;
  }

  toJSON() {
    let type = 'invalid_request_error';
    if (this.status === 429) type = 'rate_limit_error';
    else if (this.status >= 500) type = 'server_error';
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }
}

/** When to ask again. */
export const later = (/** @type {number} */ seconds) => ({
  headers: { 'Retry-After': String(seconds) },
});

/** Whether the engine is of no use any more. */
export const crashed = (/** @type {unknown} */ error) =>
  error instanceof ExitLMError &&
  ['WORKER', 'DISPOSED', 'CHECKSUM', 'NETWORK', 'HTTP', 'BAD_MODEL'].includes(error.code);
const snakeCase = (/** @type {string} */ name) =>
  name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);

/**
 * @param {string} message of a wrong option @returns {string | null} the field of the request that
 *   it speaks of
 */
function paramIn(message) {
  const [, option, own] = /^(?:(?:option|parameter) (\w+)|(tools|toolChoice)):/.exec(message) ?? [];
  if (option ?? own) return snakeCase(option ?? own);
  if (message.startsWith('schema:')) return 'response_format';
  return /^messages/.test(message) ? 'messages' : null;
}

/** @param {unknown} error @returns {Refusal} */
export function refusalOf(error) {
  if (error instanceof Refusal) return error;
  if (error instanceof ExitLMError) {
    const { code, message } = error;
    if (code === 'USAGE')
      return new Refusal(400, 'invalid_value', message, { param: paramIn(message) });
    if (code === 'UNSUPPORTED')
      return new Refusal(400, 'unsupported', message, { param: 'messages' });
    if (code === 'CONTEXT_FULL')
      return new Refusal(400, 'context_length_exceeded', message, { param: 'messages' });
    if (code === 'OUT_OF_MEMORY') return new Refusal(500, 'out_of_memory', message);
    if (crashed(error)) return new Refusal(503, 'engine_failed', `${message}; ask again`, later(1));
  }
  return new Refusal(500, 'internal_error', messageOf(error));
}
