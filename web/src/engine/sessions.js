/**
 * The conversations of one model: each has a session of C, with its own K/V. They share the model, its
 * heads and its threads.
 *
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('../loading/loader.js').ModelLoader} ModelLoader
 *
 * @typedef {object} Session
 * @property {number} address
 * @property {Promise<unknown>} before all replies so far: those of one session follow each other
 * @property {number} dropped messages that its last conversation went without (overflow.js)
 * @property {number} messages of that conversation
 */
import { ExitLMError } from '../link/errors.js';

export class Sessions {
  #engine;
  #loader;
  #make;
  /** By the caller's number; 0 belongs to `lm`. @type {Map<number, Session>} */
  #sessions = new Map();
  /** So many were there at once: memory does not shrink. */
  most = 0;

  /**
   * @param {Engine} engine
   * @param {ModelLoader} loader
   * @param {(contextLength: number, beside: number) => number} make gives the address of a session
   */
  constructor(engine, loader, make) {
    this.#engine = engine;
    this.#loader = loader;
    this.#make = make;
    this.#keep(0, make(0, 0));
  }

  /** @param {number} id @param {number} address */
  #keep(id, address) {
    this.#sessions.set(id, { address, before: Promise.resolve(), dropped: 0, messages: 0 });
    this.most = Math.max(this.most, this.#sessions.size);
  }

  /** @param {number} id */
  get(id) {
    const session = this.#sessions.get(id);
    if (!session)
      throw new ExitLMError('DISPOSED', 'this session was disposed of, or could not be opened');
    return session;
  }

  /** @param {Parameters<import('../link/protocol.js').EngineSide['openSession']>[0]} how */
  async open({ session, contextLength = 0, from, bytes }) {
    const engine = this.#engine;
    const address =
      from === undefined
        ? this.#make(contextLength, this.get(0).address)
        : engine.make('session_clone', this.get(from).address);
    try {
      if (bytes) await this.#restore(address, bytes);
    } catch (error) {
      engine.call('session_free', address);
      throw error;
    }
    this.#keep(session, address);
  }

  /** @param {number} address @param {Uint8Array} bytes */
  async #restore(address, bytes) {
    let at = 0;
    const give = (/** @type {Uint8Array} */ piece) => {
      if (piece.length > bytes.length - at) return false;
      piece.set(bytes.subarray(at, at + piece.length));
      at += piece.length;
      return true;
    };
    await this.#whenKnown(() => {
      at = 0;
      return this.#engine.passing(give, () => this.#engine.run('session_restore', address));
    });
    if (at < bytes.length)
      throw new ExitLMError('BAD_MODEL', 'a saved conversation that goes on behind its end');
  }

  /** @param {number} id @returns {Promise<Uint8Array<ArrayBuffer>>} */
  async save(id) {
    /** @type {Uint8Array[]} */
    let pieces = [];
    const take = (/** @type {Uint8Array} */ piece) => pieces.push(piece.slice()) > 0;
    await this.#whenKnown(() => {
      pieces = [];
      const { address } = this.get(id);
      return this.#engine.passing(take, () => this.#engine.run('session_save', address));
    });
    const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  /** Again and again, until it need not wait for the model. @param {() => string} attempt */
  async #whenKnown(attempt) {
    while (attempt() === 'WAIT') {
      if (this.#loader.failure) throw this.#loader.failure;
      await this.#loader.nextChange();
    }
  }

  /** Frees it once its replies, which are to be stopped, have ended. @param {number} id */
  async close(id) {
    const session = this.#sessions.get(id);
    if (id === 0 || !session) return;
    this.#sessions.delete(id);
    await session.before;
    this.#engine.call('session_free', session.address);
  }
}
