/**
 * A conversation with K/V of its own.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').DraftEvent} DraftEvent
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {import('../link/protocol.js').EngineSide} EngineSide
 *
 * @typedef {import('./reply.js').Reply<any>} Reply
 *
 * @typedef {object} Place where a reply is computed
 * @property {number} session
 * @property {Promise<void>} opened
 * @property {() => void} check throws where it is gone
 *
 * @typedef {object} Means what a session needs of its model
 * @property {(place: Place, messages: ChatMessage[], options?: GenerateOptions) => Reply} chat
 * @property {(place: Place, prompt: string, options?: GenerateOptions) => Reply} complete
 * @property {(how: Omit<Parameters<EngineSide['openSession']>[0], 'session'>) => Session} open
 * @property {(session: number) => Promise<Uint8Array>} save
 * @property {(session: number) => Promise<void>} close
 */
import { ExitLMError } from '../link/errors.js';

/**
 * Made by `lm.session()`, `lm.restore(bytes)` and `clone()`. Replies of several sessions are computed
 * together; those of one follow each other.
 */
export class Session {
  #means;
  #place;
  #disposed = false;

  /**
   * @ignore
   * @param {Means} means
   * @param {number} session its number
   * @param {Promise<void>} opened
   */
  constructor(means, session, opened) {
    this.#means = means;
    this.#place = { session, opened, check: () => this.#check() };
    opened.catch(() => {}); // who uses it hears of it
  }

  /** Resolves when it is there; rejects where it could not be opened. @returns {Promise<void>} */
  get ready() {
    return this.#place.opened;
  }

  /**
   * The next turn of a conversation.
   * @template {GenerateOptions} O
   * @param {ChatMessage[]} messages
   * @param {O} [options]
   * @returns {import('./reply.js').Reply<O extends { events: true } ? Token | DraftEvent : Token>}
   */
  chat(messages, options) {
    return this.#means.chat(this.#place, messages, options);
  }

  /**
   * Goes on with a text as it stands: no chat template.
   * @template {GenerateOptions} O
   * @param {string} prompt
   * @param {O} [options]
   * @returns {import('./reply.js').Reply<O extends { events: true } ? Token | DraftEvent : Token>}
   */
  complete(prompt, options) {
    return this.#means.complete(this.#place, prompt, options);
  }

  /**
   * A session that goes on from the same place on its own. A reply under way is not taken along. What
   * stands before is shared, not copied: it takes memory for the rest of the context only.
   * @returns {Session}
   */
  clone() {
    this.#check();
    return this.#means.open({ from: this.#place.session });
  }

  /**
   * The conversation as bytes, for `lm.restore`: what the model has read and written, exactly
   * computed. `lm.restore` takes them in another page, or another year, with the same model and
   * `kvType`.
   * @returns {Promise<Uint8Array>} as large as its K/V: of SmolLM2-135M 46 KB a token, with `kvType:
   *   'q8'` 12 KB
   */
  async save() {
    this.#check();
    await this.#place.opened;
    return this.#means.save(this.#place.session);
  }

  /** Stops its replies and gives its memory back. @returns {Promise<void>} */
  async dispose() {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#place.opened.catch(() => {});
    await this.#means.close(this.#place.session);
  }

  /** `await using session = lm.session()` */
  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    await this.dispose();
  }

  #check() {
    if (this.#disposed) throw new ExitLMError('DISPOSED', 'this session was disposed of');
  }
}
