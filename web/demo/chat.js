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
import { isMeasuring, isMissing, measure, rememberFull, stopMeasuring } from './measure.js';
import { model, wantedAccuracy } from './model.js';
import { asFast, meanWork, ratioOf, savedWork, speedOf, sums } from './scale.js';
import { linkTo } from './share.js';
import {
  ARRIVING,
  FREE,
  OTHER,
  conversations,
  followConversations,
  isListed,
  keepConversation,
  settings,
} from './store.js';

/**
 * @typedef {import('./store.js').Conversation} Conversation
 * @typedef {import('./store.js').Answer} Answer
 * @typedef {import('./store.js').Run} Run
 * @typedef {{ turn: Answer, node: HTMLElement, views: AnswerView[], now?: AnswerView }} Shown now: who
 *   is writing
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
/** Whether it is of the newest answer. @param {Run} run */
export const isLast = (run) => shown.at(-1)?.turn.runs.includes(run) ?? false;
/** The answers that are on the page. */
export const shownRuns = () => shown.flatMap(({ turn }) => turn.runs);
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

/** @param {Conversation[]} gone */
export function removeConversations(gone) {
  const each = (/** @type {boolean} */ kept) => {
    for (const conversation of gone) keepConversation(conversation, kept).catch(notKept);
    changed();
  };
  each(false);
  if (gone.some(({ id }) => id === current.id)) openConversation();
  toast(
    gone.length === 1
      ? 'The conversation was deleted.'
      : `${count(gone.length, 'conversation')} were deleted.`,
    { label: 'Undo', run: () => each(true) },
  );
}
export const removeAll = () => removeConversations([...conversations]);

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
    const node = el('li', { class: 'turn user' });
    showQuestion(turn, node);
    list.append(node);
    return null;
  }
  const node = el('li', { class: 'turn assistant' });
  list.append(node);
  const entry = { turn, node, views: [] };
  shown.push(entry);
  rebuild(entry);
  return entry;
}

/** @param {import('./store.js').UserTurn} turn @param {HTMLElement} node */
function showQuestion(turn, node) {
  node.replaceChildren(
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
          el(
            'pre',
            { tabIndex: 0 },
            JSON.stringify(turn.shape.schema ?? turn.shape.tools, null, 1),
          ),
        ),
    ),
    el(
      'div',
      { class: 'actions' },
      iconButton('edit', 'Edit the question', () => editQuestion(turn, node)),
      iconButton('link', 'Copy a link to the question', (button) =>
        copy(linkTo(turn.content), button, 'link'),
      ),
    ),
  );
}

/**
 * What stood after the question goes.
 * @param {import('./store.js').UserTurn} turn
 * @param {HTMLElement} node
 */
function editQuestion(turn, node) {
  if (running) return;
  const text = el('textarea', { 'value': turn.content, 'aria-label': 'The question', 'rows': 3 });
  const back = () => {
    showQuestion(turn, node);
    node.querySelector('button')?.focus();
  };
  const form = el(
    'form',
    {
      class: 'edit',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        if (!text.value.trim() || running) return;
        const at = current.turns.indexOf(turn);
        if (at === 0) current.title = '';
        current.turns.splice(at);
        openConversation(current);
        ask(text.value.trim(), turn.shape);
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key !== 'Escape') return;
        event.stopPropagation();
        back();
      },
    },
    text,
    el(
      'div',
      { class: 'row' },
      el('button', { type: 'button', class: 'quiet', onclick: back }, 'Cancel'),
      el('button', { class: 'secondary' }, 'Ask again'),
    ),
  );
  node.replaceChildren(form);
  text.focus();
}

/**
 * @param {Parameters<typeof icon>[0]} name
 * @param {string} label
 * @param {(button: HTMLElement) => void} run
 * @param {string} [title]
 */
const iconButton = (name, label, run, title = label) =>
  el(
    'button',
    {
      'type': 'button',
      'class': 'icon-button small',
      title,
      'aria-label': label,
      'onclick': (/** @type {Event} */ event) =>
        run(/** @type {HTMLElement} */ (event.currentTarget)),
    },
    icon(name),
  );

/** @param {Shown} entry */
function rebuild(entry) {
  const { turn, node } = entry;
  entry.views = turn.runs.map((run) => new AnswerView(run));
  const columns = entry.views.map((view) =>
    el(
      'div',
      { class: 'run', onclick: () => select(view) },
      turn.runs.length > 1 && el('h2', { class: 'run-title' }, nameOfMode(view.run)),
      view.node,
      el('p', { class: 'run-figures' }),
    ),
  );
  node.replaceChildren(
    el('span', { class: 'hidden' }, 'Answer: '),
    el('div', { class: turn.compare ? 'runs compared' : 'runs' }, ...columns),
    el('div', { class: 'verdict note' }),
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
function refresh(entry) {
  const { turn, node, views } = entry;
  const busy = turn.runs.some((run) => run.running);
  showFigures(entry);
  node.querySelector('.trouble').replaceChildren(...(turn.error && !busy ? [troubleOf(turn)] : []));
  node.querySelector('.actions').replaceChildren(...(busy ? [] : actionsOf(turn, views)));
}

/** @param {Shown} entry */
function showFigures({ turn, node, views, now }) {
  views.forEach((view, i) => {
    const { run } = view;
    const line = node.querySelectorAll('.run-figures')[i];
    line.replaceChildren(
      ...(run.running && !run.tokens.length
        ? [
            el('span', { class: 'waiting' }, el('i'), el('i'), el('i')),
            now && now !== view ? 'Waits for its turn' : waitingFor(),
          ]
        : [figuresOf(run)]),
    );
  });
  const busy = turn.runs.some((run) => run.running);
  node
    .querySelector('.verdict')
    .replaceChildren(...(busy ? [] : [...verdicts(turn), ...roomOf(turn.runs[0])]));
}

/** @param {Run} run */
function figuresOf(run) {
  if (!run.tokens.length) return run.reason === 'abort' ? 'stopped' : '';
  const rate = speedOf(run);
  const parts = [
    count(run.tokens.length, 'token'),
    rate === null && run.running ? 'the model arrives' : `${speed(rate)}/s`,
  ];
  const ratio = ratioOf(run);
  if (ratio) parts.push(asFast(ratio));
  else if (!run.running && isMeasuring() && isMissing(run)) parts.push('measuring full');
  if (run.mode !== 'full') parts.push(savedWork(meanWork(run)));
  const { free } = sums(run);
  if (free) parts.push(`${free} of them free`);
  if (run.result?.drafted)
    parts.push(`${run.result.accepted} of ${run.result.drafted} drafts accepted`);
  if (run.reason === 'length')
    parts.push(isFull(run) ? 'the context is full' : 'reached its length');
  if (run.reason === 'abort') parts.push('stopped');
  return parts.join(' · ');
}

/** @param {Run} run */
const isFull = ({ room }) => room !== undefined && room.used >= room.of - 1;

const NEAR = 0.75; // of the context

/** The context's end is told before it comes. @param {Run | undefined} run */
function roomOf(run) {
  if (!run?.room) return [];
  const { used, of, dropped } = run.room;
  let line = '';
  if (dropped)
    line = `The oldest ${count(dropped, 'message')} were left out: the context holds ${of} tokens.`;
  else if (used > NEAR * of)
    line = `This conversation has used ${used} of the ${of} tokens that the context holds; after that its oldest messages are left out.`;
  return line ? [el('p', { class: 'room' }, line)] : [];
}

function waitingFor() {
  const { progress, state } = model;
  if (state === 'connecting') return 'Opening the model';
  if (state === 'arriving' && progress && progress.layersReady < progress.layers)
    return `Waiting for layer ${progress.layersReady + 1} of ${progress.layers}`;
  return 'Reading';
}

/** What a comparison shows. @param {Answer} turn */
function verdicts({ compare, runs }) {
  const full = runs.find(({ mode }) => mode === 'full');
  if (!compare || !full?.tokens.length) return [];
  const textOf = (/** @type {Run} */ run) => run.tokens.map(([text]) => text).join('');
  return runs.flatMap((run) => {
    if (run === full || !run.tokens.length) return [];
    const ratio = ratioOf(run);
    const fast = ratio ? `, ${asFast(ratio)}` : '';
    const same = textOf(run) === textOf(full);
    const words = same ? 'the same words as full' : 'other words than full';
    if (run.mode === 'lossless')
      return el(
        'p',
        {},
        `Lossless: ${full.reason === 'abort' ? 'full was stopped' : words}${fast}.`,
      );
    const n = count(run.tokens.length, 'token');
    const others = run.tokens.filter(([, , , , , , , marks = 0]) => marks & OTHER).length;
    const checked = others
      ? `${others} of its ${n} ${others === 1 ? 'is' : 'are'} underlined: there the full model would have chosen another one, and from the first of them on the texts go their own ways`
      : `the full model would have chosen each of its ${n}`;
    const said = run.checked ? checked : `${words}, not checked token by token`;
    return el('p', {}, `Exit: ${savedWork(meanWork(run))}${fast}; ${said}.`);
  });
}

/** @param {Answer} turn @param {AnswerView[]} views */
function actionsOf(turn, views) {
  const text = turn.runs[0]?.text ?? '';
  const again = current.turns.at(-1) === turn && !turn.error;
  return [
    text && iconButton('copy', 'Copy the answer', (button) => copy(text, button), 'Copy'),
    again && iconButton('retry', 'Answer again', () => retry(), 'Try again'),
    text &&
      iconButton(
        'chart',
        'Charts of this answer',
        () => {
          select(views[0]);
          document.dispatchEvent(new Event('show-insight'));
        },
        'Charts',
      ),
    again && model.lm?.exits && otherModes(turn),
  ].filter(Boolean);
}

/** @type {Record<string, string>} */
const MODES = { exit: 'Exit', lossless: 'Lossless', full: 'Full' };

/** The same question in another mode. @param {Answer} turn */
const otherModes = ({ runs, compare }) =>
  el(
    'span',
    { 'class': 'again', 'role': 'group', 'aria-label': 'Answer again in another mode' },
    ...Object.entries(MODES)
      .filter(([mode]) => compare || mode !== runs[0].mode)
      .map(([mode, name]) =>
        el(
          'button',
          {
            type: 'button',
            class: 'quiet',
            title: `Answer again in mode ${mode}`,
            onclick: () => retry(mode),
          },
          name,
        ),
      ),
  );

/**
 * @param {string} text
 * @param {HTMLElement} button
 * @param {Parameters<typeof icon>[0]} [name] its icon
 */
async function copy(text, button, name = 'copy') {
  try {
    await navigator.clipboard.writeText(text);
    button.replaceChildren(icon('done'));
    announce('Copied');
    setTimeout(() => button.replaceChildren(icon(name)), 1500);
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

/** Answers the last question again. @param {string} [mode] */
export async function retry(mode) {
  if (running) return;
  if (current.turns.at(-1)?.role === 'assistant') {
    current.turns.pop();
    shown.pop()?.node.remove();
  }
  await answer(settings.compare && !mode, mode);
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

/** @param {boolean} compare @param {string} [mode] that of the settings if left out */
async function answer(compare, mode = settings.mode) {
  stopMeasuring();
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
    const all = compare && lm.exits !== null;
    turn.compare = all;
    turn.runs = (all ? ['lossless', 'full', 'exit'] : [lm.exits ? mode : 'full']).map(blank);
    for (const run of turn.runs)
      Object.assign(run, { of: lm.info.layers, exits: lm.exits?.layers ?? [] });
    rebuild(entry);
    for (const view of entry.views) {
      if (stopped) {
        Object.assign(view.run, { running: false, reason: 'abort' });
        continue;
      }
      if (current === conversation) select(view);
      entry.now = view;
      const { name, ...shape } = question?.shape ?? { name: '' };
      const options = { ...optionsOf(view.run), ...shape };
      const reply = lm.chat(asked, options);
      stopReply = () => reply.cancel();
      await follow(reply, view, entry);
      view.run.room = roomIn(view.run.result, lm);
      if (!all || view.run.mode !== 'exit' || stopped) continue;
      const { seed } = view.run.result;
      const audit = lm.chat(asked, {
        ...options,
        ...(seed === null ? {} : { seed: BigInt(seed) }),
        maxTokens: view.run.tokens.length,
        audit: 1,
      });
      stopReply = () => audit.cancel();
      await markOthers(audit, view.run);
    }
    const rate = turn.runs.filter((run) => run.mode === 'full').map(speedOf)[0];
    if (all && rate) for (const run of turn.runs) run.full = rate;
    if (current === conversation && all) select(entry.views[0]);
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
    entry.now = undefined;
    if (running === mine) running = null;
    for (const view of entry.views) {
      view.drafts = [];
      view.show(settings.view);
    }
    refresh(entry);
    if (isListed(conversation)) keep(conversation);
    else changed();
    toEnd();
    const said = turn.error ?? (stopped ? 'Stopped' : 'The answer is complete');
    announce([said, ...roomOf(turn.runs[0]).map((line) => line.textContent)].join('. '));
    measureShown();
  }
}

/** @param {any} result @param {import('./model.js').ExitLM} lm */
const roomIn = ({ usage, dropped = 0 }, lm) => ({
  used: usage.promptTokens + usage.completionTokens,
  of: lm.info.contextLength,
  dropped,
});

/**
 * The reply once more, each exit beside the full model's choice: marks where that is another.
 * @param {import('../src/client/reply.js').Reply<any>} reply
 * @param {Run} run
 */
async function markOthers(reply, run) {
  /** @type {any[]} */
  const tokens = [];
  for await (const token of reply) tokens.push(token);
  const { reason } = await reply.result;
  const same = run.tokens.every(([text], i) => tokens[i]?.text + (tokens[i]?.call ?? '') === text);
  if (reason === 'abort' || !same) return;
  run.tokens.forEach((row, i) => {
    if (tokens[i].disagreed) row[7] = (row[7] ?? 0) | OTHER;
  });
  run.checked = true;
}

/**
 * The last answer's speed beside that of the full model, once nobody waits for anything.
 * @param {boolean} [anew] on request
 */
export async function measureShown(anew = false) {
  const entry = shown.at(-1);
  const [run] = entry?.turn.runs ?? [];
  if (running || !entry || !run || (!anew && !isMissing(run))) return;
  const conversation = current;
  const question = current.turns.findLast(({ role }) => role === 'user');
  const asked = /** @type {import('./store.js').UserTurn} */ (question)?.content ?? '';
  const measured = measure(run, [{ role: 'user', content: asked }], optionsOf, anew);
  showFigures(entry);
  await measured;
  showFigures(entry);
  for (const each of anew ? entry.turn.runs : []) each.full = run.full;
  if (selected && entry.views.includes(selected)) select(selected);
  if (run.full && isListed(conversation)) keep(conversation);
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
  let arriving = model.state !== 'ready'; // when the token began
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
        ...(event.forced || arriving
          ? [(event.forced ? FREE : 0) | (arriving ? ARRIVING : 0)]
          : []),
      ]);
      arriving = model.state !== 'ready';
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
  const rate = speedOf(run);
  if (run.mode === 'full' && rate && run.tokens.length >= 8) rememberFull(rate);
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
