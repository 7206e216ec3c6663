// The floors of src: each folder knows only those below it, by what it includes and by what its
// objects call (includes alone do not show a function that is declared by hand or in a header of
// its own floor). Within a folder no two files need each other.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { root } from './support/cli.mjs';

/** From the ground up. Folders of one entry do not know each other. */
const FLOORS = [
  ['base'],
  ['gguf'],
  ['kernel', 'text'],
  ['grammar'],
  ['model'],
  ['run'],
  ['reply'],
  ['train'],
  ['cli'],
];

/**
 * Arrows that point up or in circles today, each to be removed: the list gets shorter, never
 * longer.
 */
const KNOWN = new Set(/** @type {string[]} */ ([]));

/** @param {string} folder */
const floorOf = (folder) => FLOORS.findIndex((names) => names.includes(folder));
/** @param {string} from @param {string} to */
const mayKnow = (from, to) => from === to || floorOf(to) < floorOf(from);
/** @param {string} file `FOLDER/NAME.EXT`, or a file of src itself, which all may know */
const folderOf = (file) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : undefined);

/**
 * Arrows `A -> B` between the files of src that point up.
 * @param {[from: string, to: string][]} arrows
 */
function pointingUp(arrows) {
  return arrows
    .filter(([from, to]) => {
      const [a, b] = [folderOf(from), folderOf(to)];
      return (
        b !== undefined && (a === undefined || floorOf(a) < 0 || floorOf(b) < 0 || !mayKnow(a, b))
      );
    })
    .map(([from, to]) => `${from} -> ${to}`);
}

/**
 * Files of one folder that need each other, directly or through others: a circle is written as its
 * members in order.
 * @param {[from: string, to: string][]} arrows
 */
function circles(arrows) {
  /** @type {Map<string, Set<string>>} */
  const next = new Map();
  for (const [from, to] of arrows) {
    if (from === to || folderOf(from) !== folderOf(to)) continue;
    next.set(from, (next.get(from) ?? new Set()).add(to));
  }
  const reached = (/** @type {string} */ start) => {
    /** @type {Set<string>} */
    const seen = new Set();
    const visit = (/** @type {string} */ at) =>
      next.get(at)?.forEach((to) => {
        if (!seen.has(to)) {
          seen.add(to);
          visit(to);
        }
      });
    visit(start);
    return seen;
  };
  const all = new Map([...next.keys()].map((name) => [name, reached(name)]));
  const found = [...all]
    .filter(([name, seen]) => seen.has(name))
    .map(([name, seen]) =>
      [...seen]
        .filter((other) => other === name || all.get(other)?.has(name))
        .sort()
        .join(' <-> '),
    );
  return [...new Set(found)];
}

/**
 * Who calls whom: an object's undefined symbols, and the objects that define them.
 * @param {Map<string, { needs: string[], has: string[] }>} objects by unit, `FOLDER/NAME`
 * @returns {[from: string, to: string][]}
 */
function calls(objects) {
  /** @type {Map<string, string>} */
  const home = new Map();
  for (const [unit, { has }] of objects) for (const symbol of has) home.set(symbol, unit);
  return [...objects].flatMap(([unit, { needs }]) =>
    [...new Set(needs.map((symbol) => home.get(symbol)))]
      .filter((to) => to !== undefined && to !== unit)
      .map((to) => /** @type {[string, string]} */ ([unit, /** @type {string} */ (to)])),
  );
}

/**
 * @param {(file: string) => string} read
 * @param {string[]} files of src
 * @returns {[from: string, to: string][]}
 */
function includes(read, files) {
  const known = new Set(files);
  return files.flatMap((file) =>
    [...read(file).matchAll(/^[ \t]*#[ \t]*include[ \t]+"([^"]+)"/gm)].map(([, name]) => {
      const beside = path.posix.join(path.posix.dirname(file), name);
      return /** @type {[string, string]} */ ([
        file,
        known.has(beside) ? beside : path.posix.normalize(name),
      ]);
    }),
  );
}

/** @param {string[]} wrong what is wrong now @param {string} what */
function judge(wrong, what) {
  const surprises = wrong.filter((arrow) => !KNOWN.has(arrow)),
    left = wrong.filter((arrow) => KNOWN.has(arrow));
  if (left.length) console.log(`${what}, known and still wrong:\n  ${left.join('\n  ')}`);
  assert.deepEqual(surprises, [], what);
}

const src = path.join(root, 'src');
const files = FLOORS.flat()
  .filter((folder) => fs.existsSync(path.join(src, folder)))
  .flatMap((folder) =>
    fs
      .readdirSync(path.join(src, folder))
      .filter((name) => /\.[ch]$/.test(name))
      .map((name) => `${folder}/${name}`),
  );

/** The newest native object of every C file under build: a compiler's, not a WebAssembly one. */
function findObjects() {
  /** @type {Map<string, { object: string, time: number }>} */
  const newest = new Map();
  const build = path.join(root, 'build');
  if (!fs.existsSync(build)) return newest;
  for (const entry of fs.readdirSync(build, { recursive: true, withFileTypes: true })) {
    const object = path.join(entry.parentPath, entry.name),
      match = /[\\/]src[\\/](\w+)[\\/](\w+)\.c\.o(?:bj)?$/.exec(object);
    if (!entry.isFile() || !match || !files.includes(`${match[1]}/${match[2]}.c`)) continue;
    const start = Buffer.alloc(4),
      fd = fs.openSync(object, 'r'),
      time = fs.fstatSync(fd).mtimeMs,
      unit = `${match[1]}/${match[2]}`;
    fs.readSync(fd, start);
    fs.closeSync(fd);
    if (start.toString('latin1') !== '\0asm' && time > (newest.get(unit)?.time ?? 0))
      newest.set(unit, { object, time });
  }
  return newest;
}

/**
 * What each of these objects needs and has.
 * @param {[unit: string, object: string][]} list
 */
function symbols(list) {
  const { status, stdout, stderr } = spawnSync(
    'nm',
    ['-A', '-P', '-g', ...list.map(([, object]) => object)],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  );
  assert.equal(status, 0, stderr);
  const units = new Map(list.map(([unit, object]) => [object, unit]));
  const found = new Map(
    list.map(([unit]) => [
      unit,
      { needs: /** @type {string[]} */ ([]), has: /** @type {string[]} */ ([]) },
    ]),
  );
  for (const line of stdout.split('\n')) {
    const [, object, name, type] = /^(.+): (\S+) (\w)/.exec(line) ?? [];
    if (!object) continue;
    const entry = found.get(units.get(object) ?? '');
    assert.ok(entry, line);
    if (type === 'U') entry.needs.push(name);
    else if (type !== 'w') entry.has.push(name);
  }
  return found;
}

test('what a file includes lies on its own floor or below, and in no circle', () => {
  const folders = fs
    .readdirSync(src, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  assert.deepEqual(
    folders.filter((name) => floorOf(name) < 0),
    [],
    'a folder of src that is on no floor',
  );
  const arrows = includes((file) => fs.readFileSync(path.join(src, file), 'utf8'), files);
  assert.ok(arrows.length > 200, 'includes were found');
  judge(pointingUp(arrows), 'an include that points up');
  judge(circles(arrows), 'includes in a circle');
});

const objects = findObjects();
const noObjects =
  (objects.size === 0 && 'the program is not built') ||
  (spawnSync('nm', ['--version']).status !== 0 && 'there is no nm');
test(
  'what an object calls lies on its own floor or below, and in no circle',
  { skip: noObjects },
  () => {
    const arrows = calls(symbols([...objects].map(([unit, { object }]) => [unit, object])));
    assert.ok(arrows.length > 200, 'calls were found');
    judge(pointingUp(arrows), 'a call that points up');
    judge(circles(arrows), 'calls in a circle');
  },
);

test('planted arrows are seen', () => {
  const planted = new Map([
    ['base/a.c', '#include "base/a.h"\n#include "reply/up.h"\n'],
    ['base/a.h', '#include "exitlm.h"\n'],
    ['reply/up.h', ' # include "run/down.h"\n#include <base/angle.h>\n'],
    ['run/down.h', '#include "ring.h"\n'],
    ['run/ring.h', '#include "run/down.h"\n'],
    ['text/t.c', '#include "kernel/k.h"\n'],
    ['kernel/k.h', ''],
    ['cli/main.c', '#include "train/x.h"\n#include "base/a.h"\n'],
    ['train/x.h', '#include "attic/y.h"\n'],
  ]);
  const arrows = includes((file) => planted.get(file) ?? '', [...planted.keys()]);
  assert.deepEqual(pointingUp(arrows), [
    'base/a.c -> reply/up.h',
    'text/t.c -> kernel/k.h',
    'train/x.h -> attic/y.h',
  ]);
  assert.deepEqual(circles(arrows), ['run/down.h <-> run/ring.h']);

  const called = calls(
    new Map([
      ['model/loader', { needs: ['xl_session', 'malloc', 'xl_gguf'], has: ['xl_loader'] }],
      ['reply/session', { needs: ['xl_loader', 'xl_step'], has: ['xl_session'] }],
      ['reply/generate', { needs: ['xl_other'], has: ['xl_step'] }],
      ['reply/other', { needs: ['xl_session'], has: ['xl_other'] }],
      ['gguf/gguf', { needs: [], has: ['xl_gguf'] }],
    ]),
  );
  assert.deepEqual(pointingUp(called), ['model/loader -> reply/session']);
  assert.deepEqual(circles(called), ['reply/generate <-> reply/other <-> reply/session']);
});
