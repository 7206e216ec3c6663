// A slow line with a meter: a server of this machine, limited, that remembers when how many bytes
// went out.
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { createServer, listen } from '../../web/serve.mjs';

/** Milliseconds since 1970, finer than Date; a page's timeOrigin + now() is the same clock. */
export const clock = () => performance.timeOrigin + performance.now();

/** Compressed once, as static hosts do: whoever loads does not wait for it. @type {Map<string, Buffer>} */
const kept = new Map();
const compressed = (/** @type {string} */ file) => {
  let bytes = kept.get(file);
  if (!bytes) kept.set(file, (bytes = gzipSync(fs.readFileSync(file))));
  return bytes;
};

/**
 * @typedef {{ at: number, bytes: number }} Point so many bytes had gone out at that time (clock())
 * @typedef {Awaited<ReturnType<typeof openLine>>} Line
 */

/**
 * All bytes on the line count, the answers' headers too. A manifest goes out compressed, as static
 * hosts do with JSON.
 * @param {import('../../web/serve.mjs').ServeOptions & { root: string, rttMs?: number }} options
 *   `rttMs`: so long an answer takes to begin
 */
export async function openLine({ rttMs = 0, ...options }) {
  const intercept = (
    /** @type {import('node:http').IncomingMessage} */ { url = '', headers },
    /** @type {import('node:http').ServerResponse} */ response,
  ) => {
    // a browser that asks for a range wants no encoding
    if (!url.endsWith('/manifest.json') || !String(headers['accept-encoding']).includes('gzip'))
      return false;
    response
      .writeHead(200, { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' })
      .end(compressed(path.join(options.root, url)));
    return true;
  };
  const server = createServer({
    intercept,
    headers: {
      'Access-Control-Allow-Origin': '*',
      'Access-Control-Expose-Headers': 'ETag, Content-Range',
    },
    ...options,
  });
  const [answer] = /** @type {((request: unknown, response: unknown) => void)[]} */ (
    server.listeners('request')
  );
  let requests = 0;
  server.removeAllListeners('request').on('request', (request, response) => {
    requests++;
    if (rttMs > 0) setTimeout(answer, rttMs, request, response);
    else answer(request, response);
  });
  /** @type {Point[]} */
  const points = [];
  let bytes = 0;
  server.on('connection', (socket) => {
    let before = 0;
    const write = socket.write.bind(socket);
    socket.write = (/** @type {any[]} */ ...args) => {
      const done = /** @type {any} */ (write)(...args);
      bytes += socket.bytesWritten - before;
      before = socket.bytesWritten;
      points.push({ at: clock(), bytes });
      return done;
    };
  });
  const address = (await listen(server)).slice(0, -1);
  return {
    address,
    points,
    requests: () => requests,
    /** Bytes that had gone out by then. */
    bytesAt: (/** @type {number} */ at) => points.findLast((p) => p.at <= at)?.bytes ?? 0,
    /** When the last byte went out. */
    lastByteAt: () => points.at(-1)?.at ?? NaN,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}
