/**
 * What a caller names as a model, turned into files that can be read.
 *
 * @typedef {import('../link/sources.js').Source} Source
 * @typedef {import('./http.js').FetchLike} FetchLike
 * @typedef {import('./manifest.js').Manifest} Manifest
 *
 * @typedef {import('../link/protocol.js').SourceSpec} SourceSpec
 *
 * @typedef {object} Heads
 * @property {Source} source
 * @property {boolean} optional they are looked for beside the model; there may be none
 * @property {string | null} sha256
 * @property {string | null} key as below
 * @property {{ source: Source, sha256: string }} [core] the same without the K/V maps
 *
 * @typedef {object} Resolved
 * @property {Source[]} sources parts of the model, or shards
 * @property {Manifest | null} manifest
 * @property {Heads | null} heads
 * @property {string | null} key what a cache keeps the model under; null: it is here already
 */
import { ExitLMError } from '../link/errors.js';
import { blobSource, bytesSource, streamSource } from '../link/sources.js';
import { downloadJson } from './download.js';
import { fileSource } from './file.js';
import { httpSource, PassingError } from './http.js';
import { parseManifest } from './manifest.js';

const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/;

/**
 * @param {SourceSpec} spec
 * @param {FetchLike} fetchLike
 * @param {(id: number, name: string, once: boolean) => Source} remote
 * @returns {Source}
 */
export function sourceOf(spec, fetchLike, remote) {
  switch (spec.kind) {
    case 'url':
      return httpSource(spec.url, fetchLike);
    case 'file':
      return fileSource(spec.path);
    case 'blob':
      return blobSource(spec.blob);
    case 'bytes':
      return bytesSource(spec.bytes);
    case 'stream':
      return streamSource(spec.stream);
    case 'remote':
      return remote(spec.id, spec.name, spec.once);
  }
}

/**
 * @param {SourceSpec[]} files
 * @param {SourceSpec | 'auto' | null} heads
 * @param {object} context
 * @param {FetchLike} context.fetchLike
 * @param {(id: number, name: string, once: boolean) => Source} context.remote
 * @param {AbortSignal} context.signal
 * @param {(key: string) => Promise<unknown>} context.cachedManifest a copy of it, for when there is
 *   no connection
 * @returns {Promise<Resolved>}
 */
export async function resolve(files, heads, context) {
  const { fetchLike, remote } = context;
  const make = (/** @type {SourceSpec} */ spec) => sourceOf(spec, fetchLike, remote);
  const named =
    heads !== null && heads !== 'auto'
      ? { source: make(heads), optional: false, sha256: null, key: keyOf([heads]) }
      : null;
  const first = files[0];
  const name = nameOf(first);
  if (files.length === 1 && name && /\.json$/.test(pathOf(name))) {
    const manifest = await readManifest(first, name, make(first), context);
    const beside = (/** @type {string} */ file) => make(rename(first, file));
    /** @type {Heads | null} */
    const packed =
      manifest.heads && heads === 'auto'
        ? {
            source: beside(manifest.heads.file),
            optional: false,
            sha256: manifest.heads.sha256,
            key: keyOf([rename(first, manifest.heads.file)]),
          }
        : null;
    if (packed && manifest.heads?.core)
      packed.core = {
        source: beside(manifest.heads.core.file),
        sha256: manifest.heads.core.sha256,
      };
    return {
      sources: manifest.shards.map(({ file }) => beside(file)),
      manifest,
      heads: named ?? packed,
      key: keyOf([first]),
    };
  }
  const split = files.length === 1 && name ? SPLIT.exec(pathOf(name)) : null;
  const parts = split && Number(split[2]) > 1 ? allParts(first, name, split) : files;
  let beside = null;
  if (heads === 'auto' && name && /\.gguf$/.test(pathOf(name))) {
    const file = lastOf(pathOf(name))
      .replace(SPLIT, '.gguf')
      .replace(/\.gguf$/, '.exits.gguf');
    const spec = rename(first, file);
    beside = { source: make(spec), optional: true, sha256: null, key: keyOf([spec]) };
  }
  return { sources: parts.map(make), manifest: null, heads: named ?? beside, key: keyOf(parts) };
}

/**
 * @param {SourceSpec} spec
 * @param {string} name
 * @param {Source} source
 * @param {Parameters<typeof resolve>[2]} context
 */
async function readManifest(spec, name, source, { signal, cachedManifest }) {
  try {
    // One try, for a copy may do.
    const tries = spec.kind === 'url' ? 1 : undefined;
    const manifest = await downloadJson(source, { signal, tries }).catch(async (error) => {
      if (!tries || signal.aborted || !['NETWORK', 'HTTP'].includes(error.code)) throw error;
      const copy = await cachedManifest(name);
      if (copy) return copy;
      if (!(error.cause instanceof PassingError)) throw error;
      return downloadJson(source, { signal });
    });
    return parseManifest(manifest, name);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error;
  }
}

/** @param {SourceSpec} spec @returns {string} its address, '' for what has none */
function nameOf(spec) {
  if (spec.kind === 'url') return spec.url;
  return spec.kind === 'file' ? spec.path : '';
}

/**
 * A `blob:` or `data:` address would never be met again.
 * @param {SourceSpec[]} files
 */
const keyOf = (files) =>
  files.every((file) => file.kind === 'url' && /^https?:/.test(file.url)) ? nameOf(files[0]) : null;

/** @param {string} name */
function pathOf(name) {
  return name.replace(/[?#].*$/, '');
}

/** @param {string} path */
function lastOf(path) {
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
}

/**
 * The file beside another one.
 * @param {SourceSpec} spec
 * @param {string} file
 * @returns {SourceSpec}
 */
function rename(spec, file) {
  if (/^[\\/]|(^|[\\/])\.\.([\\/]|$)/.test(file))
    // "//host/x" is a file of another host
    throw new ExitLMError('BAD_MODEL', `${file}: a file outside its folder`);
  if (spec.kind === 'url') {
    const url = new URL(spec.url);
    const search = url.search;
    const target = new URL(file.split('/').map(encodeURIComponent).join('/'), url);
    target.search = search; // signed addresses and the like
    return { kind: 'url', url: target.href };
  }
  const { path } = /** @type {{ path: string }} */ (/** @type {unknown} */ (spec));
  return { kind: 'file', path: path.slice(0, path.length - lastOf(path).length) + file };
}

/**
 * @param {SourceSpec} first
 * @param {string} name
 * @param {RegExpExecArray} split
 * @returns {SourceSpec[]}
 */
function allParts(first, name, split) {
  const file = lastOf(pathOf(name));
  return Array.from({ length: Number(split[2]) }, (_, i) =>
    rename(first, file.replace(SPLIT, `-${String(i + 1).padStart(5, '0')}-of-${split[2]}.gguf`)),
  );
}
