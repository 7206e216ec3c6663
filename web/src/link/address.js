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
