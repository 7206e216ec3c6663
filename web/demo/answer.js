// The text of one answer, in the view that is chosen: plain, coloured by the work that was saved, or
// token by token.
import { announce, el } from './dom.js';
import { render } from './markdown.js';
import { nameOfHead, stepOf } from './scale.js';
import { FREE, OTHER } from './store.js';

/** The last block is read again when it has grown by so much of itself: all that is ever read is then
 * at most so many times the answer. Until then what is new stands behind it as it came. */
const GROWN = 1 / 32;

/**
 * @typedef {import('./store.js').Run} Run
 * @typedef {import('./store.js').Row} Row
 * @typedef {{ index: number, text: string, accepted: boolean }} Draft a token that is not verified
 *   yet
 */

export class AnswerView {
  /** @type {Draft[]} */ drafts = [];
  /** Where each token begins in the text. @type {number[]} */ #starts = [];
  #length = 0;
  #known = 0; // tokens that are in #starts
  #shown = 0; // tokens that are in the token view
  #view = '';
  #active = -1;
  #read = 0; // characters that are in blocks
  /** Those after them, as they came. @type {HTMLElement} */ #new = el('span', {});
  #newFrom = 0; // the token that #new begins with

  /** @param {Run} run */
  constructor(run) {
    this.run = run;
    this.body = el('div', { class: 'answer-body' });
    this.pending = el('span', { 'class': 'drafts', 'aria-hidden': 'true' });
    this.node = el('div', { class: 'answer' }, this.body);
    this.node.answer = this;
    this.node.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) =>
      this.#onKey(event),
    );
  }

  /** @param {string} view */
  show(view) {
    const { run } = this;
    for (; this.#known < run.tokens.length; this.#known++) {
      this.#starts.push(this.#length);
      this.#length += run.tokens[this.#known][0].length;
    }
    const usable = run.tokens.length ? view : 'text';
    // The checks of a comparison come when the answer is there.
    if (usable !== this.#view || (run.checked && this.node.dataset.checked === undefined)) {
      if (run.checked) this.node.dataset.checked = '';
      this.body.replaceChildren();
      this.body.blocks = undefined;
      this.#shown = 0;
      this.#read = 0;
      this.#view = usable;
      this.node.dataset.view = usable;
      const reads = usable !== 'text';
      for (const [name, value] of Object.entries({
        'tabindex': '0',
        'role': 'group',
        'aria-label': 'Answer. Left and right arrows go through its tokens.',
      })) {
        if (reads) this.node.setAttribute(name, value);
        else this.node.removeAttribute(name);
      }
    }
    if (usable === 'tokens') this.#showTokens();
    else this.#showMarkdown(usable);
    this.#showDrafts();
  }

  /** @param {string} view */
  #showMarkdown(view) {
    const { text, running = false } = this.run;
    const block = this.#read - (this.body.blocks?.at(-1)?.start ?? 0);
    const more = text.length - this.#read;
    if (running && this.#read && more < block * GROWN) return this.#showNew(view);
    this.#new.remove();
    this.#new.replaceChildren();
    this.#newFrom = this.#known;
    const paint = (/** @type {Text} */ piece, /** @type {number[]} */ offsets) => {
      const pieces = document.createDocumentFragment();
      for (let at = 0; at < piece.data.length;) {
        const i = this.#tokenAt(offsets[at]);
        const next = this.#starts[i + 1] ?? Infinity;
        let to = at + 1;
        while (to < piece.data.length && offsets[to] < next) to++;
        pieces.append(this.#span(i, piece.data.slice(at, to)));
        at = to;
      }
      piece.replaceWith(pieces);
    };
    render(this.body, text, view, view === 'depth' ? paint : null, running && this.#read > 0);
    this.#read = text.length;
  }

  /** The token that a character of the text belongs to. @param {number} offset */
  #tokenAt(offset) {
    let [low, high] = [0, this.#starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param {string} view */
  #showNew(view) {
    for (; this.#newFrom < this.#known; this.#newFrom++) {
      const [said] = this.run.tokens[this.#newFrom];
      this.#new.append(view === 'depth' ? this.#span(this.#newFrom, said) : said);
    }
    this.#lastLine().append(this.#new);
  }

  /** @returns {HTMLElement} where what is written next stands */
  #lastLine() {
    return this.body.blocks?.at(-1)?.node.lastElementChild ?? this.body;
  }

  #showTokens() {
    const { tokens } = this.run;
    for (; this.#shown < tokens.length; this.#shown++) {
      const text = tokens[this.#shown][0];
      const node = this.#span(this.#shown, text.replaceAll('\n', '↵') || '∅');
      this.body.append(node);
      for (let n = text.split('\n').length - 1; n > 0; n--) this.body.append(el('br'));
    }
  }

  /** @param {number} i @param {string} text */
  #span(i, text) {
    const [, , work, , , drafted, , marks = 0] = this.run.tokens[i];
    const node = document.createElement('span');
    node.className = 'token';
    node.classList.toggle('drafted', Boolean(drafted));
    node.classList.toggle('forced', (marks & FREE) > 0);
    node.classList.toggle('other', (marks & OTHER) > 0);
    node.dataset.i = String(i);
    node.dataset.step = String(stepOf(work, this.run));
    node.textContent = text;
    return node;
  }

  #showDrafts() {
    this.pending.replaceChildren(
      ...this.drafts.map(({ text, accepted }) =>
        el('span', { class: accepted ? 'accepted' : '' }, text),
      ),
    );
    if (!this.drafts.length) this.pending.remove();
    else (this.#view === 'tokens' ? this.body : this.#lastLine()).append(this.pending);
  }

  // ---- one token ----

  /**
   * What there is to say of a token. @param {number} i @returns {{ title: string, lines: [string,
   * string][] }}
   */
  about(i) {
    const { run } = this;
    const [text, layer, work, head, confidence, drafted, ms, marks = 0] = run.tokens[i];
    return {
      title:
        text === ''
          ? '(part of a character)'
          : JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"'),
      lines:
        marks & FREE
          ? [['cost', 'nothing: the shape leaves no choice']]
          : [
              ['layers', `${layer} of ${run.of}`],
              ['work saved', `${Math.round((1 - work) * 100)} %`],
              [
                'answered by',
                head < 0 ? 'the model’s own head' : `exit ${head}, ${nameOfHead(head, run)}`,
              ],
              ['confidence', `${(confidence * 100).toFixed(confidence > 0.995 ? 2 : 1)} %`],
              ...(marks & OTHER
                ? /** @type {[string, string][]} */ ([['full model', 'another token here']])
                : []),
              ...(drafted
                ? /** @type {[string, string][]} */ ([['drafted', 'yes, and verified']])
                : []),
              ...(ms === null
                ? []
                : /** @type {[string, string][]} */ ([
                    ['time', `${ms.toFixed(ms < 10 ? 1 : 0)} ms`],
                  ])),
            ],
    };
  }

  /** @param {number} i @returns {HTMLElement | null} */
  spanOf(i) {
    return this.body.querySelector(`[data-i="${i}"]`);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.target !== this.node || this.#view === 'text') return;
    const last = this.run.tokens.length - 1;
    /** @type {Record<string, number>} */
    const to = { ArrowRight: this.#active + 1, ArrowLeft: this.#active - 1, Home: 0, End: last };
    if (event.key === 'Escape') return hideTooltip();
    if (!(event.key in to) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const step = event.key === 'ArrowLeft' || event.key === 'End' ? -1 : 1;
    let i = Math.max(0, Math.min(last, to[event.key]));
    while (i > 0 && i < last && !this.spanOf(i)) i += step; // marks of Markdown are on no page
    this.#active = i;
    const span = this.spanOf(i);
    if (!span) return;
    span.scrollIntoView({ block: 'nearest' });
    showTooltip(this, i, span.getClientRects()[0] ?? span.getBoundingClientRect());
    const { title, lines } = this.about(i);
    announce(`${title}: ${lines.map(([name, value]) => `${name} ${value}`).join(', ')}`);
  }
}

// ---- the tooltip ----

/** @type {HTMLElement} */
const tooltip = /** @type {HTMLElement} */ (document.getElementById('tooltip'));
/** @type {HTMLElement[]} */
let marked = [];

/**
 * @param {AnswerView} answer
 * @param {number} i
 * @param {DOMRect} at
 */
export function showTooltip(answer, i, at) {
  const { title, lines } = answer.about(i);
  tooltip.replaceChildren(
    el('strong', {}, title),
    el('dl', {}, ...lines.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)])),
  );
  for (const span of marked) span.classList.remove('active');
  marked = [...answer.body.querySelectorAll(`[data-i="${i}"]`)];
  for (const span of marked) span.classList.add('active');
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const x = Math.max(8, Math.min(innerWidth - width - 8, at.left + at.width / 2 - width / 2));
  const above = at.top - height - 8;
  tooltip.style.transform = `translate(${Math.round(x)}px, ${Math.round(above >= 8 ? above : at.bottom + 8)}px)`;
}

export function hideTooltip() {
  tooltip.hidden = true;
  for (const span of marked) span.classList.remove('active');
  marked = [];
}

/** Pointing at a token, or tapping it, shows what is known of it. */
export function listenForTokens() {
  const find = (/** @type {Event} */ event) => {
    const span = /** @type {HTMLElement} */ (event.target).closest?.('.token, [data-token]');
    const owner = /** @type {any} */ (span?.closest('.answer, .chart-owner'));
    return span && owner?.answer ? { span, answer: owner.answer, i: Number(span.dataset.i) } : null;
  };
  document.addEventListener('pointerover', (event) => {
    const found = find(event);
    if (found) showTooltip(found.answer, found.i, found.span.getBoundingClientRect());
    else if (event.pointerType === 'mouse') hideTooltip();
  });
  document.addEventListener('click', (event) => {
    const found = find(event);
    if (found) showTooltip(found.answer, found.i, found.span.getBoundingClientRect());
    else hideTooltip();
  });
  document.addEventListener('scroll', hideTooltip, { capture: true, passive: true });
  document.addEventListener('focusout', hideTooltip);
}
