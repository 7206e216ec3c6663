// What the page remembers on this device: settings and conversations.

/**
 * @typedef {[text: string, layer: number, work: number, head: number, confidence: number, drafted:
 *   number, ms: number | null, marks?: number]} Row a token
 *
 * @typedef {object} Run one answer of the model
 * @property {string} mode
 * @property {number | null} accuracy
 * @property {Row[]} tokens
 * @property {number} of layers of the model
 * @property {number[]} exits layers of its heads
 * @property {string} text
 * @property {string} reason
 * @property {any} result the figures of Reply.result
 * @property {number | null} [rate] tokens a second, where they were measured afterwards
 * @property {number | null} [full] tokens a second of the full model at that time
 * @property {boolean} [checked] each exit was compared with the full model's choice
 * @property {{ used: number, of: number, dropped: number }} [room] of the context
 * @property {boolean} [running]
 *
 * @typedef {{ role: 'user', content: string, shape?: import('./shapes.js').Shape }} UserTurn
 * @typedef {{ role: 'assistant', runs: Run[], error?: string, code?: string, compare?: boolean }}
 *   Answer
 * @typedef {{ id: string, title: string, at: number, turns: (UserTurn | Answer)[] }} Conversation
 */

/** Marks of a token: nothing was computed for it; it began before the model was whole, so its time
 * is that of the line too; the full model would have chosen another. */
export const FREE = 1;
export const ARRIVING = 2;
export const OTHER = 4;

const KEY = 'exitlm';

/** @param {string} name @param {any} otherwise */
function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`${KEY}.${name}`) ?? 'null') ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value @returns {boolean} whether there was room */
function write(name, value) {
  try {
    localStorage.setItem(`${KEY}.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export const DEFAULTS = {
  mode: 'exit',
  accuracy: /** @type {number | null} */ (null), // null: the level that the heads name
  temperature: 0,
  topP: 1,
  repeatPenalty: 1,
  maxTokens: 400,
  seed: '',
  // with the prompt of its own template the default model answers worse
  system: 'You are a helpful assistant.',
  view: 'depth',
  compare: false,
  theme: 'auto',
  insight: true,
};

/** What was chosen here. @type {typeof DEFAULTS} */
const own = { ...DEFAULTS, ...read('settings', {}) };
/** What counts: some of it may come from a link. */
export const settings = { ...own };

/** @param {Partial<typeof DEFAULTS>} changes @param {boolean} [kept] false: for this visit alone */
export function change(changes, kept = true) {
  Object.assign(settings, changes);
  if (kept) write('settings', Object.assign(own, changes));
  for (const listener of listeners) listener(changes);
}
/** Lets go of what a link has set. */
export const changeBack = () => change(own);

/** @type {((changes: Partial<typeof DEFAULTS>) => void)[]} */
const listeners = [];
/** @param {(changes: Partial<typeof DEFAULTS>) => void} listener */
export const onChange = (listener) => listeners.push(listener);

/** @type {Promise<IDBDatabase>} */
const database = new Promise((resolve, reject) => {
  const opening = indexedDB.open(KEY);
  opening.onupgradeneeded = () => {
    const store = opening.result.createObjectStore('conversations', { keyPath: 'id' });
    for (const conversation of read('conversations', [])) store.put(conversation); // as it once was
  };
  opening.onsuccess = () => {
    write('conversations', []);
    resolve(opening.result);
  };
  opening.onerror = () => reject(opening.error);
});

/**
 * @param {(store: IDBObjectStore) => IDBRequest} act
 * @returns {Promise<any>} what came of it, when it is safe
 */
async function inDatabase(act) {
  const transaction = (await database).transaction('conversations', 'readwrite');
  const request = act(transaction.objectStore('conversations'));
  await new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
  return request.result;
}

/** @type {Conversation[]} newest first; in the database a record each, which all tabs share */
export let conversations = [];
const tabs = new BroadcastChannel(KEY);

/** @param {Conversation} conversation */
export const isListed = ({ id }) => conversations.some((each) => each.id === id);

/** @param {string} id @param {Conversation[]} now nothing: it is gone */
function list(id, ...now) {
  const others = conversations.filter((each) => each.id !== id);
  conversations = [...others, ...now].sort((a, b) => b.at - a.at);
}

/**
 * Reads what is kept, and follows other tabs.
 * @param {(conversation?: Conversation) => void} changed
 */
export async function followConversations(changed) {
  tabs.onmessage = async ({ data: id }) => {
    const found = await inDatabase((store) => store.get(id));
    list(id, ...(found ? [found] : []));
    changed(found);
  };
  const all = await inDatabase((store) => store.getAll());
  list('', ...all.filter((/** @type {Conversation} */ each) => !isListed(each)));
  changed();
}

/**
 * @param {Conversation} conversation as it is now
 * @param {boolean} [kept] false: it is deleted
 */
export async function keepConversation(conversation, kept = true) {
  const { id } = conversation;
  list(id, ...(kept ? [conversation] : []));
  const text = JSON.stringify(conversation, (key, value) => (key === 'running' ? false : value));
  await inDatabase((store) => (kept ? store.put(JSON.parse(text)) : store.delete(id)));
  tabs.postMessage(id);
}

/** @returns {any} the model that was used last */
export const lastModel = () => read('model', null);
/** @param {any} choice */
export const rememberModel = (choice) => write('model', choice);
