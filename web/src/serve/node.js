/** A handler behind Node's own HTTP server. */
import http from 'node:http';
import { isIP } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Refusal } from '../chat/refusal.js';
import { json } from './http.js';

/** @param {string} host a name or an address, without a port */
export const isLoopback = (host) => /^(localhost|127(\.\d+){3}|::1)$/.test(host);

/**
 * Whether a request that names this host may be answered. A page of a stranger can point its own
 * name at this machine; then the browser believes that both are of one origin.
 * @param {string | undefined} header
 * @param {string} bound where the server listens
 */
function isOurs(header, bound) {
  const host = (header ?? '').replace(/:\d+$/, '').replace(/^\[(.+)\]$/, '$1');
  return isLoopback(host) || host === bound || (!isLoopback(bound) && isIP(host) !== 0);
}

/**
 * @param {(request: Request) => Promise<Response>} handler
 * @param {string} bound
 * @returns {http.Server}
 */
export function serverOf(handler, bound) {
  const server = http.createServer(async (incoming, outgoing) => {
    const { method = 'GET', headers, url = '/' } = incoming;
    const gone = new AbortController();
    outgoing.on('close', () => {
      gone.abort();
      if (!server.listening) server.closeIdleConnections(); // or it would take the next question, too
    });
    try {
      const response = isOurs(headers.host, bound)
        ? await handler(requestOf(incoming, `http://${headers.host}${url}`, gone.signal))
        : json(
            new Refusal(403, 'host_not_allowed', `${headers.host}: this is not its server`),
            403,
          );
      outgoing.writeHead(response.status, Object.fromEntries(response.headers));
      if (!response.body || method === 'HEAD') outgoing.end();
      else await pipeline(Readable.fromWeb(/** @type {any} */ (response.body)), outgoing);
    } catch {
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(400).end();
    }
  });
  return server;
}

/**
 * @param {http.IncomingMessage} incoming
 * @param {string} url
 * @param {AbortSignal} signal
 */
function requestOf(incoming, url, signal) {
  const { method = 'GET', headers } = incoming;
  const body = /^(GET|HEAD)$/.test(method) ? undefined : Readable.toWeb(incoming);
  const init = { method, headers, signal, body, duplex: 'half' };
  return new Request(url, /** @type {any} */ (init));
}

/**
 * @param {http.Server} server
 * @param {number} port 0: any that is free
 * @param {string} host
 * @returns {Promise<string>} its address, without a slash at the end
 */
export function listen(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      const {
        address,
        port: taken,
        family,
      } = /** @type {import('node:net').AddressInfo} */ (server.address());
      const name = family === 'IPv6' ? `[${address}]` : address;
      resolve(`http://${name}:${taken}`);
    });
  });
}

/** No new questions; those that are being answered end, or are ended after a while. @param {http.Server} server @param {number} patience in ms */
export async function close(server, patience) {
  const timer = setTimeout(() => server.closeAllConnections(), patience);
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeIdleConnections();
  });
  clearTimeout(timer);
}
