// What holds of every reply. tests/run.mjs loads this before each file of tests/js, in its workers
// too: each reply of the package is looked at on the engine's side.
import assert from 'node:assert/strict';
import { Host } from '../../../web/src/engine/host.js';

/** Sums of floats. */
const ROUNDING = 1e-5;
/** Of linear memory: the module's own, heads, what prompts are made of, what the allocator loses. */
const BESIDE_BYTES = 8e6;

/**
 * @param {import('../../../web/src/link/types.js').Result} result
 * @param {string} [mode]
 */
export function checkReply(result, mode) {
  const { usage, exits, forced = 0, meanDepth, meanWork } = result;
  const told = JSON.stringify({ mode, ...result, text: '' });
  const counted = Object.values(exits).reduce((a, b) => a + b, forced);
  assert.equal(counted, usage.completionTokens, `exits and full tokens are all tokens: ${told}`);
  assert.ok(meanDepth >= 0 && meanDepth <= 1 + ROUNDING, told);
  assert.ok(meanWork >= 0 && (mode !== 'full' || meanWork <= 1 + ROUNDING), told);
  assert.ok(usage.reusedTokens <= usage.promptTokens, told);
  assert.ok(result.accepted <= result.drafted && result.auditDisagreed <= result.audited, told);
}

/** @param {{ total: number, model: number, session: number }} memory */
export function checkMemory({ total, model, session }) {
  assert.ok(
    total <= model + session + BESIDE_BYTES,
    `${total} bytes of memory, ${model} + ${session} were promised`,
  );
}

const { handlers } = Host.prototype;
Host.prototype.handlers = function () {
  const side = handlers.call(this);
  const generate = async (/** @type {Parameters<typeof side.generate>[0]} */ request) => {
    const result = await side.generate(request);
    checkReply(result, request.options.mode);
    const memory = await Promise.resolve(undefined)
      .then(side.memory)
      .catch(() => null);
    if (memory) checkMemory(memory); // else it was disposed of meanwhile
    return result;
  };
  return { ...side, generate };
};
