// The settings dialog. A change counts at once, for the next answer.
import { byId, el, megabytes, percent } from './dom.js';
import { ExitLM, model, wantedAccuracy } from './model.js';
import { DEFAULTS, change, settings } from './store.js';

const body = byId('settings-body');

/** @param {string} name @param {any} control @param {string | HTMLElement | null} [note] */
function field(name, control, note) {
  const id = `setting-${name.toLowerCase().replace(/\W+/g, '-')}`;
  control.id = id;
  const about = note ? el('p', { class: 'note', id: `${id}-note` }, note) : null;
  if (about) control.setAttribute('aria-describedby', about.id);
  return el('div', { class: 'setting' }, el('label', { for: id }, name), control, about);
}

/**
 * @param {string} name
 * @param {'accuracy' | 'temperature' | 'topP' | 'repeatPenalty'} key
 * @param {{ min: number, max: number, step: number, show: (value: number) => string, note?: string
 *   | HTMLElement, disabled?: boolean, value?: number }} options
 */
function slider(
  name,
  key,
  { min, max, step, show, note, disabled = false, value = settings[key] ?? max },
) {
  const output = el('output', {}, show(value));
  const input = el('input', {
    'type': 'range',
    min,
    max,
    step,
    disabled,
    value,
    'aria-valuetext': show(value),
    'oninput': () => {
      const chosen = Number(input.value);
      change({ [key]: chosen });
      output.textContent = show(chosen);
      input.setAttribute('aria-valuetext', show(chosen));
    },
  });
  const made = field(name, input, note);
  made.querySelector('label').append(output);
  return made;
}

const MODES = /** @type {const} */ ([
  ['exit', 'Exit', 'Each token stops where its answer is sure. Fastest.'],
  ['lossless', 'Lossless', 'Exits draft, the full model verifies: the same words as full.'],
  ['full', 'Full', 'Every token runs every layer: the reference.'],
]);

function modes() {
  const heads = !model.lm || model.lm.exits !== null;
  return el(
    'fieldset',
    { class: 'choices' },
    el('legend', {}, 'Mode'),
    ...MODES.map(([value, name, about]) =>
      el(
        'label',
        { class: 'choice' },
        el('input', {
          type: 'radio',
          name: 'mode',
          value,
          checked: (heads ? settings.mode : 'full') === value,
          disabled: !heads && value !== 'full',
          onchange: () => {
            change({ mode: value });
            fillSettings();
            byId('settings').querySelector(`[name=mode][value=${value}]`).focus();
          },
        }),
        el('span', {}, el('strong', {}, name), el('span', { class: 'note' }, about)),
      ),
    ),
    !heads &&
      el(
        'p',
        { class: 'note warning' },
        'This model has no exit heads here, so every token runs all of its layers.',
      ),
  );
}

/** What the calibration promises at the accuracy that is chosen. */
function promise() {
  const levels =
    model.lm?.exits?.levels.filter(({ strategy, certified }) => strategy === 'risk' && certified) ??
    [];
  const accuracy = wantedAccuracy();
  const meaning = (/** @type {number} */ share) =>
    `${Math.round(share * 100)} % means: of a hundred tokens about ${Math.round(share * 100)} are those that the full model would have chosen at the same place, and from the first other one on the texts may go their own ways.`;
  if (!model.lm?.exits || accuracy === null) return meaning(accuracy ?? 0.95);
  const level = levels
    .filter((l) => l.accuracy >= accuracy - 1e-6)
    .sort((a, b) => a.accuracy - b.accuracy)[0];
  if (!level)
    return `No level of ${percent(accuracy)} could be certified for this model: nothing exits early.`;
  return `${meaning(accuracy)} At the level ${percent(level.accuracy)}, ${level.conversations} conversations measured ${(level.agreement * 100).toFixed(1)} %.${answersKept(level.accuracy)}`;
}

/**
 * What a level costs in answers, where somebody has counted it for this model. @param {number}
 * accuracy
 */
function answersKept(accuracy) {
  const tasks = model.choice?.kind === 'catalogue' ? model.choice.tasks : undefined;
  const right = tasks?.levels.find(([level]) => Math.abs(level - accuracy) < 1e-6)?.[1];
  return tasks && right !== undefined
    ? ` Of ${tasks.of} small tasks with one right answer it gets ${right} right, the full model ${tasks.full}.`
    : '';
}

export function fillSettings() {
  const heads = !model.lm || model.lm.exits !== null;
  const system = el('textarea', {
    rows: 3,
    value: settings.system,
    placeholder: 'The model’s own',
    oninput: () => change({ system: system.value }),
  });
  const length = el('input', {
    type: 'number',
    min: 1,
    max: 8192,
    step: 1,
    value: settings.maxTokens,
    inputMode: 'numeric',
    onchange: () => {
      change({
        maxTokens: Math.max(
          1,
          Math.min(8192, Math.round(Number(length.value)) || DEFAULTS.maxTokens),
        ),
      });
      length.value = String(settings.maxTokens);
    },
  });
  const seed = el('input', {
    type: 'text',
    inputMode: 'numeric',
    value: settings.seed,
    placeholder: 'a new one each time',
    onchange: () => {
      const value = seed.value.trim();
      change({ seed: /^\d{1,15}$/.test(value) ? value : '' });
      seed.value = settings.seed;
    },
  });
  const theme = el(
    'select',
    { onchange: () => change({ theme: theme.value }) },
    ...[
      ['auto', 'As the system'],
      ['light', 'Light'],
      ['dark', 'Dark'],
    ].map(([value, name]) => el('option', { value, selected: settings.theme === value }, name)),
  );
  const promiseNote = el('span', {}, promise());
  const accuracy = slider('Accuracy', 'accuracy', {
    min: 0.8,
    max: 0.99,
    step: 0.01,
    show: percent,
    note: promiseNote,
    disabled: !heads || settings.mode !== 'exit',
    value: wantedAccuracy() ?? undefined,
  });
  accuracy.querySelector('input').addEventListener('input', () => {
    promiseNote.textContent = promise();
  });
  body.replaceChildren(
    field('System prompt', system),
    modes(),
    accuracy,
    slider('Temperature', 'temperature', {
      min: 0,
      max: 1.5,
      step: 0.05,
      show: (v) => (v === 0 ? '0, the likeliest token' : v.toFixed(2)),
      note: 'At 0 a model of this size now and then says the same again and again: 2 of 16 questions in full, 3 with exits.',
    }),
    field('Longest answer, in tokens', length),
    el(
      'details',
      {},
      el('summary', {}, 'More'),
      el(
        'div',
        { class: 'stack' },
        slider('Top p', 'topP', { min: 0.1, max: 1, step: 0.01, show: (v) => v.toFixed(2) }),
        slider('Repeat penalty', 'repeatPenalty', {
          min: 1,
          max: 1.5,
          step: 0.01,
          show: (v) => v.toFixed(2),
        }),
        field(
          'Seed',
          seed,
          'The same seed gives the same answer, where the temperature is above 0.',
        ),
      ),
    ),
    field('Theme', theme),
    kept(),
  );
}

/** Models on this device, and a way to remove them. */
function kept() {
  const box = el(
    'section',
    { class: 'setting' },
    el('h3', {}, 'On this device'),
    el('p', { class: 'note' }, 'Looking…'),
  );
  ExitLM.cache.list().then(
    (entries) => {
      if (!entries.length)
        return box.lastChild.replaceWith(el('p', { class: 'note' }, 'No models are kept.'));
      box.lastChild.replaceWith(
        el(
          'ul',
          { class: 'kept' },
          ...entries.map(({ url, bytes, complete }) => {
            const row = el(
              'li',
              {},
              el('span', { class: 'ellipsis', title: url }, url.split('/').pop()),
              el('span', { class: 'note' }, `${megabytes(bytes)}${complete ? '' : ', not all'}`),
              el(
                'button',
                {
                  'type': 'button',
                  'class': 'quiet',
                  'aria-label': `Delete ${url.split('/').pop()}`,
                  'onclick': async () => {
                    await ExitLM.cache.delete(url);
                    row.remove();
                  },
                },
                'Delete',
              ),
            );
            return row;
          }),
        ),
      );
    },
    () =>
      box.lastChild.replaceWith(
        el('p', { class: 'note' }, 'This browser keeps nothing for the page.'),
      ),
  );
  return box;
}
