// npm run fuzz: what it makes of what libFuzzer says. That it finds what is there to be found shows
// in the corpora, whose inputs each target runs first.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { figures, linesOf } from '../fuzz.mjs';

const script = fileURLToPath(new URL('../fuzz.mjs', import.meta.url));

test('an unknown target and a missing time are named in a sentence', () => {
  const run = (...args) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  const unknown = run('--minutes', '1', '--target', 'none');
  assert.equal(unknown.status, 2);
  assert.match(
    unknown.stderr,
    /^exitlm: --target none: the targets are gguf, grammar, heads, kernels, session, tokenizer\n$/,
  );
  const noTime = run('--target', 'gguf');
  assert.equal(noTime.status, 2);
  assert.match(noTime.stderr, /^exitlm: --minutes N says how long .+\n$/);
  const wrongTime = run('--coverage', '--minutes', '0');
  assert.equal(wrongTime.status, 2, 'nor is a wrong one taken where none is needed');
  assert.match(wrongTime.stderr, /^exitlm: --minutes N says how long .+\n$/);
});

test('executions, coverage and what was found', () => {
  const said = `INFO: Loaded 1 modules   (1234 inline 8-bit counters): 1234 [0x5, 0x6),
#2	INITED cov: 17 ft: 18 corp: 1/1b exec/s: 0 rss: 31Mb
#80	NEW    cov: 170 ft: 305 corp: 7/44b lim: 4 exec/s: 0 rss: 31Mb L: 9/9
tests/fuzz/fuzz_gguf.c:12: not true: l.left == 0
==7== ERROR: libFuzzer: deadly signal
SUMMARY: libFuzzer: deadly signal
artifact_prefix='found/gguf-'; Test unit written to found/gguf-crash-da39
stat::number_of_executed_units: 81
`;
  assert.deepEqual(figures(said), {
    executions: 81,
    edges: 170,
    allEdges: 1234,
    inputs: 7,
    found: ['found/gguf-crash-da39'],
    why: 'not true: l.left == 0',
  });
});

test('lines of the engine, a folder each; none of the tests', () => {
  const file = (/** @type {string} */ name, /** @type {number} */ count, covered = 0) => ({
    filename: fileURLToPath(new URL(`../../${name}`, import.meta.url)),
    summary: { lines: { count, covered } },
  });
  const files = [
    file('src/text/bpe.c', 100, 40),
    file('src/text/vocab.c', 50, 5),
    file('src/kernel/body/body.h', 10, 10),
    file('src/exitlm.h', 3, 3),
    file('tests/fuzz/fuzz_tokenizer.c', 70, 70),
  ];
  assert.deepEqual(linesOf({ data: [{ files }] }), {
    all: { covered: 55, count: 160 },
    text: { covered: 45, count: 150 },
    kernel: { covered: 10, count: 10 },
  });
});
