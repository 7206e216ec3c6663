// What the checks of the answers share: the reference, the engine and how they are compared.
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const defaultModel = path.join(root, 'models/smollm2-135m-instruct.gguf');
export const program = process.env.EXITLM ?? path.join(root, 'build/exitlm');
/** Where texts and results go: ignored by git. */
export const out = path.join(root, 'build/answers');

const run = promisify(execFile);

/** @typedef {{ id: number, logit: number }} Candidate */
/**
 * @typedef {{ index: number, id: number, logprob: number, top: Candidate[] }} Position what follows
 *   the ids before `index`; `id` stands there
 */

/** Compiles tests/reference/reference.c, once; `real` is float or double. */
export function buildReference(real = 'float') {
  const source = path.join(root, 'tests/reference/reference.c');
  const binary = path.join(out, `reference-${real}`);
  if (fs.existsSync(binary) && fs.statSync(binary).mtimeMs > fs.statSync(source).mtimeMs)
    return binary;
  fs.mkdirSync(out, { recursive: true });
  const partial = `${binary}.${process.pid}`; // two tests may build it at the same time
  execFileSync(
    'cc',
    ['-std=gnu11', '-O3', '-march=native', `-DREAL=${real}`, '-o', partial, source, '-lm'],
    { stdio: ['ignore', 2, 2] },
  );
  fs.renameSync(partial, binary);
  return binary;
}

/** Runs a program that prints positions as `exitlm score --json` does, on a file of ids. */
async function positions(
  /** @type {string} */ file,
  /** @type {string[]} */ args,
  /** @type {number[]} */ ids,
) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-ids-'));
  try {
    const idsFile = path.join(folder, 'ids');
    fs.writeFileSync(idsFile, ids.join(' '));
    const { stdout } = await run(file, [...args, '--ids', idsFile], { maxBuffer: 1 << 28 });
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    return {
      positions: /** @type {Position[]} */ (lines.filter(({ type }) => type === 'position')),
      text: stdout,
    };
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/**
 * The reference's positions; with `next` also the one after the last id, from position `from` on.
 */
export async function runReference(
  /** @type {string} */ model,
  /** @type {number[]} */ ids,
  {
    top = 2,
    from = 1,
    next = false,
    real = 'float',
    command = /** @type {string[] | undefined} */ (undefined),
  } = {},
) {
  const [file, ...first] = command ?? [buildReference(real)];
  const args = [model, '--top', String(top), '--from', String(from), ...(next ? ['--next'] : [])];
  return (await positions(file, [...first, ...args], ids)).positions;
}

/** The engine's positions, and the text that it printed (logits with all their digits). */
export async function runEngine(
  /** @type {string} */ model,
  /** @type {number[]} */ ids,
  { top = 2, options = /** @type {string[]} */ ([]), command = [program] } = {},
) {
  return positions(
    command[0],
    [...command.slice(1), 'score', model, '--top', String(top), '--json', ...options],
    ids,
  );
}

/** Ids of a text in which special tokens count as such. */
export function tokenize(/** @type {string} */ model, /** @type {string} */ text) {
  const output = execFileSync(program, ['tokenize', model, '--ids', '--json', '--special'], {
    input: text,
    maxBuffer: 1 << 28,
    encoding: 'utf8',
  });
  return /** @type {number[]} */ (JSON.parse(output).ids);
}

export const gapOf = (/** @type {Position} */ { top }) => top[0].logit - top[1].logit;

/**
 * How the answers `given` stand to those of the reference, position by position.
 * `wide` are disagreements where the reference's two best are further apart than `gap`.
 * @param {Position[]} reference
 * @param {Position[]} given
 */
export function compare(reference, given, gap = 0.5) {
  if (reference.length !== given.length)
    throw new Error(`${given.length} positions were given, the reference has ${reference.length}`);
  let agree = 0;
  let logprobs = 0;
  let givenLogprobs = 0;
  let largestError = 0;
  /** @type {{ index: number, gap: number, expected: number, got: number }[]} */
  const disagreements = [];
  reference.forEach((position, i) => {
    const other = given[i];
    if (other.index !== position.index || other.id !== position.id)
      throw new Error(`position ${i}: the two runs are not of the same ids`);
    logprobs += position.logprob;
    givenLogprobs += other.logprob;
    if (other.top[0].id === position.top[0].id) {
      agree++;
      largestError = Math.max(largestError, Math.abs(other.top[0].logit - position.top[0].logit));
    } else {
      disagreements.push({
        index: position.index,
        gap: gapOf(position),
        expected: position.top[0].id,
        got: other.top[0].id,
      });
    }
  });
  const perplexity = Math.exp(-logprobs / reference.length);
  const givenPerplexity = Math.exp(-givenLogprobs / reference.length);
  return {
    positions: reference.length,
    agree,
    share: agree / reference.length,
    wide: disagreements.filter((d) => d.gap > gap),
    widestGap: Math.max(0, ...disagreements.map((d) => d.gap)),
    perplexity: givenPerplexity,
    referencePerplexity: perplexity,
    perplexityError: givenPerplexity / perplexity - 1,
    largestError,
    disagreements,
  };
}

/** Calls `work` for every item, `jobs` at a time, in order. */
export async function inParallel(
  /** @type {any[]} */ items,
  /** @type {number} */ jobs,
  /** @type {(item: any, index: number) => Promise<any>} */ work,
) {
  /** @type {any[]} */
  const results = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: jobs }, async () => {
      while (next < items.length) {
        const at = next++;
        results[at] = await work(items[at], at);
      }
    }),
  );
  return results;
}
