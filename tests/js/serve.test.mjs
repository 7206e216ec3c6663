// The development server: ranges, tags, headers, and what it must not give away.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { after, test } from 'node:test';
import { createServer, listen, parseRate } from '../../web/serve.mjs';

const catalog = fs.readFileSync(new URL('../../models/catalog.json', import.meta.url));
const servers = [];

async function serve(options) {
  const server = createServer(options);
  servers.push(server);
  return listen(server);
}
after(() =>
  servers.forEach((server) => {
    server.closeAllConnections();
    server.close();
  }),
);

// fetch() would tidy the path up.
const statusOf = (address, path) =>
  new Promise((resolve, reject) => {
    http
      .get({ host: 'localhost', port: new URL(address).port, path }, (res) => {
        res.resume();
        resolve(res.statusCode);
      })
      .on('error', reject);
  });

test('a file comes whole, with its type, a strong tag and the isolating headers', async () => {
  const response = await fetch(`${await serve()}models/catalog.json`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type'), /^application\/json/);
  assert.match(response.headers.get('etag'), /^"/);
  assert.equal(response.headers.get('cross-origin-opener-policy'), 'same-origin');
  assert.equal(response.headers.get('cross-origin-embedder-policy'), 'require-corp');
  assert.deepEqual(Buffer.from(await response.arrayBuffer()), catalog);
});

test('ranges are answered, and If-Range with another tag gives the whole file', async () => {
  const address = `${await serve()}models/catalog.json`;
  const part = await fetch(address, { headers: { Range: 'bytes=10-19' } });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get('content-range'), `bytes 10-19/${catalog.length}`);
  assert.equal(await part.text(), catalog.subarray(10, 20).toString());
  const same = await fetch(address, {
    headers: { 'Range': 'bytes=10-19', 'If-Range': part.headers.get('etag') },
  });
  assert.equal(same.status, 206);
  const other = await fetch(address, {
    headers: { 'Range': 'bytes=10-19', 'If-Range': '"other"' },
  });
  assert.equal(other.status, 200);
  assert.equal((await other.arrayBuffer()).byteLength, catalog.length);
  // Node's own value would ask for everything
  const known = await fetch(address, {
    headers: { 'If-None-Match': part.headers.get('etag'), 'Cache-Control': 'max-age=0' },
  });
  assert.equal(known.status, 304);
});

test('a server told not to answer ranges sends the whole file', async () => {
  const response = await fetch(
    `${await serve({ ranges: false, isolation: false })}models/catalog.json`,
    { headers: { Range: 'bytes=10-19' } },
  );
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('cross-origin-opener-policy'), null);
  assert.equal((await response.arrayBuffer()).byteLength, catalog.length);
});

test('only the served folders are reachable', async () => {
  const address = await serve();
  for (const path of [
    '/package.json',
    '/models/..%2fpackage.json',
    '/web/%2e%2e/package.json',
    '/models/../package.json',
    '/.git/config',
    '/models/none',
  ]) {
    assert.equal(await statusOf(address, path), 404, path);
  }
  assert.equal(await statusOf(address, '/models/%'), 400);
  assert.equal((await fetch(`${address}models/catalog.json`, { method: 'POST' })).status, 405);
});

test('a path that is no address does not end the server', async () => {
  const address = await serve();
  assert.equal(await statusOf(address, '//['), 400);
  assert.equal(await statusOf(address, '/models/catalog.json'), 200);
});

test('a throttled line carries what it says, all connections together', async () => {
  const seconds = 0.5;
  const address = await serve({ bitsPerSecond: (2 * 8 * catalog.length) / seconds });
  const began = performance.now();
  const bodies = await Promise.all(
    [1, 2].map(async () => (await fetch(`${address}models/catalog.json`)).arrayBuffer()),
  );
  const took = (performance.now() - began) / 1000;
  for (const body of bodies) assert.deepEqual(Buffer.from(body), catalog);
  assert.ok(took > 0.8 * seconds && took < 6 * seconds, `${took} s`);
});

test('rates', () => {
  assert.equal(parseRate('8mbit'), 8e6);
  assert.equal(parseRate('500kbit'), 5e5);
  assert.equal(parseRate('64000'), 64000);
  for (const text of ['', 'fast', '-1mbit', '0']) assert.throws(() => parseRate(text), RangeError);
});
