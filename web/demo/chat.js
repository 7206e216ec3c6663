// The conversation: asking, answering, stopping, trying again, comparing.
import { AnswerView } from './answer.js';
import {
  announce,
  byId,
  count,
  el,
  icon,
  percent,
  sentenceOf,
  speed,
  throttled,
  toast,
} from './dom.js';
import { meanDepth, meanWork, speedOf } from './insight.js';
import { model, wantedAccuracy } from './model.js';
import {
  followConversations,
  isListed,
  keepConversation,
  rememberFullSpeed,
  settings,
} from './store.js';

/**
 * @typedef {import('./store.js').Conversation} Conversation
 * @typedef {import('./store.js').Answer} Answer
 * @typedef {import('./store.js').Run} Run
 * @typedef {{ turn: Answer, node: HTMLElement, views: AnswerView[] }} Shown
 */

const scroll = byId('scroll');
const list = byId('messages');

/** @type {Conversation} */
let current = empty();
/** @type {Shown[]} */
let shown = [];
/** @type {{ stop: () => void } | null} */
let running = null;
let following = true; // the newest text stays in view

/** Called with the answer that the charts are to show. @type {(view: AnswerView | null) => void} */
let select = () => {};
/**
 * Called when an answer begins or ends, and when the list of conversations changes. @type {() =>
 * void}
 */
let changed = () => {};

/** @param {{ select: typeof select, changed: typeof changed }} hooks */
export function connectChat(hooks) {
  ({ select, changed } = hooks);
  scroll.addEventListener(
    'scroll',
    () => {
      following = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
      byId('to-end').hidden = following;
    },
    { passive: true },
  );
  byId('to-end').addEventListener('click', () => toEnd(true));
  new ResizeObserver(() => toEnd()).observe(scroll);
  followConversations((conversation) => {
    if (conversation?.id === current.id && !running) openConversation(conversation);
    changed();
  }).catch(notKept);
}

export const isRunning = () => running !== null;
export const currentConversation = () => current;
export const stop = () => running?.stop();

function empty() {
  return {
    id: crypto.randomUUID?.() ?? String(Math.random()).slice(2),
    title: '',
    at: Date.now(),
    turns: [],
  };
}

/** @param {boolean} [force] */
function toEnd(force = false) {
  if (force) following = true;
  if (following) scroll.scrollTop = scroll.scrollHeight;
}

// ---- conversations ----

/** @param {Conversation} [conversation] a new one if left out */
export function openConversation(conversation = empty()) {
  stop();
  current = conversation;
  shown = [];
  list.replaceChildren();
  for (const turn of current.turns) showTurn(turn);
  byId('welcome').hidden = current.turns.length > 0;
  select(shown.at(-1)?.views[0] ?? null);
  toEnd(true);
  changed();
}

/** @param {Conversation} conversation */
export function removeConversation(conversation) {
  keepConversation(conversation, false).catch(notKept);
  if (conversation.id === current.id) openConversation();
  changed();
  toast('The conversation was deleted.', {
    label: 'Undo',
    run: () => {
      keepConversation(conversation).catch(notKept);
      changed();
    },
  });
}

/** @param {Conversation} conversation */
function keep(conversation) {
  conversation.at = Date.now();
  keepConversation(conversation).catch(notKept);
  changed();
}

const notKept = () => toast('This browser keeps no conversations for the page.');

// ---- turns on the page ----

/** @param {import('./store.js').UserTurn | Answer} turn */
function showTurn(turn) {
  if (turn.role === 'user') {
    list.append(
      el(
        'li',
        { class: 'turn user' },
        el('span', { class: 'hidden' }, 'You: '),
        el(
          'div',
          { class: 'bubble' },
          turn.content,
          turn.shape &&
            el(
              'details',
              { class: 'shape' },
              el('summary', {}, turn.shape.name),
              el('pre', {}, JSON.stringify(turn.shape.schema ?? turn.shape.tools, null, 1)),
            ),
        ),
      ),
    );
    return null;
  }
  const node = el('li', { class: 'turn assistant' });
  list.append(node);
  const entry = { turn, node, views: [] };
  shown.push(entry);
  rebuild(entry);
  return entry;
}

/** @param {Shown} entry */
function rebuild(entry) {
  const { turn, node } = entry;
  entry.views = turn.runs.map((run) => new AnswerView(run));
  const columns = entry.views.map((view) =>
    el(
      'div',
      { class: 'run', onclick: () => select(view) },
      turn.runs.length > 1 && el('h3', { class: 'run-title' }, nameOfMode(view.run)),
      view.node,
      el('p', { class: 'run-figures' }),
    ),
  );
  node.replaceChildren(
    el('span', { class: 'hidden' }, 'Answer: '),
    el('div', { class: turn.compare ? 'runs two' : 'runs' }, ...columns),
    el('p', { class: 'verdict note' }),
    el('div', { class: 'trouble' }),
    el('div', { class: 'actions' }),
  );
  entry.views.forEach((view) => view.show(settings.view));
  refresh(entry);
}

/** @param {Run} run */
const nameOfMode = ({ mode, accuracy }) =>
  mode === 'exit' && accuracy !== null ? `exit, ${percent(accuracy)}` : mode;

/** Everything of an answer but its text. @param {Shown} entry */
function refresh({ turn, node, views }) {
  views.forEach(({ run }, i) => {
    const line = node.querySelectorAll('.run-figures')[i];
    line.replaceChildren(
      ...(run.running && !run.tokens.length
        ? [el('span', { class: 'waiting' }, el('i'), el('i'), el('i')), waitingFor()]
        : [figuresOf(run)]),
    );
  });
  node.querySelector('.verdict').textContent = turn.compare ? verdict(turn.runs) : '';
  const busy = turn.runs.some((run) => run.running);
  node.querySelector('.trouble').replaceChildren(...(turn.error && !busy ? [troubleOf(turn)] : []));
  node.querySelector('.actions').replaceChildren(...(busy ? [] : actionsOf(turn, views)));
}

/** @param {Run} run */
function figuresOf(run) {
  if (!run.tokens.length) return run.reason === 'abort' ? 'stopped' : '';
  const parts = [
    count(run.tokens.length, 'token'),
    `${speed(speedOf(run))}/s`,
    `depth ${meanDepth(run).toFixed(2)}`,
    `work ${meanWork(run).toFixed(2)}`,
  ];
  const free = run.tokens.filter((row) => row[7]).length;
  if (free) parts.push(`${free} of them free`);
  if (run.result?.drafted)
    parts.push(`${run.result.accepted} of ${run.result.drafted} drafts accepted`);
  if (run.reason === 'length') parts.push('reached its length');
  if (run.reason === 'abort') parts.push('stopped');
  return parts.join(' · ');
}

function waitingFor() {
  const { progress, state } = model;
  if (state === 'connecting') return 'Opening the model';
  if (state === 'arriving' && progress && progress.layersReady < progress.layers)
    return `Waiting for layer ${progress.layersReady + 1} of ${progress.layers}`;
  return 'Reading';
}

/** How two answers differ. @param {Run[]} runs */
function verdict([a, b]) {
  if (!a || !b || !a.tokens.length || !b.tokens.length || a.running || b.running) return '';
  const shorter = Math.min(a.tokens.length, b.tokens.length);
  let same = 0;
  while (same < shorter && a.tokens[same][0] === b.tokens[same][0]) same++;
  const [fast, slow] = [speedOf(a), speedOf(b)];
  const ratio = fast && slow ? `${(fast / slow).toFixed(2)}× the speed of ${b.mode}, ` : '';
  const work = `${percent(meanWork(a))} of its work; `;
  if (same === shorter && a.tokens.length === b.tokens.length)
    return `${ratio}${work}the same tokens.`;
  return (
    ratio +
    work +
    (same ? `the first ${count(same, 'token')} are the same.` : 'other tokens from the first on.')
  );
}

/** @param {Answer} turn @param {AnswerView[]} views */
function actionsOf(turn, views) {
  const text = turn.runs[0]?.text ?? '';
  const last = current.turns.at(-1) === turn;
  return [
    text &&
      el(
        'button',
        {
          'type': 'button',
          'class': 'icon-button small',
          'title': 'Copy',
          'aria-label': 'Copy the answer',
          'onclick': (/** @type {Event} */ event) =>
            copy(text, /** @type {HTMLElement} */ (event.currentTarget)),
        },
        icon('copy'),
      ),
    last &&
      !turn.error &&
      el(
        'button',
        {
          'type': 'button',
          'class': 'icon-button small',
          'title': 'Try again',
          'aria-label': 'Answer again',
          'onclick': () => retry(),
        },
        icon('retry'),
      ),
    text &&
      el(
        'button',
        {
          'type': 'button',
          'class': 'icon-button small',
          'title': 'Charts',
          'aria-label': 'Charts of this answer',
          'onclick': () => {
            select(views[0]);
            document.dispatchEvent(new Event('show-insight'));
          },
        },
        icon('chart'),
      ),
  ].filter(Boolean);
}

/** @param {string} text @param {HTMLElement} button */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.replaceChildren(icon('done'));
    announce('Copied');
    setTimeout(() => button.replaceChildren(icon('copy')), 1500);
  } catch {
    toast('The browser does not let this page copy.');
  }
}

/** @param {Answer} turn */
function troubleOf(turn) {
  const last = current.turns.at(-1) === turn;
  return el(
    'div',
    { class: 'error', role: 'alert' },
    el('p', {}, turn.error),
    last &&
      el(
        'div',
        { class: 'row' },
        el('button', { type: 'button', class: 'secondary', onclick: () => retry() }, 'Try again'),
      ),
  );
}

/** The view has changed, or the model's state that answers wait for. */
export function redraw() {
  for (const entry of shown) {
    entry.views.forEach((view) => view.show(settings.view));
    refresh(entry);
  }
  toEnd();
}

export function redrawWaiting() {
  const last = shown.at(-1);
  if (last?.turn.runs.some(({ running: busy, tokens }) => busy && !tokens.length)) refresh(last);
}

// ---- asking ----

/** @param {string} text @param {import('./shapes.js').Shape} [shape] of the answer */
export async function ask(text, shape) {
  if (running) return;
  /** @type {import('./store.js').UserTurn} */
  const turn = { role: 'user', content: text, ...(shape ? { shape } : {}) };
  current.turns.push(turn);
  if (!current.title) current.title = text.trim().replace(/\s+/g, ' ').slice(0, 80);
  byId('welcome').hidden = true;
  showTurn(turn);
  await answer(settings.compare);
}

/** Answers the last question again. */
export async function retry() {
  if (running) return;
  if (current.turns.at(-1)?.role === 'assistant') {
    current.turns.pop();
    shown.pop()?.node.remove();
  }
  await answer(settings.compare);
}

/** What the model is given: questions, the first answer to each, the system prompt. */
function messages() {
  const turns = current.turns.flatMap((turn) => {
    if (turn.role === 'user') return [{ role: 'user', content: turn.content }];
    const content = turn.runs[0]?.text ?? '';
    return content ? [{ role: 'assistant', content }] : [];
  });
  return settings.system.trim() ? [{ role: 'system', content: settings.system }, ...turns] : turns;
}

/** @param {boolean} compare */
async function answer(compare) {
  const asked = messages();
  const question = /** @type {import('./store.js').UserTurn | undefined} */ (current.turns.at(-1));
  /** @type {Answer} */
  const turn = { role: 'assistant', runs: [], compare };
  current.turns.push(turn);
  const conversation = current;
  let stopped = false;
  let stopReply = () => {};
  const mine = {
    stop: () => {
      stopped = true;
      stopReply();
    },
  };
  running = mine;
  turn.runs = [blank('full')];
  const entry = /** @type {Shown} */ (showTurn(turn));
  select(entry.views[0]);
  toEnd(true);
  keep(conversation);
  announce('Answering');
  try {
    const { promise: stopping, resolve } = withResolvers();
    stopReply = () => resolve(null);
    const lm = await Promise.race([model.get(), stopping]);
    if (!lm || stopped) {
      Object.assign(turn.runs[0], { running: false, reason: 'abort' });
      return;
    }
    const least = lm.exits && compare ? 'exit' : 'full';
    const best = lm.exits && settings.mode !== 'full' ? settings.mode : least;
    const both = compare && lm.exits !== null;
    turn.compare = both;
    turn.runs = (both ? [best, 'full'] : [best]).map(blank);
    for (const run of turn.runs)
      Object.assign(run, { of: lm.info.layers, exits: lm.exits?.layers ?? [] });
    rebuild(entry);
    for (const view of entry.views) {
      if (stopped) {
        Object.assign(view.run, { running: false, reason: 'abort' });
        continue;
      }
      if (current === conversation) select(view);
      const { name, ...shape } = question?.shape ?? { name: '' };
      const reply = lm.chat(asked, { ...optionsOf(view.run), ...shape });
      stopReply = () => reply.cancel();
      await follow(reply, view, entry);
    }
    if (current === conversation && both) select(entry.views[0]);
  } catch (error) {
    const { code } = /** @type {{ code?: string }} */ (error ?? {});
    if (stopped || /** @type {Error} */ (error)?.name === 'AbortError')
      turn.runs.forEach((run) => Object.assign(run, { reason: 'abort' }));
    else {
      turn.error = sentenceOf(error);
      if (code === 'WORKER' || code === 'DISPOSED') model.lost(error);
    }
  } finally {
    for (const run of turn.runs) run.running = false;
    if (running === mine) running = null;
    for (const view of entry.views) {
      view.drafts = [];
      view.show(settings.view);
    }
    refresh(entry);
    if (isListed(conversation)) keep(conversation);
    else changed();
    toEnd();
    announce(turn.error ?? (stopped ? 'Stopped' : 'The answer is complete'));
  }
}

/** @param {string} mode @returns {Run} */
const blank = (mode) => ({
  mode,
  accuracy: mode === 'exit' ? wantedAccuracy() : null,
  tokens: [],
  of: 0,
  exits: [],
  text: '',
  reason: '',
  result: null,
  running: true,
});

/** @param {Run} run */
function optionsOf(run) {
  const { temperature, topP, repeatPenalty, maxTokens, seed } = settings;
  return {
    mode: /** @type {'full' | 'exit' | 'lossless'} */ (run.mode),
    ...(run.accuracy === null ? {} : { accuracy: run.accuracy }),
    maxTokens,
    temperature,
    ...(topP < 1 ? { topP } : {}),
    ...(repeatPenalty !== 1 ? { repeatPenalty } : {}),
    ...(seed === '' ? {} : { seed: Number(seed) }),
    events: run.mode === 'lossless',
    overflow: /** @type {const} */ ('drop'),
  };
}

/**
 * Shows a reply while it is written.
 * @param {import('../src/client/reply.js').Reply<any>} reply
 * @param {AnswerView} view
 * @param {Shown} entry
 */
async function follow(reply, view, entry) {
  const { run } = view;
  const draw = throttled(() => {
    view.show(settings.view);
    refresh(entry);
    toEnd();
    if (view === selected) select(view);
  }, 50);
  const sentences = speaker();
  for await (const event of reply) {
    if (event.type === 'draft')
      view.drafts.push({ index: event.index, text: event.text, accepted: false });
    else if (event.type === 'accept')
      view.drafts.forEach((draft) => {
        draft.accepted ||= draft.index === event.index;
      });
    else if (event.type === 'reject') view.drafts = view.drafts.filter(({ accepted }) => accepted);
    else {
      view.drafts = view.drafts.filter(({ index }) => index > event.index);
      const said = event.text + (event.call ?? '');
      run.tokens.push([
        said,
        event.layer,
        round(event.work),
        event.head,
        round(event.confidence),
        event.drafted ? 1 : 0,
        event.ms === null ? null : round(event.ms),
        ...(event.forced ? [1] : []),
      ]);
      run.text += said;
      sentences(said);
    }
    draw();
  }
  const { text, ...result } = await reply.result;
  // calls are no part of the text, but the page shows them
  Object.assign(run, {
    text: result.toolCalls ? run.text : text,
    reason: result.reason,
    result,
    running: false,
  });
  sentences('\n');
  draw.flush();
  if (
    run.mode === 'full' &&
    result.timing.tokensPerSecond &&
    result.usage.completionTokens >= 8 &&
    model.lm
  ) {
    rememberFullSpeed(
      model.lm.info.name || model.choice?.title || '',
      result.timing.tokensPerSecond,
    );
  }
}

/** @type {AnswerView | null} */
let selected = null;
/** Which answer the charts show: they follow it while it grows. @param {AnswerView | null} view */
export function setSelected(view) {
  selected = view;
}

/** @param {number} x */
const round = (x) => Math.round(x * 1e4) / 1e4;

/** For a screen reader: whole sentences, one after the other. @returns {(text: string) => void} */
function speaker() {
  let waiting = '';
  return (text) => {
    waiting += text;
    const end = Math.max(...['. ', '! ', '? ', '\n'].map((mark) => waiting.lastIndexOf(mark)));
    if (end < 0) return;
    if (waiting.slice(0, end + 1).trim()) announce(waiting.slice(0, end + 1));
    waiting = waiting.slice(end + 1);
  };
}

function withResolvers() {
  /** @type {(value: null) => void} */
  let resolve = () => {};
  const promise = new Promise((r) => {
    resolve = r;
  });
  return { promise: /** @type {Promise<null>} */ (promise), resolve };
}
