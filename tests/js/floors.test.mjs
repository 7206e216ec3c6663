// web/src is a house with floors: its entries, then client, chat and serve, link below all; engine,
// loading and cache on the other side of the link. Who imports upwards, or loads the engine into a
// page that has it in a worker, fails here.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { tokensOf } from '../tokens.mjs';

const source = fileURLToPath(new URL('../../web/src', import.meta.url));

/**
 * What the files of a folder import besides each other; '' are the entries. @type {Record<string,
 * string[]>}
 */
const FLOORS = {
  '': ['client', 'chat', 'serve', 'link'],
  'serve': ['chat', 'link'],
  'client': ['chat', 'link'],
  'chat': ['link'],
  'engine': ['loading', 'cache', 'link'],
  'loading': ['cache', 'link'],
  'cache': ['link'],
  'link': [],
};
/** What they import when they need it, besides: `import()`. @type {Record<string, string[]>} */
const LATER = { client: ['engine', 'cache', 'serve'] };
/** Entries that a worker or a thread starts with. @type {Record<string, string>} */
const OF_THE_ENGINE = { 'worker.js': 'engine', 'thread.js': 'engine' };

/**
 * @typedef {{ from: string, to: string, later: boolean }} Arrow from a file of web/src to one of
 *   it, or out of it ('../…')
 */

/**
 * @param {string} file of web/src
 * @param {string} code
 * @returns {Arrow[]}
 */
function arrowsOf(file, code) {
  const tokens = tokensOf(code, 'js');
  /** @type {Arrow[]} */
  const arrows = [];
  for (const [i, { type, text }] of tokens.entries()) {
    if (type !== 'string') continue;
    const before = tokens[i - 1]?.text;
    const called = before === '(' && tokens[i - 2]?.text === 'import';
    if (!called && before !== 'from' && before !== 'import') continue;
    const specifier = text.slice(1, -1);
    if (specifier.startsWith('.'))
      arrows.push({
        from: file,
        to: path.posix.join(path.posix.dirname(file), specifier),
        later: called,
      });
  }
  return arrows;
}

const folderOf = (/** @type {string} */ file) =>
  file.includes('/') ? file.slice(0, file.indexOf('/')) : '';

/** @param {Arrow} arrow @returns {string | null} what is wrong with it */
function wrongWith({ from, to, later }) {
  const [above, below] = [folderOf(from), folderOf(to)];
  if (to.startsWith('../'))
    return above === 'engine' && to === '../dist/jinja.js'
      ? null
      : `${from} imports ${to}, which is not of web/src`;
  if (above === below && above !== '') return null;
  const allowed = [
    ...(OF_THE_ENGINE[from] ? [OF_THE_ENGINE[from]] : (FLOORS[above] ?? [])),
    ...(later ? (LATER[above] ?? []) : []),
  ];
  return allowed.includes(below)
    ? null
    : `${from} ${later ? 'imports later' : 'imports'} ${to}: ${above || 'an entry'} may not`;
}

/** @returns {Map<string, string>} the code of each file */
function readAll() {
  const files = fs
    .readdirSync(source, { recursive: true })
    .map((f) => String(f).replaceAll('\\', '/'))
    .filter((f) => /\.m?js$/.test(f));
  return new Map(files.map((file) => [file, fs.readFileSync(path.join(source, file), 'utf8')]));
}

/**
 * @param {Map<string, string>} files @param {string} entry @returns {Set<string>} what is loaded
 *   with it at once
 */
function loadedWith(files, entry) {
  const reached = new Set([entry]);
  for (const file of reached)
    for (const { to, later } of arrowsOf(file, files.get(file) ?? '')) if (!later) reached.add(to);
  return reached;
}

const files = readAll();
const arrows = [...files].flatMap(([file, code]) => arrowsOf(file, code));

test('no import points up', () => {
  assert.ok(
    files.size > 40 && arrows.length > 100,
    `${files.size} files, ${arrows.length} imports were read`,
  );
  for (const { to } of arrows)
    assert.ok(to.startsWith('../') || files.has(to), `${to} is imported and is there`);
  for (const file of files.keys())
    assert.ok(folderOf(file) in FLOORS, `${file} is in one of the folders`);
  assert.deepEqual(arrows.map(wrongWith).filter(Boolean), []);
});

test('a planted import that points up is found', () => {
  /** @type {[file: string, code: string][]} */
  const planted = [
    ['client/page.js', "import { Host } from '../engine/host.js';"],
    ['client/reply.js', "import '../loading/loader.js';"],
    ['client/page.js', "export { modelCache } from '../cache/cache.js';"],
    ['index.js', "export * from './engine/host.js';"],
    ['openai.js', "const { Host } = await import('./engine/host.js');"],
    ['chat/completions.js', "import { Reply } from '../client/reply.js';"],
    ['chat/completions.js', "const { ExitLM } = await import('../client/page.js');"],
    ['serve/handler.js', "import { ExitLM } from '../client/page.js';"],
    ['link/abort.js', "import { Reply } from '../client/reply.js';"],
    ['cache/store.js', "import { Spans } from '../loading/plan.js';"],
    ['loading/loader.js', "import { Engine } from '../engine/engine.js';"],
    ['engine/host.js', "import { Reply } from '../client/reply.js';"],
    ['client/page.js', "import '../../dist/jinja.js';"],
    ['client/page.js', "import '../index.js';"],
  ];
  for (const [file, code] of planted)
    assert.equal(arrowsOf(file, code).map(wrongWith).filter(Boolean).length, 1, `${file}: ${code}`);
  const harmless =
    "// import '../engine/host.js';\n/* import('../engine/host.js') */\nconst text = \"import '../engine/host.js'\"; const { Host } = await import('../engine/host.js');";
  assert.deepEqual(arrowsOf('client/page.js', harmless), [
    { from: 'client/page.js', to: 'engine/host.js', later: true },
  ]);
  assert.equal(wrongWith(arrowsOf('client/page.js', harmless)[0]), null);
});

test('a page loads nothing of the engine before it needs it', () => {
  for (const entry of ['index.js', 'edge.js', 'openai.js', 'ai-sdk.js', 'prompt-api.js']) {
    const reached = [...loadedWith(files, entry)];
    assert.ok(reached.length > 3);
    assert.deepEqual(
      reached.filter((file) => ['engine', 'loading', 'cache'].includes(folderOf(file))),
      [],
      entry,
    );
  }
  const withEngine = new Map([...files, ['client/page.js', "import '../engine/host.js';"]]);
  assert.ok(
    loadedWith(withEngine, 'index.js').has('loading/loader.js'),
    'what is planted is reached',
  );
});

test('what has a dependency is loaded by the program alone, when it serves', () => {
  const bare = /^import\b[^;]* from '(?!\.|node:)/m;
  const having = [...files].filter(([, code]) => bare.test(code)).map(([file]) => file);
  assert.deepEqual(having.sort(), ['client/react.js', 'serve/metrics.js']); // React is a page's own
  const to = 'serve/metrics.js';
  assert.deepEqual(
    arrows.filter((arrow) => arrow.to === to),
    [{ from: 'client/cli.mjs', to, later: true }],
  );
});

test('no circle', () => {
  /** @type {Map<string, string[]>} */
  const next = new Map(
    [...files.keys()].map((file) => [
      file,
      arrows.filter((a) => a.from === file && !a.later).map(({ to }) => to),
    ]),
  );
  const done = new Set();
  const visit = (/** @type {string} */ file, /** @type {string[]} */ way) => {
    assert.ok(!way.includes(file), [...way, file].join(' → '));
    if (done.has(file)) return;
    for (const to of next.get(file) ?? []) visit(to, [...way, file]);
    done.add(file);
  };
  for (const file of files.keys()) visit(file, []);
});
