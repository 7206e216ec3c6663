// Elements and figures: the few helpers that the page is written with.

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/**
 * An element. Properties are set as such; `class`, `data-…`, `aria-…`, `role` and `for` as
 * attributes; `on…` are listeners.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/**
 * The same for SVG. @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node
 * | string | null | false)} children
 */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  node.append(
    .../** @type {(Node | string)[]} */ (
      children.filter((child) => child !== null && child !== false)
    ),
  );
  return node;
}

/** @param {HTMLElement} node @param {Record<string, any>} properties @param {any[]} children */
function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'class' || name === 'role' || name === 'for' || name.includes('-'))
      node.setAttribute(name, String(value));
    else /** @type {any} */ (node)[name] = value;
  }
  node.append(
    ...children.filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

const PATHS = {
  copy: 'M9 9h10v11H9zM5 15V4h10',
  retry: 'M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  chart: 'M5 20v-6M12 20V4M19 20v-9',
  done: 'm5 13 4 4 10-11',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1',
};

/** @param {keyof typeof PATHS} name */
export const icon = (name) =>
  svg('svg', { 'viewBox': '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: PATHS[name] }));

/** @param {number} bytes */
export function megabytes(bytes) {
  const mb = bytes / 1e6;
  return `${mb.toFixed(Number(mb < 99.95) + Number(mb < 1))} MB`;
}

/** @param {number | null | undefined} value tokens a second */
export const speed = (value) =>
  typeof value === 'number' && Number.isFinite(value) ? value.toFixed(value >= 99.5 ? 0 : 1) : '–';

/** @param {number} share 0 … 1 */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** @param {number} n @param {string} one @param {string} [many] */
export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

/**
 * Calls a function at most once a frame, and not more often than every `ms`.
 * @param {() => void} draw
 * @param {number} [ms]
 */
export function throttled(draw, ms = 0) {
  let frame = 0;
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    frame = 0;
    timer = 0;
    last = performance.now();
    draw();
  };
  const request = () => {
    if (frame || timer) return;
    const wait = ms - (performance.now() - last);
    if (wait > 16) timer = setTimeout(run, wait);
    else frame = requestAnimationFrame(run);
  };
  /** Draws now what was asked for. */
  request.flush = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    run();
  };
  return request;
}

/** What a screen reader says next. @param {string} text */
export function announce(text) {
  byId('status').textContent = text;
}

let toastTimer = 0;
/**
 * A short message that goes away by itself.
 * @param {string} text
 * @param {{ label: string, run: () => void }} [action]
 */
export function toast(text, action) {
  const node = byId('toast');
  node.replaceChildren(text);
  if (action) {
    node.append(
      el(
        'button',
        {
          type: 'button',
          class: 'quiet',
          onclick: () => {
            node.hidden = true;
            action.run();
          },
        },
        action.label,
      ),
    );
  }
  node.hidden = false;
  announce(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(
    () => {
      node.hidden = true;
    },
    action ? 8000 : 3000,
  );
}

/** A sentence for a failure, whatever was thrown. @param {unknown} error */
export function sentenceOf(error) {
  const text = error instanceof Error ? error.message : String(error);
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
