/**
 * A language model for the Vercel AI SDK (`ai` 6 and later; specification version 3):
 *
 * ```js
 * import { streamText } from 'ai';
 * import { exitlm } from 'exitlm/ai-sdk';
 * const { textStream } = streamText({ model: exitlm(lm), prompt: 'Why is the sky blue?' });
 * ```
 *
 * Each text part carries the exit of its token in `providerMetadata.exitlm`, the end the summary.
 * Options of ExitLM's own (mode, accuracy, …) are given to `exitlm(lm, { mode: 'lossless' })` or,
 * for one call, in `providerOptions.exitlm`. Structured output is held to its schema
 * (docs/shaped.md), and tools are called (docs/tools.md). What the engine does not do (penalties) is
 * reported as a warning, as the SDK's providers do; messages that are not text are refused.
 *
 * @typedef {import('./lazy-model.js').ModelOrSource} ModelOrSource
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').Result} Result
 *
 * The SDK's own types are spelled out, so that this module has no need of it.
 * @typedef {null | string | number | boolean | { [key: string]: any } | any[]} JSONValue
 * @typedef {Record<string, Record<string, any>>} ProviderMetadata
 * @typedef {{ type: 'unsupported' | 'compatibility', feature: string, details?: string } | { type:
 *   'other', message: string }} Warning
 * @typedef {{ unified: 'stop' | 'length' | 'tool-calls' | 'other', raw: string | undefined }}
 *   FinishReason
 * @typedef {{ type: 'tool-call', toolCallId: string, toolName: string, input: string }} ToolCallPart
 * @typedef {{ inputTokens: { total: number, noCache: number, cacheRead: number, cacheWrite:
 *   undefined }, outputTokens: { total: number, text: number, reasoning: 0 } }} Usage
 * @typedef {{ id?: string, timestamp?: Date, modelId?: string }} ResponseMetadata
 *
 * @typedef {object} CallOptions
 * @property {any[]} prompt
 * @property {number} [maxOutputTokens]
 * @property {number} [temperature]
 * @property {string[]} [stopSequences]
 * @property {number} [topP]
 * @property {number} [topK]
 * @property {number} [presencePenalty]
 * @property {number} [frequencyPenalty]
 * @property {{ type: 'text' } | { type: 'json', schema?: any, name?: string, description?: string
 *   }} [responseFormat]
 * @property {number} [seed]
 * @property {any[]} [tools]
 * @property {{ type: string, toolName?: string }} [toolChoice]
 * @property {AbortSignal} [abortSignal]
 * @property {ProviderMetadata} [providerOptions]
 *
 * @typedef {{ type: 'stream-start', warnings: Warning[] } | ({ type: 'response-metadata' } &
 *   ResponseMetadata) | { type: 'text-start', id: string }
 *   | { type: 'text-delta', id: string, delta: string, providerMetadata?: ProviderMetadata } | {
 *   type: 'text-end', id: string } | { type: 'tool-input-start', id: string, toolName: string } | {
 *   type: 'tool-input-delta', id: string, delta: string } | { type: 'tool-input-end', id: string } |
 *   ToolCallPart
 *   | { type: 'finish', usage: Usage, finishReason: FinishReason, providerMetadata?:
 *   ProviderMetadata } | { type: 'error', error: unknown }} StreamPart
 *
 * @typedef {object} LanguageModel
 * @property {'v3'} specificationVersion
 * @property {'exitlm'} provider
 * @property {string} modelId
 * @property {Record<string, RegExp[]>} supportedUrls
 * @property {(options: CallOptions) => Promise<{ content: ({ type: 'text', text: string,
 *   providerMetadata?: ProviderMetadata } | ToolCallPart)[], finishReason: FinishReason, usage: Usage, warnings:
 *   Warning[], providerMetadata: ProviderMetadata, response: ResponseMetadata }>} doGenerate
 * @property {(options: CallOptions) => Promise<{ stream: ReadableStream<StreamPart> }>} doStream
 */
import { exitOf, summaryOf, textOf } from '../chat/shared.js';
import { orAbort } from '../link/abort.js';
import { ExitLMError } from '../link/errors.js';
import { newId } from '../link/platform.js';
import { isModel, lazyModel } from './lazy-model.js';

/**
 * @param {ModelOrSource} model a loaded model, or what to load at the first call
 * @param {GenerateOptions & { load?: LoadOptions }} [settings] of every call; `load`: the options
 *   of ExitLM.load
 * @returns {LanguageModel}
 */
export function exitlm(model, { load, ...settings } = {}) {
  const get = lazyModel(model, load);
  const start = async (/** @type {CallOptions} */ call) => {
    const messages = promptMessages(call.prompt);
    const { options, warnings } = callOptions(call, settings);
    call.abortSignal?.throwIfAborted();
    const lm = await orAbort(get(), call.abortSignal);
    return {
      lm,
      options,
      warnings,
      reply: lm.chat(messages, options),
      response: { id: `exitlm-${newId()}`, timestamp: new Date(), modelId: lm.info.name },
    };
  };
  let modelId = typeof model === 'string' ? model : 'exitlm';
  if (isModel(model)) modelId = model.info.name;
  return {
    specificationVersion: 'v3',
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
  const tools = call.tools?.filter(({ type }) => type === 'function') ?? [];
  for (const { type, name } of call.tools ?? [])
    if (type !== 'function') unsupported(`tool ${name}`, 'only tools of type function are called');
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
          toolChoice: call.toolChoice?.toolName ?? call.toolChoice?.type,
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

/** @param {any[]} prompt @returns {ChatMessage[]} */
function promptMessages(prompt) {
  return prompt.flatMap(messagesOf);
}

/** @param {any} message @param {number} i @returns {ChatMessage[]} */
function messagesOf({ role, content }, i) {
  const where = `prompt[${i}].content`;
  if (!Array.isArray(content)) return [{ role, content: textOf(content, where) }];
  if (role === 'tool')
    return content.map(({ toolCallId, output: { type, value } }) => ({
      role,
      toolCallId,
      content: type.endsWith('text') ? value : JSON.stringify(value),
    }));
  const calls = content.filter(({ type }) => type === 'tool-call');
  const parts = content.filter(({ type }) => type !== 'reasoning' && type !== 'tool-call');
  const toolCalls = calls.map(({ toolCallId, toolName, input }) => ({
    id: toolCallId,
    name: toolName,
    arguments: input,
  }));
  return [{ role, content: textOf(parts, where), ...(calls.length ? { toolCalls } : {}) }];
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
