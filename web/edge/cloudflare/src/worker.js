// Chat completions in OpenAI's shape, answered inside the Worker. The weights are static assets
// (public/model, made by `exitlm pack`) and go from there straight into the engine's memory.
import { ExitLM, createHandler } from 'exitlm/edge';
// compiled when the Worker is deployed: bytes may not be compiled here
import engine from 'exitlm/exitlm-relaxed.wasm';

/** @type {((request: Request, env: any, ctx: any) => Promise<Response>) | undefined} */
let answer;

/** The handler holds the engine, so there is one of each in an isolate. */
const make = (/** @type {any} */ { MODEL, ORIGINS = '', PER_CLIENT }) =>
  createHandler({
    model: MODEL,
    // 8-bit K/V and 1,024 tokens of context: what is left of 128 MB beside the weights.
    load: ({ ASSETS }) =>
      ExitLM.load('https://assets.local/model/manifest.json', {
        wasm: engine,
        kvType: 'q8',
        contextLength: 1024,
        kvMaps: false,
        fetch: (url, init) => ASSETS.fetch(url, init),
      }),
    token: ({ TOKEN }) => TOKEN,
    cors: ORIGINS === '*' ? '*' : ORIGINS.split(',').filter(Boolean),
    maxPerClient: PER_CLIENT || Infinity,
    maxPromptTokens: 768,
    maxOutputTokens: 256,
    maxWaiting: 8,
  });

export default {
  /** @param {Request} request @param {any} env @param {any} ctx */
  fetch(request, env, ctx) {
    if (!env.TOKEN && String(env.OPEN) !== '1') {
      const message =
        'set a token (npx wrangler secret put TOKEN), or the variable OPEN to 1 to let everybody ask';
      return Response.json({ error: { message, code: 'not_configured' } }, { status: 503 });
    }
    answer ??= make(env);
    return answer(request, env, ctx);
  },
};
