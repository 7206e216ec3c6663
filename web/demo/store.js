// What the page remembers on this device: settings, conversations, and how fast each model runs in
// full.

/**
 * @typedef {[text: string, layer: number, work: number, head: number, confidence: number, drafted:
 *   number, ms: number | null]} Row a token
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
 * @property {boolean} [running]
 *
 * @typedef {{ role: 'user', content: string }} UserTurn
 * @typedef {{ role: 'assistant', runs: Run[], error?: string, code?: string, compare?: boolean }}
 *   Answer
 * @typedef {{ id: string, title: string, at: number, turns: (UserTurn | Answer)[] }} Conversation
 */

const KEY = 'exitlm';
const MOST = 60; // conversations kept

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

/** @type {typeof DEFAULTS} */
export const settings = { ...DEFAULTS, ...read('settings', {}) };

/** @param {Partial<typeof DEFAULTS>} changes */
export function change(changes) {
  Object.assign(settings, changes);
  write('settings', settings);
  for (const listener of listeners) listener(changes);
}

/** @type {((changes: Partial<typeof DEFAULTS>) => void)[]} */
const listeners = [];
/** @param {(changes: Partial<typeof DEFAULTS>) => void} listener */
export const onChange = (listener) => listeners.push(listener);

/** @type {Conversation[]} newest first */
export const conversations = read('conversations', []);

/**
 * Keeps the conversations. Where room is short the oldest lose the details of their tokens first,
 * and then go.
 */
export function keepConversations() {
  conversations.splice(MOST);
  const kept = conversations.map((conversation) => ({ ...conversation }));
  for (let spared = kept.length - 1; !write('conversations', kept); spared--) {
    if (spared < 0) {
      if (kept.length <= 1) return;
      kept.pop();
    } else kept[spared] = { ...kept[spared], turns: kept[spared].turns.map(withoutTokens) };
  }
}

/** @param {UserTurn | Answer} turn */
const withoutTokens = (turn) =>
  turn.role === 'user' ? turn : { ...turn, runs: turn.runs.map((run) => ({ ...run, tokens: [] })) };

/** @type {Record<string, number>} tokens a second without exits, a model */
const fullSpeeds = read('full-speeds', {});
/** @param {string} model */
export const fullSpeed = (model) => fullSpeeds[model] ?? null;
/** @param {string} model @param {number} tokensPerSecond */
export function rememberFullSpeed(model, tokensPerSecond) {
  fullSpeeds[model] = tokensPerSecond;
  write('full-speeds', fullSpeeds);
}

/** @returns {any} the model that was used last */
export const lastModel = () => read('model', null);
/** @param {any} choice */
export const rememberModel = (choice) => write('model', choice);
