// The Worker of the soak: a round for each request. Models come from the folder that ASSETS is.
import { ExitLM } from '../../web/src/edge.js';
import wasm from '../../web/dist/exitlm-relaxed.wasm';
import { round } from './round.js';

export default {
  /** @param {Request} request @param {any} env */
  async fetch(request, { ASSETS }) {
    const models = /** @type {string[]} */ (await request.json());
    /** @type {import('../../web/src/link/types.js').LoadOptions} */
    const options = {
      wasm,
      kvType: 'q8',
      contextLength: 512,
      fetch: (url, init) => ASSETS.fetch(url, init),
    };
    try {
      return Response.json(
        await round(
          ExitLM,
          models.map((model) => ({ model, options })),
        ),
      );
    } catch (error) {
      return Response.json({ error: /** @type {Error} */ (error).stack });
    }
  },
};
