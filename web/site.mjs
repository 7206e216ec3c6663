// Writes the chat page as a folder of static files that any host serves as it is:
//
//   node web/site.mjs [--out DIR]      (npm run site -- …; DIR is site if left out)
//
// The page's files lie in it as in the repository, so what they name each other by holds; all
// addresses are relative. At the top are the page and its service worker, which acts on the folder
// that it is in. The default model is packed: its files are small enough for any host, none is
// asked for by ranges.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { SetupError, exitWith, root, run } from '../wasm/setup/setup.mjs';

const PAGE = 'web/demo';
const WORKER = 'serviceworker.js';
/** 24.1 million bytes: hosts that take 25 MB count in one way or the other. */
const SHARD_SIZE = '23M';
/** The texts of models' licences, from a package under each. @type {Record<string, string>} */
const LICENCES = { 'Apache-2.0': 'node_modules/typescript/LICENSE.txt' };

const read = (/** @type {string} */ file) => fs.readFileSync(path.join(root, file), 'utf8');

/**
 * All that the page's links lead to: imports, and what `new URL(…, import.meta.url)` names, by
 * which bundlers go too. @param {string[]} links @returns {Promise<string[]>}
 */
async function filesBehind(links) {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: links,
    bundle: true,
    format: 'esm',
    metafile: true,
    write: false,
    outdir: 'site',
    ignoreAnnotations: true,
    logLevel: 'silent',
    loader: { '.svg': 'empty', '.wasm': 'empty' },
    plugins: [
      {
        name: 'addresses',
        setup: ({ onLoad }) =>
          onLoad({ filter: /\.js$/ }, ({ path: file }) => {
            const code = fs.readFileSync(file, 'utf8');
            const named = code.matchAll(/new URL\(\s*'(\.[^']*[^'/])',\s*import\.meta\.url/g);
            return {
              contents: [code, ...[...named].map(([, at]) => `import('${at}');`)].join('\n'),
            };
          }),
      },
    ],
  });
  return Object.keys(metafile.inputs);
}

/** The page, to lie at the top: its text, and what it links to. */
function pageAtTop() {
  /** @type {string[]} */
  const links = [];
  const html = read(`${PAGE}/index.html`)
    .replace(/\b(href|src)="(?![#.])([^":]+)"/g, (_, attribute, link) => {
      links.push(`${PAGE}/${link}`);
      return `${attribute}="${PAGE}/${link}"`;
    })
    .replace(
      /^( *)<script src=".*trusted\.js">.*\n/m, // which allows the service worker
      (trusted, indent) =>
        `${trusted}${indent}<script src="${WORKER}"></script>\n${indent}<link rel="manifest" href="manifest.json" />\n`,
    );
  return { html, links };
}

/** What a device that installs the page asks for. */
const webManifest = () => ({
  name: 'ExitLM',
  short_name: 'ExitLM',
  description: 'A small language model on this device’s processor alone',
  start_url: './',
  scope: './',
  display: 'standalone',
  background_color: '#f7f7f5',
  theme_color: '#f7f7f5',
  icons: [{ src: `${PAGE}/icon.svg`, sizes: 'any', type: 'image/svg+xml' }],
});

/**
 * Writes the folder anew; only one that is new, empty or was written by this before.
 * @param {object} options
 * @param {string} options.out
 * @param {string} [options.models] the folder of the catalogue and its models
 * @param {string} [options.program] the native `exitlm`
 * @returns {Promise<{ files: number, bytes: number }>}
 */
export async function writeSite({
  out,
  models = path.join(root, 'models'),
  program = path.join(root, 'build/exitlm'),
}) {
  const catalogue = JSON.parse(fs.readFileSync(path.join(models, 'catalog.json'), 'utf8'));
  const entry = catalogue.models.find(
    (/** @type {{ name: string }} */ { name }) => name === catalogue.default,
  );
  const licence = LICENCES[entry.licence];
  if (!licence)
    throw new SetupError(`${entry.name}: the text of its licence, ${entry.licence}, is not known`);
  const packed = `models/${entry.name}`;
  const inFolder = (/** @type {string} */ file) => `${entry.name}/${file}`;

  const { html, links } = pageAtTop();
  /** @type {Map<string, string | Buffer>} */
  const files = new Map([['index.html', html]]);
  for (const file of await filesBehind(links))
    files.set(file, fs.readFileSync(path.join(root, file)));
  files.set('manifest.json', JSON.stringify(webManifest()));
  files.set(
    'models/catalog.json',
    JSON.stringify({
      ...catalogue,
      models: [
        {
          ...entry,
          file: inFolder('manifest.json'),
          ...(entry.heads && { heads: { ...entry.heads, file: inFolder(entry.heads.file) } }),
        },
      ],
    }),
  );
  const worker = `${read(`${PAGE}/offline.js`)}\n${read('web/src/coi-serviceworker.js')}`;
  const version = createHash('sha256').update(worker);
  for (const [name, content] of files) version.update(name).update(content);
  const site = {
    version: version.digest('hex').slice(0, 16),
    files: [...files.keys(), WORKER].map((name) => (name === 'index.html' ? './' : name)),
  };
  files.set(WORKER, `const SITE = ${JSON.stringify(site)};\n${worker}`);
  files.set('LICENSE.txt', read('LICENSE'));
  files.set(
    `${packed}/LICENSE.txt`,
    `${entry.title} and its exit heads: ${entry.licence}. ${entry.origin ?? ''}\n\n${read(licence)}`,
  );

  const there = fs.existsSync(out) ? fs.readdirSync(out).filter((name) => !/^\./.test(name)) : [];
  if (there.length && !there.includes(WORKER))
    throw new SetupError(`${out}: other files are in it, such as ${there[0]}; name a new folder`);
  for (const name of new Set([...files.keys()].map((file) => file.split('/')[0])))
    fs.rmSync(path.join(out, name), { recursive: true, force: true });
  for (const [name, content] of files) {
    fs.mkdirSync(path.dirname(path.join(out, name)), { recursive: true });
    fs.writeFileSync(path.join(out, name), content);
  }
  run(
    program,
    [
      'pack',
      path.join(models, entry.file),
      '-o',
      path.join(out, packed),
      '--shard-size',
      SHARD_SIZE,
    ],
    { quiet: true },
  );
  const sizes = fs
    .readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile())
    .map((file) => fs.statSync(path.join(file.parentPath ?? file.path, file.name)).size);
  return { files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

async function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: 'site' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log('usage: npm run site -- [--out DIR]');
  const out = path.resolve(values.out);
  const { files, bytes } = await writeSite({ out });
  console.log(
    `${out}: ${files} files, ${(bytes / 1e6).toFixed(1)} MB; any static host serves them`,
  );
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  main().catch((error) =>
    exitWith(/^ERR_PARSE_ARGS/.test(error.code) ? new SetupError(error.message) : error),
  );
