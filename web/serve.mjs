// Serves the chat page and the models on this machine, for development and tests:
//
//   node web/serve.mjs [--port N] [--throttle 8mbit] [--no-isolation] [--no-range]      (npm start
//   -- …)
//
// /web/… and /models/… are those folders; / leads to the page. Answers carry
// ETag and Last-Modified, ranges work (If-Range too), and the headers that
// isolate the page (COOP, COEP) let it use threads. --throttle limits all
// connections together, as one slow line would.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import send from 'send';

const repository = fileURLToPath(new URL('..', import.meta.url));

/**
 * @typedef {object} ServeOptions
 * @property {string} [root] the folder that paths start from; the repository if left out
 * @property {string[]} [folders] the folders below it that are served (all of it for an empty list)
 * @property {boolean} [isolation] send COOP and COEP (true)
 * @property {boolean} [ranges] answer Range requests (true)
 * @property {number | ((url: string) => number)} [bitsPerSecond] limit of all connections together,
 *   or what it is at the moment for this address; 0 is none
 * @property {Record<string, string>} [headers] further headers
 * @property {(request: http.IncomingMessage, response: http.ServerResponse) => boolean | void}
 *   [intercept] sees each request first; true says that it has answered
 */

/** The server, not yet listening. @param {ServeOptions} [options] */
export function createServer(options = {}) {
  const {
    root = repository,
    folders = ['web', 'models'],
    isolation = true,
    ranges = true,
    bitsPerSecond = 0,
    headers = {},
    intercept,
  } = options;
  const line = new Line();
  const rateOf = typeof bitsPerSecond === 'function' ? bitsPerSecond : () => bitsPerSecond;
  return http.createServer((request, response) => {
    if (isolation) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    response.setHeader('Cross-Origin-Resource-Policy', 'cross-origin');
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (bitsPerSecond) slowDown(response, line, () => rateOf(request.url ?? '') / 8);
    if (intercept?.(request, response)) return;
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405);
    const url = addressOf(request);
    const file = url && plainPath(url.pathname);
    if (!url || file === null) return refuse(response, 400);
    const { pathname, search } = url;
    if (pathname === '/') {
      response.writeHead(302, { Location: `/web/demo/${search}` }).end();
      return;
    }
    if (folders.length && !folders.some((folder) => file.startsWith(`/${folder}/`)))
      return refuse(response, 404);
    send(request, pathname, { root, acceptRanges: ranges, dotfiles: 'deny', cacheControl: false })
      .on(
        'headers',
        (
          /** @type {http.ServerResponse} */ res,
          /** @type {string} */ name,
          /** @type {fs.Stats} */ stat,
        ) => {
          res.setHeader('Cache-Control', 'no-cache'); // ask again, get 304
          // A strong tag: what If-Range needs to go on with a download.
          res.setHeader(
            'ETag',
            `"${stat.size.toString(16)}-${Math.round(stat.mtimeMs).toString(16)}"`,
          );
          if (name.endsWith('.gguf')) res.setHeader('Content-Type', 'application/octet-stream');
        },
      )
      .on('error', (/** @type {{ status?: number }} */ error) =>
        refuse(response, error.status ?? 500),
      )
      .pipe(response);
  });
}

/** Listens on that port, or on the next free one; resolves to the address. */
export function listen(/** @type {http.Server} */ server, port = 0, tries = 1) {
  return new Promise((resolve, reject) => {
    server.once('error', (/** @type {NodeJS.ErrnoException} */ error) => {
      if (error.code === 'EADDRINUSE' && tries > 1)
        listen(server, port + 1, tries - 1).then(resolve, reject);
      else reject(error);
    });
    server.listen(port, 'localhost', () => {
      const address = server.address();
      resolve(`http://localhost:${typeof address === 'object' ? address?.port : ''}/`);
    });
  });
}

/** Null for a path that is no address, such as "//[". @param {http.IncomingMessage} request */
function addressOf({ url = '/' }) {
  try {
    return new URL(url, 'http://localhost');
  } catch {
    return null;
  }
}

/** A URL's path as the file system will read it, or null for one that cannot be decoded. */
function plainPath(/** @type {string} */ pathname) {
  try {
    return path.posix.normalize(decodeURIComponent(pathname));
  } catch {
    return null;
  }
}

function refuse(/** @type {http.ServerResponse} */ response, /** @type {number} */ status) {
  if (response.headersSent) return response.destroy();
  response
    .writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' })
    .end(`${status} ${http.STATUS_CODES[status]}\n`);
}

/** A line that several share: each piece waits until those before it are through. */
class Line {
  #free = 0;

  /** Resolves when that many bytes have gone through. */
  carry(/** @type {number} */ bytes, /** @type {number} */ bytesPerSecond) {
    this.#free = Math.max(this.#free, performance.now()) + (1000 * bytes) / bytesPerSecond;
    return new Promise((resolve) => setTimeout(resolve, this.#free - performance.now()));
  }
}

/**
 * Makes a response's body go through the line, in small pieces, so that a file arrives evenly.
 * @param {http.ServerResponse} response @param {Line} line
 * @param {() => number} rate bytes a second now; 0: no limit
 */
function slowDown(response, line, rate) {
  const write = response.write.bind(response);
  const end = response.end.bind(response);
  let sent = Promise.resolve();
  const queue = (/** @type {string | Uint8Array} */ chunk) => {
    const bytes = Buffer.from(/** @type {any} */ (chunk));
    sent = sent.then(async () => {
      for (let at = 0; at < bytes.length && !response.destroyed;) {
        const now = rate();
        const piece = now ? Math.max(512, Math.min(16384, Math.round(now / 50))) : bytes.length;
        const part = bytes.subarray(at, at + piece);
        if (now) await line.carry(part.length, now);
        if (!response.destroyed) write(part);
        at += part.length;
      }
      response.emit('drain');
    });
  };
  response.write = /** @type {any} */ (
    (/** @type {any} */ chunk) => {
      queue(chunk);
      return false;
    }
  );
  response.end = /** @type {any} */ (
    (/** @type {any} */ chunk) => {
      if (chunk && typeof chunk !== 'function') queue(chunk);
      sent = sent.then(() => {
        end();
      });
      return response;
    }
  );
}

/** "8mbit", "500kbit" or bits a second as a number. */
export function parseRate(/** @type {string} */ text) {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:bit|bps)?(?:\/s)?$/i.exec(text);
  const rate = match
    ? Number(match[1]) *
      { '': 1, 'k': 1e3, 'm': 1e6, 'g': 1e9 }[
        /** @type {'' | 'k' | 'm' | 'g'} */ (match[2].toLowerCase())
      ]
    : 0;
  if (!(rate >= 1000))
    throw new RangeError(`--throttle ${text}: give a rate such as 8mbit or 500kbit`);
  return rate;
}

async function main() {
  const { values } = parseArgs({
    options: {
      'port': { type: 'string', default: '8080' },
      'throttle': { type: 'string' },
      'no-isolation': { type: 'boolean', default: false },
      'no-range': { type: 'boolean', default: false },
      'help': { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log('usage: npm start -- [--port N] [--throttle 8mbit] [--no-isolation] [--no-range]');
    return;
  }
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new RangeError(`--port ${values.port}: a port is a number from 0 to 65535`);
  const bitsPerSecond = values.throttle ? parseRate(values.throttle) : 0;
  const server = createServer({
    isolation: !values['no-isolation'],
    ranges: !values['no-range'],
    bitsPerSecond,
  });
  const address = await listen(server, port, 20);
  console.log(
    `ExitLM: the chat page is at ${address}${bitsPerSecond ? `  (line limited to ${bitsPerSecond / 1e6} Mbit/s)` : ''}`,
  );
  console.log('Ctrl-C ends the server.');
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`exitlm: ${error.message}`);
    process.exit(error.code?.startsWith?.('ERR_PARSE_ARGS') || error instanceof RangeError ? 2 : 1);
  });
}
