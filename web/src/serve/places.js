/**
 * The conversations that a server keeps. Each place is a session with what it has read; a question goes
 * where the conversation that it goes on with lies, else where there is room, else where nobody has
 * asked for longest.
 *
 * @typedef {import('../client/exitlm.js').ExitLM} ExitLM
 * @typedef {import('../client/session.js').Session} Session
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 *
 * @typedef {object} Place
 * @property {ExitLM | Session} session
 * @property {string[]} held the messages that it has read, as JSON
 * @property {boolean} busy
 */

export class Places {
  #lm;
  #most;
  /** The one that was used last stands last. @type {Place[]} */ #places = [];

  /** @param {ExitLM} lm its own conversation is the first place @param {number} most */
  constructor(lm, most) {
    this.#lm = lm;
    this.#most = most;
  }

  /**
   * A place for this conversation; `leave` gives it back.
   * @param {ChatMessage[]} messages
   * @returns {Promise<{ session: ExitLM | Session, leave: () => void }>}
   */
  async take(messages) {
    const keys = messages.map((message) => JSON.stringify(message));
    const goesOn = (/** @type {Place} */ { held, busy }) =>
      !busy && held.every((key, i) => key === keys[i]);
    const place =
      this.#places.filter(goesOn).sort((a, b) => b.held.length - a.held.length)[0] ??
      (await this.#more()) ??
      this.#places.find(({ busy }) => !busy) ??
      this.#places[0]; // its questions follow each other
    place.busy = true;
    place.held = keys;
    this.#places = [...this.#places.filter((other) => other !== place), place];
    return { session: place.session, leave: () => void (place.busy = false) };
  }

  /** One more place; undefined where there are all, or no memory for another. */
  async #more() {
    if (this.#places.length >= this.#most) return undefined;
    const first = this.#places.length === 0;
    /** @type {Place} */
    const place = { session: first ? this.#lm : this.#lm.session(), held: [], busy: true };
    this.#places.push(place);
    if (first) return place;
    try {
      await /** @type {Session} */ (place.session).ready;
      return place;
    } catch (error) {
      this.#places.splice(this.#places.indexOf(place), 1);
      this.#most = this.#places.length;
      if (/** @type {any} */ (error).code !== 'OUT_OF_MEMORY') throw error;
      return undefined;
    }
  }
}
