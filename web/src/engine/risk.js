/**
 * The bounds that calibration goes by: src/base/risk.h says what they are.
 * @typedef {import('./engine.js').Engine} Engine
 */

/**
 * @param {Engine} engine
 * @param {import('../link/protocol.js').RiskQuestion} question
 * @returns {number}
 */
export function risk(engine, question) {
  const { xs, delta } = question;
  return engine.withBytes(new Uint8Array(Float64Array.from(xs).buffer), (memory) => {
    if (question.of === 'p')
      return engine.call('risk_p', memory, xs.length, question.planned, question.alpha, delta);
    if (question.of === 'upper')
      return engine.call('risk_upper', memory, xs.length, question.planned, delta);
    return engine.call('risk_needed', memory, xs.length, question.alpha, delta);
  });
}
