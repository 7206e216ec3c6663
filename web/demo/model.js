// The model of the page: which one is chosen, how far it has come, and the object that answers.
import { ExitLM } from '../src/index.js';
import { lastModel, rememberModel, settings } from './store.js';

const MODELS = new URL('../../models/', import.meta.url);

/**
 * @typedef {{ of: number, full: number, levels: [accuracy: number, right: number][] }} Tasks small
 *   tasks with a checkable answer that come out right
 * @typedef {{ kind: 'catalogue', name: string, title: string, bytes: number, url: string, heads?:
 *   string, sha256?: string, licence?: string, quantisation?: string, parameters?: number, tasks?:
 *   Tasks }} CatalogueChoice
 * @typedef {{ kind: 'url', title: string, url: string, heads?: string }} UrlChoice
 * @typedef {{ kind: 'file', title: string, files: File[], heads: File | null }} FileChoice
 * @typedef {CatalogueChoice | UrlChoice | FileChoice} Choice
 * @typedef {'none' | 'connecting' | 'arriving' | 'ready' | 'failed'} State
 */

class Model extends EventTarget {
  /** @type {Choice | null} */ choice = null;
  /** @type {ExitLM | null} */ lm = null;
  /** @type {State} */ state = 'none';
  /** @type {unknown} */ error = null;
  /** @type {import('../src/link/types.js').Progress | null} */ progress = null;
  /** @type {string[]} */ warnings = [];
  began = 0;
  /** @type {AbortController | null} */ #abort = null;
  /** @type {Promise<ExitLM> | null} */ #loading = null;

  /** Tells the page. */
  #changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** Makes it the model to load, without loading it. @param {Choice} choice */
  choose(choice) {
    this.choice = choice;
    this.#changed();
  }

  /**
   * The model that answers; loads the chosen one where it is not there, or where it has died.
   * @returns {Promise<ExitLM>}
   */
  get() {
    if (this.state === 'arriving' || this.state === 'ready' || this.state === 'connecting')
      return /** @type {Promise<ExitLM>} */ (this.#loading);
    if (!this.choice) return Promise.reject(new Error('Choose a model first'));
    return this.load(this.choice);
  }

  /** @param {Choice} choice @returns {Promise<ExitLM>} */
  load(choice) {
    this.unload();
    const abort = new AbortController();
    Object.assign(this, {
      choice,
      state: 'connecting',
      error: null,
      progress: null,
      warnings: [],
      began: performance.now(),
    });
    this.#abort = abort;
    const current = () => this.#abort === abort;
    const fail = (/** @type {unknown} */ error) => {
      if (!current()) return;
      this.#abort = null;
      this.lm = null;
      this.#loading = null;
      this.error = abort.signal.aborted ? null : error;
      this.state = this.error ? 'failed' : 'none';
      this.#changed();
    };
    const loading = ExitLM.load(sourceOf(choice), {
      ...headsOf(choice),
      ...(choice.kind === 'catalogue' && choice.sha256 ? { sha256: choice.sha256 } : {}),
      signal: abort.signal,
      onProgress: (progress) => {
        if (!current()) return;
        this.progress = progress;
        this.#changed();
      },
      onWarning: (message) => {
        if (!current()) return;
        this.warnings.push(message);
        this.#changed();
      },
    }).then((lm) => {
      if (!current()) {
        lm.dispose();
        throw abort.signal.reason ?? new Error('another model was chosen');
      }
      this.lm = lm;
      this.state = 'arriving';
      this.#changed();
      lm.ready.then(() => {
        if (!current()) return;
        this.state = 'ready';
        this.#changed();
      }, fail);
      if (choice.kind !== 'file') rememberModel(choice);
      return lm;
    });
    loading.catch(fail);
    this.#loading = loading;
    this.#changed();
    return loading;
  }

  /**
   * What answers is not usable any more (its worker died): the next `get` loads it again. @param
   * {unknown} error
   */
  lost(error) {
    this.unload();
    this.error = error;
    this.state = 'failed';
    this.#changed();
  }

  /** Stops loading, or lets the model go. */
  unload() {
    const { lm } = this;
    const abort = this.#abort;
    this.#abort = null;
    this.#loading = null;
    this.lm = null;
    this.state = 'none';
    abort?.abort(new DOMException('Loading was cancelled', 'AbortError'));
    lm?.dispose();
    this.#changed();
  }
}

export const model = new Model();

/**
 * The accuracy of mode exit: the one that was set here, else the model's own. Null until that is
 * known.
 */
export const wantedAccuracy = () => settings.accuracy ?? model.lm?.exits?.defaultAccuracy ?? null;

/** @param {Choice} choice @returns {any} */
const sourceOf = (choice) => {
  if (choice.kind !== 'file') return choice.url;
  return choice.files.length > 1 ? choice.files : choice.files[0];
};

/** @param {Choice} choice @returns {{ heads?: string | File | false }} */
function headsOf(choice) {
  if (choice.kind === 'file') return { heads: choice.heads ?? false };
  return choice.heads ? { heads: choice.heads } : {};
}

/** What the page offers. @returns {Promise<CatalogueChoice[]>} */
export async function catalogue() {
  const response = await fetch(new URL('catalog.json', MODELS), { cache: 'no-cache' });
  if (!response.ok)
    throw new Error(`the catalogue of models is not there (HTTP ${response.status})`);
  const { models, default: first } = await response.json();
  return models
    .map((/** @type {any} */ entry) => ({
      kind: 'catalogue',
      name: entry.name,
      title: entry.title,
      bytes: entry.size_bytes,
      url: new URL(entry.file, MODELS).href,
      sha256: entry.sha256,
      licence: entry.licence,
      quantisation: entry.quantisation,
      parameters: entry.parameters,
      tasks: entry.heads?.tasks,
    }))
    .sort(
      (/** @type {CatalogueChoice} */ a, /** @type {CatalogueChoice} */ b) =>
        Number(b.name === first) - Number(a.name === first),
    );
}

/** @param {string} address @returns {UrlChoice} */
export function urlChoice(address) {
  const { href, pathname } = new URL(address.trim(), document.baseURI);
  const file = decodeURIComponent(pathname.split('/').filter(Boolean).pop() ?? href);
  return { kind: 'url', url: href, title: file.replace(/\.gguf$/, '') };
}

/**
 * A model and its heads among files that were dropped or picked. @param {File[]} files @returns
 * {FileChoice}
 */
export function fileChoice(files) {
  const heads = files.filter(({ name }) => /\.exits\.gguf$/i.test(name));
  const models = files
    .filter((file) => !heads.includes(file))
    .sort((a, b) => a.name.localeCompare(b.name));
  if (!models.length)
    throw new Error(
      heads.length
        ? 'these are exit heads: choose their model’s file together with them'
        : 'no file was given',
    );
  if (heads.length > 1) throw new Error('there are several files with exit heads: choose one');
  return {
    kind: 'file',
    title: models[0].name.replace(/\.gguf$/i, ''),
    files: models,
    heads: heads[0] ?? null,
  };
}

/**
 * What was used at the last visit, where that is still known. @param {CatalogueChoice[]} entries
 * @returns {Choice | null}
 */
export function choiceOfLastVisit(entries) {
  const last = lastModel();
  if (last?.kind === 'catalogue') return entries.find(({ name }) => name === last.name) ?? null;
  return last?.kind === 'url' && typeof last.url === 'string' ? last : null;
}

/** Whether all of it is on this device. @param {Choice} choice @returns {Promise<boolean>} */
export async function isKept(choice) {
  if (choice.kind === 'file') return true;
  try {
    return (await ExitLM.cache.list()).some(({ url, complete }) => complete && url === choice.url);
  } catch {
    return false;
  }
}

export { ExitLM };
