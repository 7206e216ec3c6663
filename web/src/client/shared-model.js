/**
 * A model that several sessions of the Prompt API use.
 *
 * @typedef {import('./exitlm.js').ExitLM} ExitLM
 * @typedef {import('./lazy-model.js').ModelOrSource} ModelOrSource
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').ModelSource} ModelSource
 *
 * @typedef {'unavailable' | 'downloadable' | 'downloading' | 'available'} Availability
 */
import { isModel } from './lazy-model.js';

/** It is loaded by the first session and let go by the last, where it was not handed in loaded. */
export class SharedModel {
  /** @type {Availability} */ state = 'downloadable';
  /** The part that has arrived, 0 … 1. */ loaded = 0;
  users = 0;
  /** @type {Set<CreateMonitor>} */ monitors = new Set();
  /** @type {Promise<ExitLM> | null} */ #loading = null;

  /**
   * @param {ModelOrSource} given
   * @param {LoadOptions} [options]
   */
  constructor(given, options = {}) {
    this.given = given;
    this.options = options;
    this.owned = !isModel(given) && typeof (/** @type {any} */ (given)?.then) !== 'function';
    if (!this.owned) this.state = 'available';
  }

  /** @returns {Promise<ExitLM>} */
  get() {
    if (this.#loading) return this.#loading;
    const mine = this.#load();
    mine.catch(() => this.#forget(mine));
    this.#loading = mine;
    return mine;
  }

  /** @param {Promise<ExitLM>} mine */
  #forget(mine) {
    if (this.#loading !== mine) return;
    this.#loading = null;
    if (this.owned) this.state = 'downloadable';
  }

  async #load() {
    if (!this.owned) return /** @type {ExitLM | PromiseLike<ExitLM>} */ (this.given);
    this.state = 'downloading';
    this.tell(0);
    const { ExitLM } = await import('./page.js');
    const mine = /** @type {Promise<ExitLM>} */ (this.#loading);
    const lm = await ExitLM.load(/** @type {ModelSource} */ (this.given), {
      ...this.options,
      onProgress: (progress) => {
        this.options.onProgress?.(progress);
        if (progress.total && progress.loaded < progress.total)
          this.tell(progress.loaded / progress.total);
      },
    });
    lm.ready.then(
      () => {
        this.state = 'available';
        this.tell(1);
      },
      () => this.#forget(mine),
    );
    return lm;
  }

  /** @param {number} loaded */
  tell(loaded) {
    this.loaded = loaded;
    for (const monitor of this.monitors) monitor.tell(loaded);
  }

  /** @param {CreateMonitor | null} monitor of the user that goes */
  release(monitor) {
    if (monitor) this.monitors.delete(monitor);
    this.users--;
    const loading = this.#loading;
    if (this.users > 0 || !this.owned || !loading) return;
    this.#forget(loading);
    loading.then(
      (lm) => lm.dispose(),
      () => {},
    );
  }
}

/** What `create` tells of a download. */
export class CreateMonitor extends EventTarget {
  /** @type {((event: ProgressEvent) => any) | null} */
  ondownloadprogress = null;

  /** @param {number} loaded 0 … 1 */
  tell(loaded) {
    const event = new DownloadProgressEvent(loaded);
    this.ondownloadprogress?.(/** @type {any} */ (event));
    this.dispatchEvent(event);
  }
}

/** Its own fields, since older browsers' ProgressEvent takes whole numbers alone. */
class DownloadProgressEvent extends (globalThis.ProgressEvent ?? Event) {
  /** @override */ lengthComputable = true;
  /** @override */ loaded;
  /** @override */ total = 1;

  /** @param {number} loaded */
  constructor(loaded) {
    super('downloadprogress');
    this.loaded = loaded;
  }
}
