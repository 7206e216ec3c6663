// Makes the text of the teacher-forced check: conversations (the project's prompts, answered
// greedily by the engine), code and prose of this repository, and mixed.txt (languages, tables,
// data, arithmetic). Free of licences, about 20,000 tokens.
//
//   node tests/answers/text.mjs [--tokens 20480] [--model FILE]     writes build/answers/text.ids
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultModel, out, program, root, tokenize } from './tools.mjs';

export const textFile = path.join(out, 'text.ids');
const ANSWER_TOKENS = 160;

/**
 * The prompts that have one turn and a size that leaves room for others, spread over their kinds.
 */
export function prompts(/** @type {number} */ n, /** @type {string} */ split) {
  const lines = fs
    .readFileSync(path.join(root, 'tests/data/prompts.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const usable = lines.filter((p) => p.split === split && p.turns[0].length < 1200);
  const kinds = [...new Set(usable.map((p) => p.kind))].sort();
  /** @type {{ id: string, kind: string, turns: string[] }[]} */
  const chosen = [];
  for (let round = 0; chosen.length < n; round++) {
    const before = chosen.length;
    for (const kind of kinds) {
      const next = usable.filter((p) => p.kind === kind)[round];
      if (next && chosen.length < n) chosen.push(next);
    }
    if (chosen.length === before) break;
  }
  return chosen;
}

export const system = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face';
export const chatText = (/** @type {string} */ user) =>
  `<|im_start|>system\n${system}<|im_end|>\n<|im_start|>user\n${user}<|im_end|>\n<|im_start|>assistant\n`;

/** The ids that the engine answers a prompt with, greedily. */
export function answer(
  /** @type {string} */ model,
  /** @type {string} */ prompt,
  n = ANSWER_TOKENS,
) {
  const output = execFileSync(
    program,
    [
      ...['chat', model, '-p', prompt, '--mode', 'full', '--max-tokens', String(n), '--json'],
      ...['--kv-type', 'f32'], // as the text of before
    ],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  );
  return output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'token')
    .map(({ id }) => /** @type {number} */ (id));
}

/** Files of the repository, the same number of characters from each. */
function excerpts(/** @type {string[]} */ files, /** @type {number} */ characters) {
  return files
    .map((file) => fs.readFileSync(path.join(root, file), 'utf8').slice(0, characters))
    .join('\n');
}

function makeText(/** @type {string} */ model, /** @type {number} */ wanted) {
  const read = (/** @type {string} */ file) => fs.readFileSync(path.join(root, file), 'utf8');
  const rest = [
    ...tokenize(model, read('tests/answers/mixed.txt')),
    ...tokenize(
      model,
      excerpts(
        [
          'src/run/forward.c',
          'src/gguf/gguf.c',
          'src/run/sampler.c',
          'src/exitlm.h',
          'tests/run.mjs',
          'models/fetch.mjs',
          'src/text/unicode_gen.py',
          'CMakeLists.txt',
        ],
        2400,
      ),
    ),
    ...tokenize(
      model,
      excerpts(['src/README.md', 'models/README.md', 'wasm/README.md', 'LICENSE'], 2600),
    ),
  ].slice(0, Math.round(wanted * 0.55));
  /** @type {number[]} */
  const ids = [];
  const [imEnd] = tokenize(model, '<|im_end|>');
  const [newline] = tokenize(model, '\n');
  for (const prompt of prompts(400, 'train')) {
    ids.push(
      ...tokenize(model, chatText(prompt.turns[0])),
      ...answer(model, prompt.turns[0]),
      imEnd,
      newline,
    );
    process.stderr.write(`\r${ids.length} tokens of conversations`);
    if (ids.length + rest.length >= wanted) break;
  }
  process.stderr.write('\n');
  return [...ids, ...rest].slice(0, wanted);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      tokens: { type: 'string', default: '20480' },
      model: { type: 'string', default: defaultModel },
    },
  });
  const ids = makeText(values.model, Number(values.tokens));
  fs.mkdirSync(out, { recursive: true });
  fs.writeFileSync(textFile, `${ids.join(' ')}\n`);
  console.log(
    `${path.relative(root, textFile)}: ${ids.length} tokens, ${new Set(ids).size} different ones`,
  );
}
