// exitlm/ai-sdk with the real `ai` package.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import {
  createProviderRegistry,
  generateObject,
  generateText,
  jsonSchema,
  NoSuchModelError,
  Output,
  stepCountIs,
  streamText,
  tool,
  ToolLoopAgent,
} from 'ai';
import { createExitLM, exitlm } from '../../web/src/ai-sdk.js';
import { hasReal } from './support/cli.mjs';
import { examplesOf } from './support/examples.mjs';
import { loadRoomy, tinyPath } from './support/tiny-model.mjs';
import { tscAccepts } from './support/tsc.mjs';

/** @type {any} */ (globalThis).AI_SDK_LOG_WARNINGS = false;
const lm = await loadRoomy();
after(() => lm.dispose());
const prompt = 'Hello there';
const chat = [{ role: 'user', content: prompt }];
const yesOrNo = jsonSchema({
  type: 'object',
  properties: { ok: { type: 'boolean' } },
  required: ['ok'],
  additionalProperties: false,
});

describe('ai-sdk', () => {
  test('generateText: text, usage, why it ended, how deep it went', async () => {
    const expected = await lm.chat(chat, { maxTokens: 20 }).result;
    const { text, usage, finishReason, providerMetadata, response, warnings } = await generateText({
      model: exitlm(lm),
      prompt,
      maxOutputTokens: 20,
    });
    assert.equal(text, expected.text);
    assert.equal(finishReason, 'length');
    assert.deepEqual(
      [usage.inputTokens, usage.outputTokens, usage.totalTokens],
      [expected.usage.promptTokens, 20, expected.usage.promptTokens + 20],
    );
    assert.ok(Number(usage.inputTokenDetails?.cacheReadTokens) > 0);
    const own = /** @type {any} */ (providerMetadata?.exitlm);
    assert.equal(own.mode, 'exit');
    assert.equal(own.tokens.length, 20);
    assert.ok(own.meanDepth < 1);
    assert.equal(response.modelId, lm.info.name);
    assert.deepEqual(warnings ?? [], []);
  });

  test('streamText: the same text in pieces, each with its exit', async () => {
    const expected = await lm.chat([{ role: 'system', content: 'Be brief.' }, ...chat], {
      maxTokens: 20,
    }).result;
    const result = streamText({
      model: exitlm(lm),
      system: 'Be brief.',
      prompt,
      maxOutputTokens: 20,
    });
    let text = '';
    /** @type {any[]} */
    const exits = [];
    for await (const part of result.fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type !== 'text-delta') continue;
      text += part.text;
      exits.push(/** @type {any} */ (part.providerMetadata?.exitlm));
    }
    assert.equal(text, expected.text);
    assert.ok(
      exits.length > 10 &&
        exits.every(({ layer, of, head }) => of === 6 && layer <= 6 && Number.isInteger(head)),
    );
    assert.ok(exits.some(({ depth }) => depth < 1));
    assert.equal(await result.finishReason, 'length');
    assert.equal((await result.usage).outputTokens, 20);
    assert.ok(/** @type {any} */ (await result.providerMetadata)?.exitlm.meanWork > 0);
  });

  test('options of the SDK and of ExitLM', async () => {
    const full = await generateText({
      model: exitlm(lm, { mode: 'full' }),
      prompt,
      maxOutputTokens: 12,
    });
    assert.equal(/** @type {any} */ (full.providerMetadata?.exitlm)?.meanDepth, 1);
    const lossless = await generateText({
      model: exitlm(lm),
      prompt,
      maxOutputTokens: 12,
      providerOptions: { exitlm: { mode: 'lossless' } },
    });
    assert.equal(lossless.text, full.text);
    const stop = full.text.slice(4, 7);
    const stopped = await generateText({
      model: exitlm(lm, { mode: 'full' }),
      prompt,
      maxOutputTokens: 12,
      stopSequences: [stop],
    });
    assert.equal(stopped.finishReason, 'stop');
    assert.equal(stopped.text, full.text.slice(0, full.text.indexOf(stop)));
    const sampled = (/** @type {number} */ seed) =>
      generateText({
        model: exitlm(lm),
        prompt,
        maxOutputTokens: 12,
        temperature: 1,
        topK: 50,
        topP: 0.9,
        seed,
      }).then((r) => r.text);
    const [a, b, c] = [await sampled(1), await sampled(1), await sampled(2)];
    assert.equal(a, b);
    assert.notEqual(a, c);
  });

  test('a conversation, with parts', async () => {
    const expected = await lm.chat(
      [...chat, { role: 'assistant', content: 'Hi.' }, { role: 'user', content: 'And now?' }],
      { maxTokens: 8 },
    ).result;
    const { text } = await generateText({
      model: exitlm(lm),
      maxOutputTokens: 8,
      messages: [
        { role: 'user', content: [{ type: 'text', text: prompt }] },
        {
          role: 'assistant',
          content: [
            { type: 'reasoning', text: 'hm' },
            { type: 'text', text: 'Hi.' },
          ],
        },
        { role: 'user', content: 'And now?' },
      ],
    });
    assert.equal(text, expected.text);
  });

  test('structured output is held to its schema', async () => {
    const { object } = await generateObject({
      model: exitlm(lm),
      prompt,
      maxOutputTokens: 60,
      schema: yesOrNo,
    });
    assert.equal(typeof (/** @type {any} */ (object).ok), 'boolean');
    const streamed = streamText({
      model: exitlm(lm),
      prompt,
      maxOutputTokens: 60,
      output: Output.object({ schema: yesOrNo }),
    });
    assert.equal(typeof (/** @type {any} */ (await streamed.output).ok), 'boolean');
  });

  test('a tool is called, run, and its result goes back', async () => {
    /** @type {unknown[]} */
    const ran = [];
    const tools = {
      get_weather: tool({
        description: 'The weather of a city',
        inputSchema: jsonSchema({
          type: 'object',
          properties: { city: { enum: ['Oslo', 'Rome'] } },
          required: ['city'],
          additionalProperties: false,
        }),
        execute: async (input) => {
          ran.push(input);
          return { degrees: 12 };
        },
      }),
    };
    const whole = await generateText({
      model: exitlm(lm),
      prompt,
      tools,
      toolChoice: 'required',
      maxOutputTokens: 100,
      providerOptions: { exitlm: { parallelToolCalls: false } },
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? 'none' : 'required' }),
      stopWhen: stepCountIs(2),
    });
    assert.equal(whole.steps[0].finishReason, 'tool-calls');
    assert.equal(whole.steps.length, 2, 'the result went back');
    assert.equal(ran.length, 1);
    assert.match(/** @type {any} */ (ran[0]).city, /^(Oslo|Rome)$/);
    const streamed = streamText({
      model: exitlm(lm),
      prompt,
      tools,
      toolChoice: { type: 'tool', toolName: 'get_weather' },
      maxOutputTokens: 100,
    });
    const kinds = new Set();
    for await (const part of streamed.fullStream) kinds.add(part.type);
    for (const kind of ['tool-input-start', 'tool-input-end', 'tool-call', 'tool-result'])
      assert.ok(kinds.has(kind), kind);
    assert.deepEqual(
      (await streamed.toolCalls).map(({ toolName, input }) => [toolName, input]),
      [['get_weather', ran[1]]],
    );
    assert.equal(await streamed.finishReason, 'tool-calls');

    const agent = new ToolLoopAgent({
      model: createExitLM({ models: { own: lm } }).languageModel('own'),
      instructions: 'Be brief.',
      tools,
      maxOutputTokens: 100,
      output: Output.object({ schema: yesOrNo }),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? 'auto' : 'required' }),
      providerOptions: { exitlm: { parallelToolCalls: false } },
    });
    const answer = await agent.generate({ prompt });
    assert.deepEqual(
      answer.steps.map(({ finishReason }) => finishReason),
      ['tool-calls', 'stop'],
    );
    assert.equal(ran.length, 3);
    const uncalled = await generateText({
      model: exitlm(lm),
      prompt,
      tools,
      toolChoice: 'none',
      maxOutputTokens: 60,
      output: Output.object({ schema: yesOrNo }),
    });
    assert.equal(typeof (/** @type {any} */ (uncalled.output).ok), 'boolean');
    assert.equal(typeof (/** @type {any} */ (answer.output).ok), 'boolean', 'words were no call');
  });

  test('a provider has models by their names', async () => {
    const registry = createProviderRegistry({ local: createExitLM({ models: { small: lm } }) });
    const { text } = await generateText({
      model: registry.languageModel('local:small'),
      prompt,
      maxOutputTokens: 3,
    });
    assert.equal(text, (await lm.chat(chat, { maxTokens: 3 }).result).text);
    const provider = createExitLM({ mode: 'full', load: { worker: false, heads: false } });
    assert.equal(provider(tinyPath), provider.languageModel(tinyPath));
    const full = await generateText({ model: provider(tinyPath), prompt, maxOutputTokens: 3 });
    assert.equal(/** @type {any} */ (full.providerMetadata?.exitlm)?.meanDepth, 1);
    for (const ask of [
      () => registry.languageModel('local:large'),
      () => provider.embeddingModel('x'),
      () => provider.imageModel('x'),
    ])
      assert.throws(ask, (error) => NoSuchModelError.isInstance(error));
  });

  test('what cannot be done is a warning, or an error where it would be lost', async () => {
    const { warnings } = await generateText({
      model: exitlm(lm),
      prompt,
      maxOutputTokens: 2,
      presencePenalty: 0.5,
      reasoning: 'high',
    });
    assert.deepEqual(
      warnings?.map((w) => w.type === 'unsupported' && w.feature),
      ['presencePenalty', 'reasoning'],
    );
    await assert.rejects(
      generateText({
        model: exitlm(lm),
        maxRetries: 0,
        messages: [
          { role: 'user', content: [{ type: 'image', image: new Uint8Array([137, 80, 78, 71]) }] },
        ],
      }),
      /text only/,
    );
    await assert.rejects(
      generateText({ model: exitlm(lm), maxRetries: 0, prompt: 'word '.repeat(2000) }),
      /context/,
    );
    assert.equal(
      (await generateText({ model: exitlm(lm), prompt, maxOutputTokens: 2 })).usage.outputTokens,
      2,
    );
  });

  test('an abort stops it, and the model goes on working', async () => {
    const abort = new AbortController();
    const result = streamText({
      model: exitlm(lm),
      prompt,
      maxOutputTokens: 1900,
      abortSignal: abort.signal,
      onError: () => {},
    });
    let aborted = false;
    let n = 0;
    for await (const part of result.fullStream) {
      if (part.type === 'text-delta' && ++n === 3) abort.abort();
      if (part.type === 'abort') aborted = true;
    }
    assert.ok(aborted);
    assert.ok(n < 100);
    assert.equal(
      (await generateText({ model: exitlm(lm), prompt, maxOutputTokens: 2 })).usage.outputTokens,
      2,
    );
  });

  test('an abort is heard while the model loads', async () => {
    const abort = new AbortController();
    /** @type {(response: Response) => void} */
    let answer = () => {};
    const fetch = () => {
      abort.abort(new Error('enough'));
      return /** @type {Promise<Response>} */ (new Promise((resolve) => (answer = resolve)));
    };
    const load = { worker: false, heads: /** @type {false} */ (false), fetch };
    const model = exitlm('https://example.invalid/m.gguf', { load });
    await assert.rejects(
      async () =>
        model.doGenerate({
          prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
          abortSignal: abort.signal,
        }),
      /enough/,
    );
    answer(new Response(null, { status: 404 })); // the model is loaded for later calls: let it end
  });

  test('a model by its address', async () => {
    const model = exitlm(tinyPath, { load: { worker: false, heads: false } });
    assert.equal(model.modelId, tinyPath);
    assert.equal((await generateText({ model, prompt, maxOutputTokens: 3 })).usage.outputTokens, 3);
  });

  test("the SDK's types accept it", () => {
    const { status, stdout } = tscAccepts(`
import { createExitLM, exitlm } from '../../../web/src/ai-sdk.js';
import { createProviderRegistry, streamText, type LanguageModel } from 'ai';
const model: LanguageModel = exitlm('/m.gguf', { mode: 'lossless', load: { threads: 1 } });
export const result = streamText({ model, prompt: 'x' });
export const registry = createProviderRegistry({ local: createExitLM({ mode: 'full' }) });
// @ts-expect-error there is no such mode
exitlm('/m.gguf', { mode: 'fast' });
`);
    assert.equal(status, 0, stdout);
  });
});

test('docs/ai-sdk.md: its example runs as it stands', { skip: !hasReal }, () => {
  const [said] = examplesOf('docs/ai-sdk.md');
  assert.match(said, /\{ city: 'Oslo' \}\n$/);
});
