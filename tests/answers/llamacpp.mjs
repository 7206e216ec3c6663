// Native llama.cpp, through the prebuilt addon of npm's node-llama-cpp: the neighbour that answers
// and speed are compared with. It is no dependency of the project: the first use installs it into
// build/peers (about 30 s).
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const version = '3.22.1';
const folder = path.join(root, 'build/peers');

/**
 * Installs an npm package of that version into build/peers, unless it is there, and resolves to the
 * path of `file` in it.
 */
export function installPeer(
  /** @type {string} */ name,
  /** @type {string} */ wanted,
  /** @type {string} */ file,
) {
  const at = path.join(folder, 'node_modules', name);
  const manifest = path.join(at, 'package.json');
  if (
    !fs.existsSync(manifest) ||
    JSON.parse(fs.readFileSync(manifest, 'utf8')).version !== wanted
  ) {
    process.stderr.write(`installing ${name} ${wanted} into build/peers …\n`);
    fs.mkdirSync(folder, { recursive: true });
    if (!fs.existsSync(path.join(folder, 'package.json')))
      fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
    const { status } = spawnSync(
      'npm',
      ['install', '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${wanted}`],
      { cwd: folder, stdio: ['ignore', 2, 2] },
    );
    if (status !== 0)
      throw new Error(
        `npm could not install ${name} ${wanted} into build/peers (its message is above)`,
      );
  }
  return path.join(at, file);
}

/**
 * @typedef {object} Llama
 * @property {(text: string) => number[]} tokenize special tokens in the text count as such, none is
 *   added
 * @property {(ids: number[]) => string} detokenize
 * @property {(ids: number[]) => Promise<Scored[]>} score positions 1 … ids.length: what follows
 *   ids[0 … index-1]
 * @property {(ids: number[], n: number, onToken?: () => void) => Promise<number[]>} greedy up to n
 *   tokens, end-of-text not included
 * @property {(ids: number[], n: number) => AsyncIterable<number>} tokens n of them after a prompt,
 *   through an emptied cache; goes on after end-of-text
 * @property {() => Promise<void>} close
 */
/**
 * @typedef {{ index: number, id: number, logprob: number, top: { id: number, logit: number }[] }}
 *   Scored
 */

/**
 * Opens a model file: one thread unless said otherwise, no GPU, its own defaults for everything
 * else.
 * @param {string} model path of a GGUF file
 * @param {{ threads?: number, context?: number }} [options]
 * @returns {Promise<Llama>}
 */
export async function openLlama(model, { threads = 1, context: contextSize = 2048 } = {}) {
  const entry = installPeer('node-llama-cpp', version, 'dist/index.js');
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    progressLogs: false,
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  const loaded = await llama.loadModel({ modelPath: model });
  const context = await loaded.createContext({
    contextSize,
    threads: { ideal: threads, min: threads },
  });
  const sequence = context.getSequence();

  return {
    tokenize: (text) => [...loaded.tokenize(text, true)],
    detokenize: (ids) => loaded.detokenize(ids, true),

    async score(ids) {
      await sequence.clearHistory();
      const results = await sequence.controlledEvaluate(
        ids.map((id, i) => [
          id,
          {
            generateNext: {
              totalLogitWeight: true,
              logits: { filter: { tokens: i + 1 < ids.length ? [ids[i + 1]] : [], includeTop: 2 } },
            },
          },
        ]),
      );
      return results.map((/** @type {any} */ { next }, /** @type {number} */ i) => {
        const top = [...next.logits]
          .map(([id, logit]) => ({ id, logit }))
          .sort((a, b) => b.logit - a.logit || a.id - b.id)
          .slice(0, 2);
        const id = i + 1 < ids.length ? ids[i + 1] : -1;
        return {
          index: i + 1,
          id,
          logprob:
            id < 0 ? 0 : next.logits.get(id) - top[0].logit - Math.log(next.totalLogitWeight),
          top,
        };
      });
    },

    async greedy(ids, n, onToken = () => {}) {
      await sequence.clearHistory();
      /** @type {number[]} */
      const reply = [];
      for await (const token of sequence.evaluate(ids, { temperature: 0 })) {
        if (loaded.isEogToken(token)) break;
        reply.push(token);
        onToken();
        if (reply.length >= n) break;
      }
      return reply;
    },

    async *tokens(ids, n) {
      await sequence.clearHistory();
      let count = 0;
      for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
        yield token;
        if (++count === n) break;
      }
    },

    async close() {
      await context.dispose();
      await loaded.dispose();
      await llama.dispose();
    },
  };
}
