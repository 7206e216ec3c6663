// The declarations of the packed package, as a strict TypeScript program sees them: what is right
// checks, what is wrong does not.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { install, temporary } from '../bundlers/support/app.mjs';

const tsc = fileURLToPath(new URL('../../node_modules/typescript-native/bin/tsc', import.meta.url));
const app = temporary();
before(() => {
  install(app);
  fs.mkdirSync(path.join(app, 'node_modules/@ai-sdk'));
  fs.symlinkSync(
    path.resolve('node_modules/@ai-sdk/provider'),
    path.join(app, 'node_modules/@ai-sdk/provider'),
  );
  fs.writeFileSync(
    path.join(app, 'package.json'),
    JSON.stringify({ name: 'app', private: true, type: 'module' }),
  );
});

const program = `
import { ExitLM, ExitLMError, type Token, type DraftEvent, type Result, type Calibration, type ExitLMErrorCode, type LoadOptions } from 'exitlm';
import { ExitLM as EdgeLM } from 'exitlm/edge';
import { openaiFetch, type Exit } from 'exitlm/openai';
import { useExitLM } from 'exitlm/react';
import { createExitLM, exitlm } from 'exitlm/ai-sdk';
import { LanguageModel } from 'exitlm/prompt-api';

const options: LoadOptions = { threads: 'auto', cache: { get: async () => undefined, put: async () => {} }, onProgress: ({ loaded, layersReady, source }) => {
  const n: number = loaded + layersReady;
  const from: 'network' | 'cache' | 'memory' = source;
  void [n, from];
} };
const lm: ExitLM = await ExitLM.load(new URL('https://example.org/a.gguf'), options);
for await (const token of lm.chat([{ role: 'user', content: 'x' }], { maxTokens: 3, mode: 'exit', accuracy: 0.9 })) {
  const t: Token = token;
  const depth: number = t.depth;
  void depth;
}
for await (const item of lm.complete('x', { events: true as const })) {
  const either: Token | DraftEvent = item;
  if (either.type === 'reject') void either.draftHead;
}
const result: Result = await lm.complete('x').result;
const perSecond: number | null = result.timing.tokensPerSecond;
const made: Calibration = await lm.calibrate(['x', ['a', 'b'], [{ role: 'user', content: 'c' }]], { accuracy: 0.95, onProgress: ({ conversation }) => conversation.toFixed() });
if (made.certified) made.threshold?.map((t) => t.toFixed(2));
try {
  await ExitLM.check('x.gguf');
} catch (error) {
  if (error instanceof ExitLMError) {
    const code: ExitLMErrorCode = error.code;
    void code;
  }
}
const [kept] = await ExitLM.cache.list();
const bytes: number = kept.bytes;
const fetchLike: typeof fetch = openaiFetch(lm, { model: 'x' });
const exit: Exit = JSON.parse('{}');
const chat = useExitLM('/a.gguf', { threads: 1 });
if (chat.state === 'ready') void chat.send('x', { maxTokens: 3 }).then((r) => r?.text);
void [perSecond, bytes, fetchLike, exit.depth, chat.tokens[0]?.depth, exitlm(lm), createExitLM({ models: { small: lm } }).languageModel('small'), LanguageModel.availability(), EdgeLM.load(new Uint8Array(8))];

// @ts-expect-error a mode that there is not
lm.chat([], { mode: 'fast' });
// @ts-expect-error a text for a number
lm.complete('x', { maxTokens: '3' });
// @ts-expect-error a text for messages
lm.chat('x');
// @ts-expect-error a number is no source
ExitLM.load(3);
// @ts-expect-error no such option
lm.complete('x', { max_tokens: 3 });
// @ts-expect-error no such strategy
lm.complete('x', { strategy: 'luck' });
`;

for (const [module, resolution] of [
  ['NodeNext', 'NodeNext'],
  ['ESNext', 'Bundler'],
]) {
  test(`a strict program, moduleResolution ${resolution}`, () => {
    fs.writeFileSync(path.join(app, 'app.ts'), program);
    const { status, stdout } = spawnSync(
      process.execPath,
      [
        tsc,
        '--strict',
        '--noEmit',
        '--target',
        'ES2022',
        '--lib',
        'ES2023,DOM,DOM.Iterable,DOM.AsyncIterable,ESNext.Disposable',
        '--types',
        '',
        '--module',
        module,
        '--moduleResolution',
        resolution,
        'app.ts',
      ],
      { cwd: app, encoding: 'utf8' },
    );
    assert.equal(status, 0, stdout);
  });
}
