// The page: puts its parts together.
import { AnswerView, hideTooltip, listenForTokens } from './answer.js';
import {
  ask,
  connectChat,
  currentConversation,
  isLast,
  isRunning,
  measureShown,
  openConversation,
  redraw,
  redrawWaiting,
  removeAll,
  removeConversations,
  setSelected,
  shownRuns,
  stop,
} from './chat.js';
import { byId, count, el, icon, megabytes, percent, sentenceOf, throttled } from './dom.js';
import { drawInsight, drawLegend } from './insight.js';
import { catalogue, choiceOfLastVisit, isKept, model, urlChoice, wantedAccuracy } from './model.js';
import { connectModels } from './models-dialog.js';
import { asFast, meanWork, ratioOf, savedWork } from './scale.js';
import { fillSettings } from './settings.js';
import { SUGGESTIONS } from './shapes.js';
import { readLink } from './share.js';
import { change, changeBack, conversations, onChange, settings } from './store.js';

const wide = matchMedia('(min-width: 64rem)');

// ---- the model ----

const drawModel = throttled(() => {
  const { choice, state, progress, lm, error } = model;
  byId('model-name').textContent = choice?.title ?? 'Choose a model';
  byId('model-dot').dataset.state = state;
  byId('open-models').setAttribute(
    'aria-label',
    `Model: ${choice?.title ?? 'none'}, ${STATES[state]}. Choose another`,
  );
  const loading = byId('loading');
  loading.hidden = state === 'none' || state === 'ready';
  loading.dataset.state = state;
  if (!loading.hidden) {
    byId('loading-title').textContent =
      state === 'failed'
        ? `${choice?.title ?? 'The model'} could not be loaded`
        : `Loading ${choice?.title}`;
    byId('loading-cancel').textContent = state === 'failed' ? 'Try again' : 'Cancel';
    byId('loading-text').textContent = state === 'failed' ? sentenceOf(error) : progressText();
    drawLayers(state === 'failed' ? null : progress);
  }
  const welcome = byId('welcome-load');
  welcome.hidden = !choice || state !== 'none';
  if (choice)
    welcome.textContent = `Load ${choice.title}${choice.kind === 'catalogue' ? ` (${megabytes(choice.bytes)})` : ''}`;
  const about = lm?.exits
    ? ''
    : 'This model has no exit heads here, so every token runs all of its layers.';
  const kept = choice ? 'It is kept on this device for the next time.' : '';
  byId('welcome-note').textContent = lm ? about : kept;
  drawWarnings();
  drawChips();
  redrawWaiting();
  if (state === 'ready') measureShown();
}, 60);

/** What did not go as it should, and does not stop anything: no room to keep the model, for example. */
function drawWarnings() {
  const box = byId('warnings');
  const texts = model.warnings.map(sentenceOf);
  if (box.dataset.shown === texts.join()) return;
  box.dataset.shown = texts.join();
  box.hidden = !texts.length;
  box.replaceChildren(
    el('div', {}, ...texts.map((text) => el('p', {}, text))),
    el('button', { type: 'button', class: 'quiet', onclick: () => (box.hidden = true) }, 'Hide'),
  );
}

const STATES = {
  none: 'not loaded',
  connecting: 'opening',
  arriving: 'arriving',
  ready: 'ready',
  failed: 'failed',
};

function progressText() {
  const { progress, state, began } = model;
  if (!progress || !progress.total) return 'Opening…';
  const { loaded, total, layersReady, layers, source, bytesPerSecond } = progress;
  const seconds = (performance.now() - began) / 1000;
  const rate = bytesPerSecond || loaded / seconds;
  const left = rate > 0 ? (total - loaded) / rate : 0;
  const parts = [
    `${layersReady} of ${count(layers, 'layer')}`,
    `${megabytes(loaded).replace(' MB', '')} of ${megabytes(total)}`,
  ];
  if (source === 'network' && rate > 0 && seconds > 0.5) parts.push(`${megabytes(rate)}/s`);
  if (source === 'network' && left > 1.5)
    parts.push(left > 90 ? `${Math.round(left / 60)} min left` : `${Math.round(left)} s left`);
  if (source === 'cache') parts.push('from this device');
  if (state === 'arriving') parts.push(loaded < total ? 'you can ask already' : 'checking it');
  return parts.join(' · ');
}

/**
 * A cell for each layer, filled as they arrive. @param {import('../src/link/types.js').Progress |
 * null} progress
 */
function drawLayers(progress) {
  const box = byId('loading-layers');
  const layers = progress?.layers ?? 0;
  if (box.childElementCount !== layers)
    box.replaceChildren(
      ...Array.from({ length: layers }, (_, i) =>
        el('i', { 'data-step': Math.round((10 * i) / Math.max(1, layers - 1)) }),
      ),
    );
  [...box.children].forEach((cell, i) =>
    cell.classList.toggle('here', i < (progress?.layersReady ?? 0)),
  );
  const share = progress?.total ? progress.loaded / progress.total : 0;
  box.style.setProperty('--share', String(share));
  box.setAttribute('aria-valuenow', String(Math.round(100 * share)));
  box.setAttribute('aria-valuetext', progressText());
}

function drawChips() {
  const heads = !model.lm || model.lm.exits !== null;
  const mode = heads ? settings.mode : 'full';
  const accuracy = wantedAccuracy();
  const other = mode === 'lossless' ? 'Lossless' : 'Full';
  byId('mode-chip').textContent =
    mode === 'exit'
      ? ['Exit', ...(accuracy === null ? [] : [percent(accuracy)])].join(', ')
      : other;
  byId('mode-chip').setAttribute(
    'aria-label',
    `Mode: ${byId('mode-chip').textContent}. Change it in the settings`,
  );
  const compare = byId('compare');
  compare.disabled = !heads;
  compare.checked = heads && settings.compare;
  compare.closest('label').title = heads
    ? 'The same question in both modes, side by side'
    : 'This model has no exit heads here: there is nothing to compare';
  const runs = shownRuns().filter(({ tokens, running }) => tokens.length && !running);
  byId('legend').hidden = settings.view === 'text' || !runs.length;
  drawLegend(byId('legend'), runs);
}

// ---- before anything is loaded: an answer of another day ----

async function showRecorded() {
  const { run, question, about } = await (
    await fetch(new URL('./recorded.json', import.meta.url))
  ).json();
  const view = new AnswerView(run);
  view.show('depth');
  byId('recorded').append(
    el('p', { class: 'recorded-figures' }, `${savedWork(meanWork(run))}, ${asFast(ratioOf(run))}.`),
    el('p', { class: 'recorded-question' }, question),
    view.node,
    el('div', { class: 'legend', id: 'recorded-legend' }),
    el('p', { class: 'note' }, about),
  );
  drawLegend(byId('recorded-legend'), [run]);
  byId('recorded').hidden = false;
}

// ---- charts and conversations at the side ----

/** @type {import('./answer.js').AnswerView | null} */
let charted = null;
const drawCharts = throttled(() => {
  if (byId('insight').hidden) return;
  const run = charted?.run;
  // A long answer's charts grow by a sixteenth at a time: all of them together cost what it is long.
  const grown = Number(run?.tokens.length) - drawn.tokens;
  if (run?.running && run === drawn.run && grown < drawn.tokens / 16) return;
  drawn = { run, tokens: run?.tokens.length ?? 0 };
  const can = model.state === 'ready' && run && !run.running && isLast(run);
  drawInsight(byId('charts'), charted, can ? () => measureShown(true) : null);
}, 150);
/** @type {{ run?: import('./store.js').Run, tokens: number }} */
let drawn = { tokens: 0 };

/** @param {string} id @param {boolean} open @param {boolean} [focus] */
function side(id, open, focus = false) {
  byId(id).hidden = !open;
  byId(`open-${id}`).setAttribute('aria-expanded', String(open));
  document.documentElement.classList.toggle(`with-${id}`, open);
  if (id === 'insight') {
    if (open) drawCharts.flush();
    if (wide.matches && focus) change({ insight: open });
  }
  if (open && !wide.matches) side(id === 'insight' ? 'history' : 'insight', false);
  if (open && focus) byId(id).querySelector('button, [tabindex]')?.focus();
}

function drawHistory() {
  byId('history-list').replaceChildren(
    ...conversations.map((conversation) =>
      el(
        'li',
        {},
        el(
          'button',
          {
            'type': 'button',
            'class': 'conversation ellipsis',
            'aria-current': conversation.id === currentConversation().id ? 'true' : undefined,
            'onclick': () => {
              openConversation(conversation);
              if (!wide.matches) side('history', false);
            },
          },
          conversation.title || 'Untitled',
        ),
        el(
          'button',
          {
            'type': 'button',
            'class': 'icon-button small',
            'aria-label': `Delete “${conversation.title}”`,
            'title': 'Delete',
            'onclick': () => removeConversations([conversation]),
          },
          icon('trash'),
        ),
      ),
    ),
  );
  byId('history-clear').hidden = conversations.length < 2;
  byId('history-note').textContent = conversations.length
    ? 'They stay on this device.'
    : 'What you ask is kept here, on this device only.';
}

// ---- asking ----

const prompt = byId('prompt');

function grow() {
  prompt.style.height = 'auto';
  prompt.style.height = `${Math.min(prompt.scrollHeight, 0.4 * innerHeight)}px`;
  drawSend();
}

function drawSend() {
  const busy = isRunning();
  const button = byId('send');
  button.dataset.busy = String(busy);
  button.setAttribute('aria-label', busy ? 'Stop' : 'Send');
  button.title = busy ? 'Stop (Escape)' : 'Send (Enter)';
  button.disabled = !busy && (!prompt.value.trim() || !model.choice);
}

function send() {
  if (isRunning()) return stop();
  const text = prompt.value.trim();
  if (!text) return;
  if (!model.choice) return byId('open-models').click();
  const { shape } = SUGGESTIONS.find((suggestion) => suggestion.text === text) ?? {};
  prompt.value = '';
  grow();
  ask(text, shape);
}

function connectComposer() {
  byId('composer').addEventListener('submit', (/** @type {Event} */ event) => {
    event.preventDefault();
    send();
  });
  prompt.addEventListener('input', grow);
  prompt.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
    // there Enter is a new line, the button sends
    const phone = matchMedia('(pointer: coarse)').matches;
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || phone) return;
    event.preventDefault();
    if (!isRunning()) send();
  });
  addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || document.querySelector('dialog[open]')) return;
    hideTooltip();
    if (isRunning()) stop();
    else if (!wide.matches)
      for (const id of ['history', 'insight']) {
        if (byId(id).hidden) continue;
        side(id, false);
        byId(`open-${id}`).focus();
      }
  });
  byId('suggestions').append(
    ...SUGGESTIONS.map(({ text, label = text }) =>
      el(
        'button',
        {
          type: 'button',
          class: 'suggestion',
          onclick: () => {
            prompt.value = text;
            grow();
            if (model.choice) send();
            else prompt.focus();
          },
        },
        label,
      ),
    ),
  );
}

// ---- the start ----

/** A question by link waits in the field: what it is and how it would be asked is seen first. */
function takeLink() {
  const link = readLink(location.hash);
  if (!link) return;
  history.replaceState(null, '', location.href.split('#')[0]);
  openConversation();
  prompt.value = link.text;
  grow();
  changeBack();
  change(link.changes, false);
  const told = Object.entries(link.changes).map(([name, value]) => `${name} ${value}`);
  byId('linked-text').textContent = [
    'This question came by a link. It is asked when you send it',
    ...(told.length ? [`with ${told.join(', ')}`] : []),
  ].join(', ');
  byId('linked').hidden = false;
}

function applyTheme() {
  if (settings.theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = settings.theme;
}

function connectSettings() {
  const dialog = byId('settings');
  const open = () => {
    fillSettings();
    dialog.showModal();
  };
  byId('open-settings').addEventListener('click', open);
  byId('mode-chip').addEventListener('click', open);
  for (const each of document.querySelectorAll('dialog')) {
    // beside it
    each.addEventListener('click', (event) => {
      if (event.target === each) each.close();
    });
  }
  for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (
    document.querySelectorAll('[name=view]')
  )) {
    input.checked = input.value === settings.view;
    input.addEventListener('change', () => change({ view: input.value }));
  }
  byId('compare').addEventListener('change', () => change({ compare: byId('compare').checked }));
  onChange((changes) => {
    if ('theme' in changes) applyTheme();
    if ('view' in changes) redraw();
    drawChips();
  });
}

async function start() {
  showRecorded().catch(() => {});
  applyTheme();
  connectSettings();
  connectComposer();
  listenForTokens();
  connectChat({
    select: (view) => {
      charted = view;
      setSelected(view);
      drawCharts();
    },
    changed: () => {
      drawHistory();
      drawSend();
      drawChips();
    },
  });
  model.addEventListener('change', drawModel);
  byId('history-clear').addEventListener('click', removeAll);
  byId('linked-back').addEventListener('click', () => {
    changeBack();
    byId('linked').hidden = true;
    prompt.focus();
  });
  addEventListener('hashchange', takeLink);
  byId('new-chat').addEventListener('click', () => {
    openConversation();
    prompt.focus();
  });
  for (const id of ['history', 'insight'])
    byId(`open-${id}`).addEventListener('click', () => side(id, byId(id).hidden, true));
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (
    document.querySelectorAll('[data-close]')
  )) {
    const id = /** @type {string} */ (button.dataset.close);
    button.addEventListener('click', () => {
      side(id, false);
      byId(`open-${id}`).focus();
    });
  }
  wide.addEventListener('change', () => {
    side('history', false);
    side('insight', wide.matches && settings.insight);
  });
  document.addEventListener('show-insight', () => side('insight', true));
  byId('loading-cancel').addEventListener('click', () => {
    if (model.state === 'failed' && model.choice) model.load(model.choice).catch(() => {});
    else model.unload();
  });
  byId('welcome-load').addEventListener('click', () => {
    if (model.choice) model.load(model.choice).catch(() => {});
    prompt.focus();
  });
  side('insight', wide.matches && settings.insight);
  openConversation();
  grow();
  takeLink();
  const entries = await catalogue().catch((error) => /** @type {Error} */ (error));
  connectModels(entries);
  const parameters = new URLSearchParams(location.search);
  const asked = parameters.get('model');
  const list = entries instanceof Error ? [] : entries;
  const choice =
    (asked &&
      (list.find(({ name }) => name === asked) ?? addressOf(asked, parameters.get('heads')))) ||
    choiceOfLastVisit(list) ||
    list[0];
  if (choice) model.choose(choice);
  drawModel();
  drawSend();
  // `get`: somebody may have asked by now, and it is loading.
  if (choice && (await isKept(choice))) model.get().catch(() => {});
  prompt.focus({ preventScroll: true });
}

/** `?model=ADDRESS&heads=ADDRESS` @param {string} address @param {string | null} heads */
function addressOf(address, heads) {
  try {
    return {
      ...urlChoice(address),
      ...(heads ? { heads: new URL(heads, document.baseURI).href } : {}),
    };
  } catch {
    return null;
  }
}

start();
