/**
 * A provider for the Vercel AI SDK (`ai` 7; specification version 4):
 *
 * ```js
 * import { streamText } from 'ai';
 * import { exitlm } from 'exitlm/ai-sdk';
 * const { textStream } = streamText({ model: exitlm(lm), prompt: 'Why is the sky blue?' });
 * ```
 *
 * `createExitLM({ models: { small: lm } })` is a provider for registries: `languageModel('small')`.
 *
 * Each text part carries the exit of its token in `providerMetadata.exitlm`, the end the summary.
 * Options of ExitLM's own (mode, accuracy, …) are given to `exitlm(lm, { mode: 'lossless' })` or,
 * for one call, in `providerOptions.exitlm`. Structured output is held to its schema
 * (docs/shaped.md), and tools are called (docs/tools.md). With both, a reply that begins with words is
 * no call and is written anew under the schema. What the engine does not do (penalties, reasoning
 * effort) is reported as a warning, as the SDK's providers do; messages that are not text are refused.
 *
 * @typedef {import('./lazy-model.js').ModelOrSource} ModelOrSource
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').Result} Result
 *
 * @typedef {import('@ai-sdk/provider').LanguageModelV4} LanguageModelV4
 * @typedef {import('@ai-sdk/provider').LanguageModelV4CallOptions} CallOptions
 * @typedef {import('@ai-sdk/provider').LanguageModelV4FinishReason} FinishReason
 * @typedef {import('@ai-sdk/provider').LanguageModelV4StreamPart} StreamPart
 * @typedef {import('@ai-sdk/provider').LanguageModelV4ToolCall} ToolCallPart
 * @typedef {import('@ai-sdk/provider').LanguageModelV4Usage} Usage
 * @typedef {import('@ai-sdk/provider').ProviderV4} ProviderV4
 * @typedef {import('@ai-sdk/provider').SharedV4Warning} Warning
 *
 * @typedef {GenerateOptions & { load?: LoadOptions }} ModelSettings of every call; `load`: the
 *   options of ExitLM.load
 */
import { exitOf, summaryOf, textOf } from '../chat/shared.js';
import { orAbort } from '../link/abort.js';
import { ExitLMError } from '../link/errors.js';
import { newId } from '../link/platform.js';
import { isModel, lazyModel } from './lazy-model.js';
import { shapeOrCall } from './shape-or-call.js';

/**
 * @param {ModelOrSource} model a loaded model, or what to load at the first call
 * @param {ModelSettings} [settings]
 * @returns {LanguageModelV4}
 */
export function exitlm(model, { load, ...settings } = {}) {
  const get = lazyModel(model, load);
  const start = async (/** @type {CallOptions} */ call) => {
    const messages = call.prompt.flatMap(messagesOf);
    const { options, warnings } = callOptions(call, settings);
    call.abortSignal?.throwIfAborted();
    const lm = await orAbort(get(), call.abortSignal);
    return {
      lm,
      options,
      warnings,
      reply: await shapeOrCall(lm, messages, options),
      response: { id: `exitlm-${newId()}`, timestamp: new Date(), modelId: lm.info.name },
    };
  };
  let modelId = typeof model === 'string' ? model : 'exitlm';
  if (isModel(model)) modelId = model.info.name;
  return {
    specificationVersion: 'v4',
    provider: 'exitlm',
    modelId,
    supportedUrls: {},

    async doGenerate(call) {
      const { lm, options, warnings, reply, response } = await start(call);
      const tokens = [];
      for await (const token of reply) tokens.push(exitOf(token));
      const result = await reply.result;
      return {
        content: [
          ...(result.text || !result.toolCalls?.length
            ? [{ type: /** @type {const} */ ('text'), text: result.text }]
            : []),
          ...callsOf(result),
        ],
        finishReason: finishOf(result),
        usage: usageOf(result),
        warnings,
        providerMetadata: { exitlm: { ...summaryOf(result, lm, options), tokens } },
        response,
      };
    },

    async doStream(call) {
      const { lm, options, warnings, reply, response } = await start(call);
      const tokens = reply[Symbol.asyncIterator]();
      let begun = false;
      /** @type {ReadableStream<StreamPart>} */
      const stream = new ReadableStream({
        start(controller) {
          controller.enqueue({ type: 'stream-start', warnings });
          controller.enqueue({ type: 'response-metadata', ...response });
        },
        async pull(controller) {
          try {
            const { done, value: token } = await tokens.next();
            if (!begun) controller.enqueue({ type: 'text-start', id: '0' });
            begun = true;
            if (!done) {
              controller.enqueue({
                type: 'text-delta',
                id: '0',
                delta: token.text,
                providerMetadata: { exitlm: { ...exitOf(token) } },
              });
              return;
            }
            const result = await reply.result;
            controller.enqueue({ type: 'text-end', id: '0' });
            for (const part of callsOf(result)) {
              const { toolCallId: id, toolName, input } = part;
              controller.enqueue({ type: 'tool-input-start', id, toolName });
              controller.enqueue({ type: 'tool-input-delta', id, delta: input });
              controller.enqueue({ type: 'tool-input-end', id });
              controller.enqueue(part);
            }
            controller.enqueue({
              type: 'finish',
              usage: usageOf(result),
              finishReason: finishOf(result),
              providerMetadata: { exitlm: { ...summaryOf(result, lm, options) } },
            });
          } catch (error) {
            controller.enqueue({ type: 'error', error });
          }
          controller.close();
        },
        cancel() {
          reply.cancel();
        },
      });
      return { stream };
    },
  };
}

/**
 * A provider: models by their names, for `createProviderRegistry` and whatever asks by a name.
 * @param {{ models?: Record<string, ModelOrSource> } & ModelSettings} [options] `models`: by their
 *   names; left out: a name is a model's address. The rest is for all of them
 * @returns {ProviderV4 & ((name: string) => LanguageModelV4)}
 */
export function createExitLM({ models, ...settings } = {}) {
  /** @type {Map<string, LanguageModelV4>} */
  const made = new Map();
  const languageModel = (/** @type {string} */ name) => {
    if (models && !Object.hasOwn(models, name)) throw noSuchModel(name, 'languageModel');
    const model = made.get(name) ?? exitlm(models?.[name] ?? name, settings);
    made.set(name, model);
    return model;
  };
  const none = (/** @type {string} */ modelType) => (/** @type {string} */ name) => {
    throw noSuchModel(name, modelType);
  };
  return Object.assign((/** @type {string} */ name) => languageModel(name), {
    specificationVersion: /** @type {const} */ ('v4'),
    languageModel,
    embeddingModel: none('embeddingModel'),
    imageModel: none('imageModel'),
  });
}

/**
 * `NoSuchModelError.isInstance` of the SDK goes by these marks. @param {string} modelId @param
 * {string} modelType
 */
function noSuchModel(modelId, modelType) {
  const marks = ['vercel.ai.error', 'vercel.ai.error.AI_NoSuchModelError'];
  return Object.assign(
    new ExitLMError('USAGE', `No such ${modelType}: ${modelId}`),
    { modelId, modelType },
    Object.fromEntries(marks.map((mark) => [Symbol.for(mark), true])),
  );
}

/**
 * @param {CallOptions} call
 * @param {GenerateOptions} settings
 * @returns {{ options: GenerateOptions, warnings: Warning[] }}
 */
function callOptions(call, settings) {
  /** @type {Warning[]} */
  const warnings = [];
  const unsupported = (/** @type {string} */ feature, /** @type {string} */ details) =>
    warnings.push({ type: 'unsupported', feature, details });
  if (call.presencePenalty)
    unsupported('presencePenalty', 'providerOptions.exitlm.repeatPenalty does something alike');
  if (call.frequencyPenalty)
    unsupported('frequencyPenalty', 'providerOptions.exitlm.repeatPenalty does something alike');
  if (call.reasoning && !['provider-default', 'none'].includes(call.reasoning))
    unsupported('reasoning', 'how long a model thinks is its own');
  const tools = call.tools?.flatMap((tool) => (tool.type === 'function' ? [tool] : [])) ?? [];
  for (const { type, name } of call.tools ?? [])
    if (type !== 'function') unsupported(`tool ${name}`, 'only tools of type function are called');
  /** @type {GenerateOptions} */
  const own = call.providerOptions?.exitlm ?? {};
  const events = own.events ?? settings.events;
  if (events) throw new ExitLMError('USAGE', 'option events: not available through the AI SDK');
  const named = {
    maxTokens: call.maxOutputTokens,
    temperature: call.temperature,
    topP: call.topP,
    topK: call.topK,
    seed: call.seed,
    stop: call.stopSequences?.length ? call.stopSequences : undefined,
    ...shapeOf(call.responseFormat),
    ...(tools.length
      ? {
          tools: tools.map(({ name, description, inputSchema }) => ({
            name,
            description,
            parameters: inputSchema,
          })),
          toolChoice:
            call.toolChoice?.type === 'tool' ? call.toolChoice.toolName : call.toolChoice?.type,
        }
      : {}),
    signal: call.abortSignal,
  };
  const given = Object.fromEntries(
    Object.entries(named).filter(([, value]) => value !== undefined),
  );
  return { options: { ...settings, ...given, ...own }, warnings };
}

/** @param {CallOptions['responseFormat']} format @returns {{ json?: true, schema?: object }} */
function shapeOf(format) {
  if (format?.type !== 'json') return {};
  return format.schema ? { schema: format.schema } : { json: true };
}

/** @param {any} message @param {number} i @returns {ChatMessage[]} */
function messagesOf({ role, content }, i) {
  const where = `prompt[${i}].content`;
  if (!Array.isArray(content)) return [{ role, content: textOf(content, where) }];
  if (role === 'tool')
    return content
      .filter(({ type }) => type === 'tool-result')
      .map(({ toolCallId, output }) => ({ role, toolCallId, content: answerOf(output, where) }));
  const calls = content.filter(({ type }) => type === 'tool-call');
  const parts = content.filter(({ type }) => type !== 'reasoning' && type !== 'tool-call');
  const toolCalls = calls.map(({ toolCallId, toolName, input }) => ({
    id: toolCallId,
    name: toolName,
    arguments: input,
  }));
  return [{ role, content: textOf(parts, where), ...(calls.length ? { toolCalls } : {}) }];
}

/** @param {any} output of a tool @param {string} where */
function answerOf({ type, value, reason }, where) {
  if (type === 'execution-denied') return reason ?? 'denied by the user';
  if (type === 'content') return textOf(value, where);
  return type.endsWith('text') ? value : JSON.stringify(value);
}

/** @param {Result} result @returns {ToolCallPart[]} */
const callsOf = ({ toolCalls = [] }) =>
  toolCalls.map(({ id, name, arguments: given }) => ({
    type: 'tool-call',
    toolCallId: id,
    toolName: name,
    input: JSON.stringify(given),
  }));

/** @param {Result} result @returns {FinishReason} */
const finishOf = ({ reason }) => ({ unified: UNIFIED[reason], raw: reason });

const UNIFIED = /** @type {const} */ ({
  stop: 'stop',
  length: 'length',
  abort: 'other',
  tool: 'tool-calls',
});

/** @param {Result} result @returns {Usage} */
const usageOf = ({ usage: { promptTokens, completionTokens, reusedTokens } }) => ({
  inputTokens: {
    total: promptTokens,
    noCache: promptTokens - reusedTokens,
    cacheRead: reusedTokens,
    cacheWrite: undefined,
  },
  outputTokens: { total: completionTokens, text: completionTokens, reasoning: 0 },
});
