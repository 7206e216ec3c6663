/** Addresses: what they are relative to, and where this package lies. */
import { hasNodeModules } from './platform.js';

const scope = /** @type {any} */ (globalThis);

/**
 * @returns {string | undefined} the page's, the worker's, or the working directory's; undefined
 *   where there is none
 */
function baseAddress() {
  if (!hasNodeModules) return scope.document?.baseURI ?? scope.location?.href;
  const folder = scope.process.cwd().replaceAll('\\', '/');
  return `file://${folder.startsWith('/') ? '' : '/'}${encodeURI(folder)}/`;
}

/**
 * @param {string | URL} address
 * @returns {URL} throws a TypeError where it is none
 */
export const absolute = (address) => new URL(address, baseAddress());

/**
 * Vite before 8 bundles what it finds in node_modules for its development server and leaves the
 * files beside it behind. They are taken from where they were installed. @type {string | undefined}
 */
export const installed = /^.+\/node_modules\/(?=\.vite\/deps)/.exec(import.meta.url)?.[0];

/** Whether it is of another origin than this page or worker. @param {string | URL | null} address */
export function isForeign(address) {
  const { origin } = scope.location ?? {};
  return Boolean(origin && address && new URL(address).origin !== origin);
}

/** The folder of this package's entries, where nobody bundled them. */
const unbundled = /^https?:.+\/(?=link\/address\.js(?:$|[?#]))/.exec(import.meta.url)?.[0] ?? null;

/** @type {Map<string, URL>} */
const importers = new Map();

/**
 * Browsers start workers from the page's own origin alone. A script of another one is imported by
 * one that is written here.
 * @param {URL} script
 * @returns {URL}
 */
export function startable(script) {
  const { href } = script;
  if (!/^https?:/.test(href) || !isForeign(href)) return script;
  let importer = importers.get(href);
  if (!importer) {
    const code = new Blob([`import ${JSON.stringify(href)};`], { type: 'text/javascript' });
    importers.set(href, (importer = new URL(URL.createObjectURL(code))));
  }
  return importer;
}

/**
 * What to start where the expression that bundlers look for would not do.
 * @param {'worker.js' | 'thread.js'} name
 * @returns {URL | undefined}
 */
export function insteadOf(name) {
  if (installed) return new URL(`${installed}exitlm/web/src/${name}`);
  return isForeign(unbundled) ? startable(new URL(`${unbundled}${name}`)) : undefined;
}
