// npm run fuzz: what it makes of what libFuzzer says. That it finds what is there to be found shows
// in the corpora, whose inputs each target runs first.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { figures } from '../fuzz.mjs';

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
