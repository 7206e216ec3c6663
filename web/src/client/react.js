/**
 * A conversation in a component of React. What the component leaves behind is ended with it: the
 * download, the answer, the worker; under StrictMode too, which mounts twice.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').Progress} Progress
 * @typedef {import('./reply.js').Result} Result
 * @typedef {import('./reply.js').Token} Token
 *
 * @typedef {object} View
 * @property {'idle' | 'loading' | 'ready' | 'answering' | 'failed'} state idle: there is no source
 * @property {Progress | null} progress of loading; it goes on after `ready`, until all is there
 * @property {unknown} error why it failed, or the last answer did
 * @property {ExitLM | null} lm the model, as soon as it can be talked to
 * @property {ChatMessage[]} messages the conversation; its last one grows while it is answered
 * @property {Token[]} tokens of the last answer, each with its depth
 *
 * @typedef {object} Talk
 * @property {(text: string, options?: GenerateOptions) => Promise<Result | null>} send asks; null: the
 *   component is gone or the answer failed (`error` says why). What is being answered is stopped
 * @property {() => void} stop what is being answered; what was said stays
 * @property {(messages?: ChatMessage[]) => void} reset another conversation, or an empty one
 */
import { useEffect, useMemo, useRef, useState } from 'react';
import { ExitLMError } from '../link/errors.js';
import { ExitLM } from './page.js';

/** @type {View} */
const START = { state: 'idle', progress: null, error: null, lm: null, messages: [], tokens: [] };

/** One model and its conversation, from a mount to its end. */
class Life {
  /** @type {ExitLM | null} */ lm = null;
  /** @type {ChatMessage[]} */ messages = [];
  /** @type {import('./reply.js').Reply<any> | null} */ #reply = null;
  #gone = new AbortController();
  #change;

  /** @param {(part: Partial<View>) => void} change */
  constructor(change) {
    this.#change = (/** @type {Partial<View>} */ part) => {
      if (!this.#gone.signal.aborted) change(part);
    };
  }

  /** @param {string} source @param {LoadOptions} options */
  async load(source, options) {
    const { signal } = this.#gone;
    this.#change({ ...START, state: 'loading' });
    try {
      this.lm = await ExitLM.load(source, {
        ...options,
        signal,
        onProgress: (progress) => {
          options.onProgress?.(progress);
          this.#change({ progress });
        },
      });
      if (signal.aborted) return void this.lm.dispose();
      this.#change({ lm: this.lm, state: 'ready' });
      await this.lm.ready;
    } catch (error) {
      this.#change({ error, state: 'failed' });
    }
  }

  /** @param {string} text @param {GenerateOptions} [options] */
  async send(text, options) {
    if (!this.lm)
      throw new ExitLMError('USAGE', 'send: the model is not loaded yet; wait for the state ready');
    this.stop();
    const asked = [...this.messages, { role: 'user', content: text }];
    const reply = (this.#reply = this.lm.chat(asked, options));
    /** @type {Token[]} */
    const tokens = [];
    let frame = 0;
    const show = () => {
      frame = 0;
      if (this.#reply !== reply) return;
      const said = tokens.map((token) => token.text).join('');
      this.messages = [...asked, { role: 'assistant', content: said }];
      this.#change({ messages: this.messages, tokens: [...tokens] });
    };
    this.#change({ state: 'answering', error: null });
    show();
    try {
      // tokens come faster than a screen is drawn
      for await (const token of reply) {
        tokens.push(token);
        frame ||= requestAnimationFrame(show);
      }
      return await reply.result;
    } catch (error) {
      if (this.#reply === reply) this.#change({ error });
      return null;
    } finally {
      cancelAnimationFrame(frame);
      show();
      if (this.#reply === reply) {
        this.#reply = null;
        this.#change({ state: 'ready' });
      }
    }
  }

  stop() {
    this.#reply?.cancel();
  }

  /** @param {ChatMessage[]} messages */
  reset(messages) {
    this.stop();
    this.#reply = null;
    this.messages = messages;
    this.#change({ messages, tokens: [], state: this.lm ? 'ready' : 'loading' });
  }

  end() {
    this.#gone.abort();
    this.stop();
    this.lm?.dispose();
  }
}

/**
 * Loads a model and talks with it. When the component goes, or the source becomes another, the model
 * goes too.
 * @param {string | URL | null | undefined} source the model's address; null: none yet, as before a
 *   click
 * @param {LoadOptions} [options] those of the time when it begins to load count
 * @returns {View & Talk}
 */
export function useExitLM(source, options = {}) {
  const [view, setView] = useState(START);
  /** @type {{ current: Life | null }} */
  const life = useRef(null);
  const given = useRef(options);
  const address = source ? String(source) : null;
  useEffect(() => {
    given.current = options;
  });
  useEffect(() => {
    if (address === null) return undefined;
    const now = new Life((part) => setView((before) => ({ ...before, ...part })));
    life.current = now;
    now.load(address, given.current);
    return () => {
      now.end();
      life.current = null;
      setView(START);
    };
  }, [address]);
  /** @type {Talk} */
  const talk = useMemo(
    () => ({
      send: async (text, more) => {
        if (!life.current) throw new ExitLMError('USAGE', 'send: there is no model');
        return life.current.send(text, more);
      },
      stop: () => life.current?.stop(),
      reset: (messages = []) => life.current?.reset(messages),
    }),
    [],
  );
  return { ...view, ...talk };
}
