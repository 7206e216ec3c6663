// The chat page with the tiny model in its catalogue: with heads made for the test (random, so
// their promises mean nothing), or without.
import { createHash } from 'node:crypto';
import { tinyBytes, tinyHeads } from '../js/support/tiny-model.mjs';
import { start } from './browser.mjs';

/** The catalogue with the tiny model alone. @param {Uint8Array} model */
export const tinyCatalogue = (model) => ({
  format: 1,
  default: 'tiny',
  models: [
    {
      name: 'tiny',
      title: 'Tiny random',
      file: 'tiny.gguf',
      size_bytes: model.length,
      sha256: createHash('sha256').update(model).digest('hex'),
      quantisation: 'mixed',
      parameters: 254016,
      licence: 'MIT',
      heads: {
        file: 'tiny.exits.gguf',
        tasks: {
          of: 20,
          full: 11,
          levels: [
            [0.95, 10],
            [0.9, 9],
          ],
        },
      },
    },
  ],
});

/**
 * @param {object} [options]
 * @param {Uint8Array} [options.model]
 * @param {boolean} [options.heads] whether there are heads beside the model (true)
 * @param {import('../../web/serve.mjs').ServeOptions} [options.serve]
 * @param {boolean} [options.browser] whether to start Chromium (true)
 */
export async function startTiny({
  model = tinyBytes,
  heads = true,
  serve = {},
  browser = true,
} = {}) {
  const headsBytes = heads ? await tinyHeads(undefined, model) : null;
  const catalogue = JSON.stringify(tinyCatalogue(model));
  /** @type {{ url: string, host: string }[]} */
  const requests = [];
  const it = await start(
    {
      ...serve,
      intercept: (request, response) => {
        requests.push({ url: request.url ?? '', host: request.headers.host ?? '' });
        if (serve.intercept?.(request, response)) return true;
        const path = (request.url ?? '').split('?')[0];
        if (path === '/models/catalog.json')
          return Boolean(response.setHeader('Content-Type', 'application/json').end(catalogue));
        if (/\/tiny\.exits\.gguf$/.test(path)) {
          if (headsBytes)
            response.setHeader('Content-Type', 'application/octet-stream').end(headsBytes);
          else response.writeHead(404).end();
          return true;
        }
        if (path === '/models/tiny.gguf') {
          const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
          const from = range ? Number(range[1]) : 0;
          const to = range?.[2] ? Math.min(model.length, Number(range[2]) + 1) : model.length;
          response.writeHead(range ? 206 : 200, {
            'Content-Type': 'application/octet-stream',
            'Accept-Ranges': 'bytes',
            'ETag': '"tiny"',
            'Content-Length': to - from,
            ...(range ? { 'Content-Range': `bytes ${from}-${to - 1}/${model.length}` } : {}),
          });
          response.end(model.subarray(from, to));
          return true;
        }
        return false;
      },
    },
    { browser },
  );
  return { ...it, requests };
}
