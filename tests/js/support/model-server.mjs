// A server that misbehaves on request: what the package's loader has to survive.
import http from 'node:http';
import zlib from 'node:zlib';

/**
 * @typedef {object} Behaviour
 * @property {boolean} [ranges] obey Range (true)
 * @property {string | null} [etag]
 * @property {(n: number, range: { from: number, to: number }) => number | null} [cutAfter] bytes
 *   after which answer n is cut off
 * @property {(n: number) => number | null} [status] another status for answer n
 * @property {Record<string, string>} [headers]
 * @property {boolean | 'where accepted'} [gzip]
 * @property {number} [bytesPerSecond] of each connection
 *
 * @typedef {{ url: string, method: string, range: string | null, ifRange: string | null, sent:
 *   number }} Seen
 */

/**
 * @param {Record<string, Uint8Array | (() => Uint8Array)>} files by path
 * @param {Behaviour} [behaviour] may be changed while it runs
 */
export async function modelServer(files, behaviour = {}) {
  /** @type {Seen[]} */
  const seen = [];
  const server = http.createServer((request, response) => void answer(request, response));

  /** @param {http.IncomingMessage} request @param {http.ServerResponse} response */
  async function answer(request, response) {
    const {
      ranges = true,
      etag = '"v1"',
      cutAfter,
      status,
      headers = {},
      gzip = false,
      bytesPerSecond = 0,
    } = behaviour;
    const n = seen.length;
    const record = {
      url: request.url ?? '',
      method: request.method ?? '',
      range: request.headers.range ?? null,
      ifRange: /** @type {string | undefined} */ (request.headers['if-range']) ?? null,
      sent: 0,
    };
    seen.push(record);
    const file = files[(request.url ?? '').split('?')[0]];
    const wanted = status?.(n);
    if (wanted || !file)
      return void response.writeHead(wanted ?? 404, { 'content-type': 'text/plain' }).end('no');
    const bytes = typeof file === 'function' ? file() : file;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (etag) response.setHeader('etag', etag);
    if (ranges) response.setHeader('accept-ranges', 'bytes');
    const match = ranges && /^bytes=(\d+)-(\d*)$/.exec(record.range ?? '');
    const valid = match && (record.ifRange === null || record.ifRange === etag);
    let from = 0;
    let to = bytes.length;
    if (valid) {
      from = Number(match[1]);
      to = match[2] ? Math.min(bytes.length, Number(match[2]) + 1) : bytes.length;
      if (from >= bytes.length)
        return void response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
      response.setHeader('content-range', `bytes ${from}-${to - 1}/${bytes.length}`);
      response.statusCode = 206;
    }
    let body = bytes.subarray(from, to);
    const accepted = (request.headers['accept-encoding'] ?? '').includes('gzip');
    if (gzip === 'where accepted' ? accepted : gzip) {
      body = zlib.gzipSync(body);
      response.setHeader('content-encoding', 'gzip');
    }
    response.setHeader('content-length', body.length);
    const cut = cutAfter?.(n, { from, to }) ?? null;
    const end = cut === null ? body.length : Math.min(cut, body.length);
    const step = bytesPerSecond ? Math.max(1, Math.floor(bytesPerSecond / 50)) : 64 * 1024;
    for (let at = 0; at < end && !response.destroyed; at += step) {
      const piece = body.subarray(at, Math.min(end, at + step));
      record.sent += piece.length;
      await new Promise((resolve) => {
        response.once('close', resolve);
        response.write(piece, () => {
          response.off('close', resolve);
          resolve(undefined);
        });
      });
      if (bytesPerSecond) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (cut !== null) response.destroy();
    else response.end();
  }

  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    address: `http://127.0.0.1:${port}`,
    seen,
    behaviour,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
