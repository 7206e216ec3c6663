// One round of the soak, the same in a page, in Node and in a Worker.

const story = [{ role: 'user', content: 'Tell me a story about a lighthouse.' }];
const questions = Array.from({ length: 8 }, (_, i) => `What do you know about the number ${i}?`);

/**
 * Each model in turn is loaded, asked in every mode, stopped in the middle of a reply, calibrated
 * and disposed of.
 * @param {typeof import('../../web/src/client/exitlm.js').ExitLM} ExitLM
 * @param {{ model: string, options?: import('../../web/src/link/types.js').LoadOptions }[]} models
 * @returns {Promise<{ outputs: any[], linear: number }>} what has to be the same in each round; the
 *   most bytes that a linear memory had
 */
export async function round(ExitLM, models) {
  const outputs = [];
  let linear = 0;
  for (const { model, options } of models) {
    const lm = await ExitLM.load(model, options);
    /** @param {import('../../web/src/link/types.js').GenerateOptions} given */
    const text = async (given) => (await lm.chat(story, { maxTokens: 16, ...given }).result).text;
    const early = await text({ mode: 'full' }); // while it loads
    await lm.ready;
    /** @type {number[]} */
    const begun = [];
    const left = lm.chat(story, { maxTokens: 200 });
    for await (const { id } of left) if (begun.push(id) === 5) break;
    const { reason } = await left.result;
    const session = lm.session();
    const beside = session.chat(story, { maxTokens: 8 });
    const sampled = await text({ mode: 'lossless', temperature: 0.8, seed: 7 });
    const { certified, measured, threshold } = await lm.calibrate(questions, {
      accuracy: 0.5,
      delta: 0.3,
      maxTokens: 6,
    });
    outputs.push({
      model,
      early,
      exit: await text({ mode: 'exit', accuracy: 0.95 }),
      begun,
      reason,
      beside: (await beside.result).text,
      sampled,
      calibration: { certified, measured, threshold },
    });
    await session.dispose();
    linear = Math.max(linear, (await lm.memory()).total);
    await lm.dispose();
  }
  return { outputs, linear };
}
