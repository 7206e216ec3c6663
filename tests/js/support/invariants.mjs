// What holds of every reply. tests/run.mjs loads this before each file of tests/js, in its workers
// too: each reply of the package is looked at on the engine's side.
import assert from 'node:assert/strict';
import { Host } from '../../../web/src/engine/host.js';

/** Sums of floats. */
const ROUNDING = 1e-5;
/** Of linear memory: the module's own, heads, what prompts are made of, what the allocator loses. */
const BESIDE_BYTES = 8e6;
/** The largest shape that is taken; a reply makes one. */
const SHAPE_BYTES = 20e6;

/**
 * @param {import('../../../web/src/link/types.js').Result} result
 * @param {string} [mode]
 */
export function checkReply(result, mode) {
  const { usage, exits, forced = 0, meanDepth, meanWork, audited = 0, auditDisagreed = 0 } = result;
  const told = JSON.stringify({ mode, ...result, text: '' });
  const counted = Object.values(exits).reduce((a, b) => a + b, forced);
  assert.equal(counted, usage.completionTokens, `exits and full tokens are all tokens: ${told}`);
  assert.ok(meanDepth >= 0 && meanDepth <= 1 + ROUNDING, told);
  assert.ok(meanWork >= 0 && (mode !== 'full' || meanWork <= 1 + ROUNDING), told);
  assert.ok(usage.reusedTokens <= usage.promptTokens, told);
  assert.ok(result.accepted <= result.drafted && auditDisagreed <= audited, told);
}

/**
 * @param {{ total: number, model: number, session: number }} memory
 * @param {number} before total
 * @param {boolean} [shaped]
 */
export function checkMemory({ total, model, session }, before, shaped = false) {
  assert.ok(
    total <= Math.max(before, model + session + BESIDE_BYTES) + (shaped ? SHAPE_BYTES : 0),
    `${total} bytes of memory, ${model} + ${session} were promised`,
  );
}

const { handlers } = Host.prototype;
Host.prototype.handlers = function () {
  const side = handlers.call(this);
  const memory = () => {
    try {
      return /** @type {{ total: number, model: number, session: number }} */ (
        /** @type {unknown} */ (side.memory(undefined))
      );
    } catch {
      return null; // it was disposed of
    }
  };
  const generate = async (/** @type {Parameters<typeof side.generate>[0]} */ request) => {
    const before = memory();
    const result = await side.generate(request);
    const now = memory();
    checkReply(result, request.options.mode);
    if (before && now) checkMemory(now, before.total, result.forced !== undefined);
    return result;
  };
  return { ...side, generate };
};
