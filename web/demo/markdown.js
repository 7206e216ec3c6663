// Markdown, made safe, block by block: while an answer grows only its last block is read anew, and
// each piece of text can be led back to the characters of the source that it came from.
import DOMPurify from './vendor/dompurify.js';
import { Marked } from './vendor/marked.js';

const escape = (/** @type {string} */ text) =>
  text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

// HTML in an answer is shown as the text that it is, and pictures as links: nothing is fetched.
// DOMPurify stands behind all that.
const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? '<br>' : escape(text)),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

const SAFE = {
  ALLOWED_TAGS: [
    'p',
    'br',
    'hr',
    'h1',
    'h2',
    'h3',
    'h4',
    'h5',
    'h6',
    'ul',
    'ol',
    'li',
    'blockquote',
    'pre',
    'code',
    'em',
    'strong',
    'del',
    's',
    'a',
    'table',
    'thead',
    'tbody',
    'tr',
    'th',
    'td',
    'sub',
    'sup',
    'kbd',
  ],
  ALLOWED_ATTR: ['href', 'start', 'align'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};

/**
 * @typedef {{ raw: string, start: number, key: string, node: HTMLElement }} Block
 * @typedef {(text: Text, offsets: number[]) => void} Paint gets a piece of text and, for each of
 *   its characters, where it stands in the source
 */

/**
 * Shows a source in an element; blocks that are as they were stay untouched.
 * @param {HTMLElement & { blocks?: Block[] }} container
 * @param {string} source
 * @param {string} key of how it is painted; another one renders everything anew
 * @param {Paint | null} paint
 * @param {boolean} [grows] it begins as the last one did, and more will follow: only from the last
 *   block on is it read. What a later line may change before that, waits for the last call
 */
export function render(container, source, key, paint, grows = false) {
  const before = container.blocks ?? [];
  const stay = grows && before.at(-1)?.key === key ? before.length - 1 : 0;
  const blocks = before.slice(0, stay);
  let start = stay ? before[stay].start : 0;
  const tokens = marked.lexer(source.slice(start));
  for (const token of tokens) {
    const at = start;
    start += token.raw.length;
    if (token.type === 'space') continue;
    const old = before[blocks.length];
    if (old && old.raw === token.raw && old.start === at && old.key === key) {
      blocks.push(old);
      continue;
    }
    const node = document.createElement('div');
    node.className = 'block';
    node.append(safe(marked.parser(Object.assign([token], { links: tokens.links }))));
    if (paint) paintBlock(node, source.slice(at, start), at, paint);
    if (old) old.node.replaceWith(node);
    else container.append(node);
    blocks.push({ raw: token.raw, start: at, key, node });
  }
  for (const { node } of before.slice(blocks.length)) node.remove();
  container.blocks = blocks;
}

/** @param {string} html @returns {DocumentFragment} */
function safe(html) {
  const fragment = /** @type {DocumentFragment} */ (
    /** @type {unknown} */ (DOMPurify.sanitize(html, SAFE))
  );
  for (const link of fragment.querySelectorAll('a')) {
    link.setAttribute('rel', 'noopener noreferrer nofollow');
    link.setAttribute('target', '_blank');
  }
  for (const table of fragment.querySelectorAll('table')) {
    const box = document.createElement('div');
    box.className = 'table-box';
    box.tabIndex = 0;
    box.setAttribute('role', 'region');
    box.setAttribute('aria-label', 'Table');
    table.replaceWith(box);
    box.append(table);
  }
  return fragment;
}

const AHEAD = 100; // how far a character of the page may be from the last one found in the source

/**
 * Rendering takes characters of the source away (marks, addresses, entities) and adds hardly any:
 * so the text of the page is found again, in order, in the source.
 * @param {HTMLElement} node
 * @param {string} raw
 * @param {number} start
 * @param {Paint} paint
 */
function paintBlock(node, raw, start, paint) {
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  /** @type {Text[]} */
  const texts = [];
  while (walker.nextNode()) texts.push(/** @type {Text} */ (walker.currentNode));
  let at = 0;
  let last = start;
  for (const text of texts) {
    if (!text.data.trim()) continue;
    const offsets = Array(text.data.length).fill(0);
    for (let i = 0; i < text.data.length; i++) {
      const c = text.data[i];
      const space = /\s/.test(raw[at] ?? '') ? at : -1;
      const found = /\s/.test(c) ? space : raw.slice(at, at + AHEAD).indexOf(c) + at;
      if (found >= at) {
        last = start + found;
        at = found + 1;
      }
      offsets[i] = last;
    }
    paint(text, offsets);
  }
}
