/** Requests and responses. */
import { Refusal } from '../chat/refusal.js';

/** @param {unknown} value @param {number} [status] @param {Record<string, string>} [headers] */
export function json(value, status = 200, headers = {}) {
  return new Response(`${JSON.stringify(value)}\n`, {
    status,
    headers: {
      'Content-Type': 'application/json; charset=utf-8',
      'Cache-Control': 'no-store',
      ...headers,
    },
  });
}

/** @param {Request} request @returns {Record<string, string>} */
export const preflight = (request) => ({
  'Access-Control-Allow-Methods': 'GET, POST, OPTIONS',
  'Access-Control-Allow-Headers':
    request.headers.get('access-control-request-headers') ?? 'authorization, content-type',
  'Access-Control-Max-Age': '86400',
});

/** Compares in a time that does not tell where texts differ. @param {string} a @param {string} b */
export function sameText(a, b) {
  const encoder = new TextEncoder();
  const [x, y] = [encoder.encode(a), encoder.encode(b)];
  let different = x.length ^ y.length;
  for (let i = 0; i < y.length; i++) different |= y[i] ^ (x[i] ?? 0);
  return different === 0;
}

/** @param {Request} request @param {number} most @returns {Promise<string>} */
export async function readText(request, most) {
  const tooLong = () =>
    new Refusal(413, 'request_too_large', `the request's body: at most ${most} bytes are taken`);
  const length = Number(request.headers.get('content-length') ?? 0);
  if (length > most) throw tooLong();
  if (!request.body) return '';
  const decoder = new TextDecoder();
  const reader = request.body.getReader();
  let text = '';
  for (let bytes = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.length;
    if (bytes > most) {
      reader.cancel().catch(() => {});
      throw tooLong();
    }
    text += decoder.decode(value, { stream: true });
  }
}
