// One process of native llama.cpp for peers.mjs: reads a task a line, answers with a speed a line.
import fs from 'node:fs';
import readline from 'node:readline';
import { openLlama } from '../answers/llamacpp.mjs';

const [model, threads, context] = process.argv.slice(2);
const began = performance.now();
const llama = await openLlama(model, { threads: Number(threads), context: Number(context) });
const reply = (/** @type {object} */ value) => process.stdout.write(`${JSON.stringify(value)}\n`);
reply({ loadMs: performance.now() - began });

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { task, ids, tokens } = JSON.parse(line);
  const speed =
    task === 'prompt' ? await llama.promptSpeed(ids) : await llama.decodeSpeed(ids, tokens);
  const [, peakKb] = /VmHWM:\s+(\d+)/.exec(fs.readFileSync('/proc/self/status', 'utf8')) ?? [0, 0];
  reply({ speed, peakBytes: Number(peakKb) * 1024 });
}
await llama.close();
