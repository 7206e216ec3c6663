// Choosing a model: one of the catalogue, an address, a file of this device.
import { byId, el, megabytes, sentenceOf, toast } from './dom.js';
import { ExitLM, fileChoice, isKept, model, urlChoice } from './model.js';

/**
 * @typedef {import('./model.js').Choice} Choice
 * @typedef {import('./model.js').CatalogueChoice} CatalogueChoice
 */

const dialog = byId('models');

/** @param {CatalogueChoice[] | Error} entries */
export function connectModels(entries) {
  byId('open-models').addEventListener('click', () => open(entries));
  byId('url-form').addEventListener('submit', (/** @type {Event} */ event) => {
    event.preventDefault();
    const input = byId('model-url');
    try {
      if (!input.value.trim()) throw new Error('an address is missing');
      take(urlChoice(input.value));
    } catch {
      input.setCustomValidity('That is no address of a file.');
      input.reportValidity();
    }
  });
  byId('model-url').addEventListener('input', (/** @type {Event} */ event) =>
    /** @type {HTMLInputElement} */ (event.target).setCustomValidity(''),
  );
  const input = byId('file');
  input.addEventListener('change', () => {
    takeFiles([...input.files]);
    input.value = '';
  });
  connectDrop();
}

/** @param {Choice} choice */
function take(choice) {
  dialog.close();
  model.load(choice).catch(() => {}); // the page shows how it goes
}

/** @param {File[]} files */
function takeFiles(files) {
  try {
    take(fileChoice(files));
  } catch (error) {
    toast(sentenceOf(error));
  }
}

/** Files may be dropped anywhere on the page. */
function connectDrop() {
  let depth = 0;
  const carriesFiles = (/** @type {DragEvent} */ event) =>
    event.dataTransfer?.types.includes('Files');
  const over = (/** @type {boolean} */ on) =>
    document.documentElement.classList.toggle('dropping', on);
  addEventListener('dragenter', (event) => {
    if (carriesFiles(event)) over(++depth > 0);
  });
  addEventListener('dragleave', (event) => {
    if (carriesFiles(event)) over(--depth > 0);
  });
  addEventListener('dragover', (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  addEventListener('drop', (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    over(false);
    takeFiles([.../** @type {DataTransfer} */ (event.dataTransfer).files]);
  });
}

/** @param {CatalogueChoice[] | Error} entries */
function open(entries) {
  const list = byId('catalogue');
  if (entries instanceof Error)
    list.replaceChildren(el('li', { class: 'note' }, sentenceOf(entries)));
  else list.replaceChildren(...entries.map(row));
  about();
  dialog.showModal();
}

/** @param {CatalogueChoice} entry */
function row(entry) {
  const state = el('span', { class: 'note' });
  const answer = el('p', { class: 'note', role: 'status' });
  const current =
    model.choice?.kind === 'catalogue' && model.choice.name === entry.name && model.lm;
  if (current) state.textContent = 'in use';
  else
    isKept(entry).then((kept) => {
      if (kept) state.textContent = 'on this device';
    });
  const facts = [
    entry.parameters && millions(entry.parameters),
    entry.quantisation,
    megabytes(entry.bytes),
    entry.licence,
  ]
    .filter(Boolean)
    .join(' · ');
  const check = el(
    'button',
    {
      type: 'button',
      class: 'quiet',
      onclick: async () => {
        check.disabled = true;
        answer.textContent = 'Reading its header…';
        try {
          const { runs, reason } = await ExitLM.check(entry.url);
          answer.textContent = sentenceOf(runs ? reason : `it does not run here: ${reason}`);
        } catch (error) {
          answer.textContent = sentenceOf(error);
        }
        check.disabled = false;
      },
    },
    'Will it run here?',
  );
  return el(
    'li',
    { class: 'entry' },
    el(
      'div',
      { class: 'entry-text' },
      el('strong', {}, entry.title),
      ' ',
      state,
      el('p', { class: 'note' }, facts),
      answer,
    ),
    el(
      'div',
      { class: 'row' },
      check,
      el(
        'button',
        { type: 'button', class: 'primary', onclick: () => take(entry) },
        current ? 'Load again' : 'Load',
      ),
    ),
  );
}

/** @param {number} n */
const millions = (n) =>
  `${n >= 1e7 ? Math.round(n / 1e6) : Math.round(n / 1e5) / 10} million parameters`;

/** What is loaded. */
function about() {
  const box = byId('model-about');
  const { lm } = model;
  if (!lm) return box.replaceChildren();
  const { info, exits } = lm;
  const lines = [
    [
      'Model',
      `${info.name}, ${info.architecture}, ${info.layers} layers, ${millions(info.parameters)}`,
    ],
    [
      'Exit heads',
      exits ? `after layer ${exits.layers.join(', ')}` : 'none: every token runs all layers',
    ],
    ['Context', `${info.contextLength} tokens`],
    ['Memory', megabytes(info.memory.total)],
    ['Runs on', `${info.kernel}, ${info.threads === 1 ? 'one thread' : `${info.threads} threads`}`],
    ['Licence', info.licence || 'not stated'],
  ];
  box.replaceChildren(
    el('h3', {}, 'In use'),
    el(
      'dl',
      { class: 'facts' },
      ...lines.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]),
    ),
  );
}
