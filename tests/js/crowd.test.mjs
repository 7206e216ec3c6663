// The server of `exitlm serve` among a hundred clients at once: those that ask and wait, and those
// that stall, drip, go away, send too much, or send rubbish. Right answers or a clean refusal, and
// the line goes on.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { createHandler, ExitLM } from '../../web/src/edge.js';
import { close, listen, serverOf } from '../../web/src/serve/node.js';
import { tinyPath } from './support/tiny-model.mjs';

const OF_EACH = 10;
const question = (/** @type {object} */ more = {}) =>
  JSON.stringify({
    messages: [{ role: 'user', content: 'Hi, how are you?' }],
    max_tokens: 12,
    ...more,
  });
const lm = await ExitLM.load(tinyPath, { heads: false });
/** @type {unknown[]} */
const complaints = [];
const server = serverOf(
  createHandler({
    model: 'tiny',
    load: () => lm,
    sessions: 2,
    onError: (error) => complaints.push(error),
  }),
  '127.0.0.1',
);
let port = 0;
before(async () => {
  port = Number(new URL(await listen(server, 0, '127.0.0.1')).port);
});
after(async () => {
  await close(server, 0);
  await lm.dispose();
});

const head = (/** @type {string} */ length) =>
  `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${length}\r\n`;
const post = (/** @type {string | Buffer} */ body) =>
  Buffer.concat([Buffer.from(head(`Content-Length: ${body.length}\r\n`)), Buffer.from(body)]);

/** A bare connection. */
async function connect() {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => {}); // the server may close it while something is sent
  await once(socket, 'connect');
  let text = '';
  socket.on('data', (data) => {
    text += data.toString('latin1');
  });
  const ended = once(socket, 'close');
  return {
    socket,
    ended,
    said: () => text,
    status: () => Number(/^HTTP\/1.1 (\d+) /.exec(text)?.[1]),
    /** Sees to it that something is there. @param {RegExp} like */
    async until(like) {
      while (!like.test(text) && !socket.closed)
        await Promise.race([once(socket, 'data').catch(() => {}), ended]);
    },
  };
}

/** Asks until there is room. @param {object} more @param {(r: Response) => Promise<string>} read */
async function answer(more, read) {
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: question(more),
    });
    if (response.ok) return read(response);
    assert.equal(response.status, 503, await response.text());
    assert.ok(Number(response.headers.get('retry-after')) >= 1);
    await wait(20);
  }
}
const whole = () => answer({}, async (r) => (await r.json()).choices[0].message.content);
const streamed = () =>
  answer({ stream: true }, async (r) =>
    (await r.text())
      .split('\n\n')
      .filter((event) => event.startsWith('data: {'))
      .map((event) => JSON.parse(event.slice(6)).choices[0]?.delta.content ?? '')
      .join(''),
  );

/** A client that is refused, with this status and a sentence. */
async function refused(/** @type {Buffer[]} */ pieces, /** @type {number} */ status) {
  const { socket, until, said, status: got } = await connect();
  for (const piece of pieces) {
    if (got() || socket.destroyed) break;
    if (!socket.write(piece)) await Promise.race([once(socket, 'drain'), until(/\r\n\r\n/)]);
  }
  await until(/\r\n\r\n/);
  assert.equal(got(), status, said());
  socket.destroy();
}

const MEGABYTE = Buffer.alloc(1 << 20, ' ');
const tooMuch = 10 * MEGABYTE.length;
/** Connections that are left open to the end. @type {net.Socket[]} */
const open = [];

/** What each kind does; who asks properly gives the text that it got. @type {Record<string, (i: number) => Promise<string | void>>} */
const kinds = {
  whole,
  streamed,
  async 'drips'() {
    for (;;) {
      const { socket, until, status, said } = await connect();
      for (const byte of post(question())) {
        socket.write(Buffer.of(byte));
        await new Promise(setImmediate);
      }
      await until(/\}\n/);
      socket.destroy();
      if (status() === 200)
        return JSON.parse(said().slice(said().indexOf('{'), said().lastIndexOf('}') + 1)).choices[0]
          .message.content;
      assert.equal(status(), 503, said());
    }
  },
  async 'stalls'(i) {
    const { socket } = await connect();
    const all = post(question());
    socket.write(all.subarray(0, Math.ceil((all.length * (i + 1)) / (OF_EACH + 1))));
    open.push(socket);
  },
  async 'does not read'() {
    const { socket } = await connect();
    socket.pause();
    socket.write(post(question({ stream: true, max_tokens: 100 })));
    open.push(socket);
  },
  async 'goes away at once'() {
    const { socket } = await connect();
    socket.write(post(question({ max_tokens: 200 })));
    socket.resetAndDestroy();
  },
  async 'goes away in the middle'() {
    const { socket, until } = await connect();
    socket.write(post(question({ stream: true, max_tokens: 200 })));
    await until(/data: |HTTP\/1.1 503/);
    socket.resetAndDestroy();
  },
  'sends 10 MB': (i) =>
    i % 2
      ? refused(
          [Buffer.from(head(`Content-Length: ${tooMuch}\r\n`)), ...Array(10).fill(MEGABYTE)],
          413,
        )
      : refused(
          [
            Buffer.from(head('Transfer-Encoding: chunked\r\n')),
            ...Array(10).fill(
              Buffer.concat([Buffer.from('100000\r\n'), MEGABYTE, Buffer.from('\r\n')]),
            ),
          ],
          413,
        ),
  'sends rubbish': (i) =>
    refused(
      [
        [
          Buffer.from('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 'latin1'), // TLS
          Buffer.from('GET\r\n\r\n'),
          Buffer.from(head('Content-Length: 7\r\nTransfer-Encoding: chunked\r\n')),
          Buffer.from(`GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n`),
          Buffer.from(head('Content-Length: 1e3\r\n')),
        ][i % 5],
      ],
      400,
    ),
  'asks rubbish': (i) =>
    refused(
      [
        post(
          [
            Buffer.from([0xff, 0xfe, 0x00, 0x80]),
            '{"messages": [',
            '[]',
            '{"messages": 7}',
            question({ max_tokens: 'many' }),
            question({ temperature: 1e300 }),
            question({ messages: [{ role: 'nobody', content: '' }] }),
            `${'['.repeat(30_000)}${']'.repeat(30_000)}`,
            'null',
            '"{}"',
          ][i],
        ),
      ],
      400,
    ),
};

test('a hundred clients', { timeout: 120_000 }, async () => {
  const expected = await whole();
  const clients = Array.from({ length: OF_EACH }, (_, i) =>
    Object.entries(kinds).map(([kind, client]) => ({ kind, i, client })),
  ).flat();
  assert.equal(clients.length, 100);
  await Promise.all(
    clients.map(async ({ kind, i, client }) => {
      const text = await client(i).catch((error) => {
        throw new Error(`${kind} ${i}: ${error.message}`, { cause: error });
      });
      if (text !== undefined) assert.equal(text, expected, `${kind} ${i}`);
    }),
  );
  assert.equal(open.length, 2 * OF_EACH);
  assert.equal(await whole(), expected, 'while some still stall');
  for (const socket of open) socket.resetAndDestroy();
  const health = async () => (await fetch(`http://127.0.0.1:${port}/health`)).json();
  while ((await health()).busy) await wait(10); // the test's own limit ends it
  assert.equal((await health()).waiting, 0);
  assert.deepEqual(complaints, [], 'nothing of it is an error of the server');
  assert.equal(await whole(), expected);
});
