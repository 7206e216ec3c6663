// What a soak (tests/soak) calls growth, and what it draws.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { complaints, drawSoak } from '../soak/verdict.js';

/** @param {(n: number) => Partial<import('../soak/verdict.js').Sample>} of */
const rounds = (of) =>
  Array.from({ length: 12 }, (_, n) => ({
    seconds: 10 * n,
    linear: 1e8,
    heap: 2e7,
    resident: 3e8,
    ...of(n),
  }));

test('growth is told from what warms up, swings, or falls', () => {
  assert.deepEqual(complaints(rounds(() => ({}))), []);
  assert.deepEqual(
    complaints(rounds((n) => ({ resident: n < 3 ? 1e8 : 3e8 + 1e7 * (n % 2) }))),
    [],
  );
  assert.deepEqual(complaints(rounds((n) => ({ heap: 2e7 - 1e5 * n }))), []);
  const leak = complaints(rounds((n) => ({ heap: 2e7 + 1e6 * n })));
  assert.equal(leak.length, 1);
  assert.match(leak[0], /^JavaScript grew from 26000000 to 30000000 bytes/);
  assert.match(complaints(rounds((n) => ({ linear: 1e8 + 1e6 * n })))[0], /^linear memory grew/);
  assert.match(complaints(rounds((n) => ({ resident: 3e8 * 1.05 ** n })))[0], /^resident grew/);
  assert.deepEqual(
    complaints(rounds((n) => ({ heap: 1e7 * n })).slice(0, 5)),
    [],
    'too few rounds',
  );
});

test('the curve has a line for each kind of memory in each place', () => {
  const svg = drawSoak({ page: rounds(() => ({})), node: rounds(() => ({})) });
  assert.equal(svg.match(/<path /g)?.length, 6);
  assert.match(svg, />node: 12 rounds</);
});
