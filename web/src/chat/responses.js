/**
 * OpenAI's responses: the same questions and answers in items, and a stream of events that names
 * what each adds to. Nothing is stored: what was said comes with each request.
 *
 * @typedef {import('./completions.js').ChatCompletion} ChatCompletion
 * @typedef {import('./completions.js').CompletionUsage} CompletionUsage
 * @typedef {import('./completions.js').FinishReason} FinishReason
 */
import { ExitLMError } from '../link/errors.js';
import { readRequest } from './completions.js';

/** @param {any} content */
const partsOf = (content) =>
  Array.isArray(content)
    ? content.map((part) =>
        /^(input|output)_text$/.test(part?.type) ? { type: 'text', text: part.text } : part,
      )
    : content;

/** @param {string | any[]} input @returns {any[]} messages of a chat completion */
function messagesOf(input) {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  if (!Array.isArray(input))
    throw new ExitLMError('USAGE', 'parameter input: a text or a list of items was expected');
  /** @type {any[]} */
  const messages = [];
  for (const [i, item] of input.entries()) {
    const {
      type = 'message',
      role,
      content,
      call_id: id,
      name,
      arguments: given,
      output,
    } = item ?? {};
    const last = messages[messages.length - 1];
    if (type === 'message') messages.push({ role, content: partsOf(content) });
    else if (type === 'function_call') {
      const call = { id, type: 'function', function: { name, arguments: given } };
      if (last?.tool_calls) last.tool_calls.push(call);
      else messages.push({ role: 'assistant', content: null, tool_calls: [call] });
    } else if (type === 'function_call_output')
      messages.push({ role: 'tool', tool_call_id: id, content: partsOf(output) });
    else if (type !== 'reasoning')
      throw new ExitLMError(
        'USAGE',
        `parameter input: ${type} of item ${i} is not supported by ExitLM`,
      );
  }
  return messages;
}

/** @param {any} choice or tool, which have their function's fields one level higher */
const nested = (choice) => {
  if (choice?.type !== 'function') return choice;
  const { type, ...rest } = choice;
  return { type, function: rest };
};

/** @param {CompletionUsage | null | undefined} usage */
const usageOf = (usage) =>
  usage && {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: usage.prompt_tokens_details,
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: usage.total_tokens,
  };

/**
 * @param {{ id: string, created: number, model: string }} head
 * @param {object[]} output
 * @param {FinishReason | null} finish null: it goes on
 * @param {CompletionUsage | null} [usage]
 */
function responseOf({ id, created, model }, output, finish, usage = null) {
  let status = finish === 'length' ? 'incomplete' : 'completed';
  if (!finish) status = 'in_progress';
  return {
    id: id.replace('chatcmpl-', 'resp_'),
    object: 'response',
    created_at: created,
    status,
    error: null,
    incomplete_details: finish === 'length' ? { reason: 'max_output_tokens' } : null,
    instructions: null,
    metadata: {},
    model,
    output,
    parallel_tool_calls: true,
    previous_response_id: null,
    store: false,
    temperature: null,
    tool_choice: 'auto',
    tools: [],
    top_p: null,
    usage: usageOf(usage),
  };
}

/** @param {string} text */
const partOf = (text) => ({ type: 'output_text', text, annotations: [], logprobs: [] });

/** @param {string} id of the completion @param {string | null} text null: it goes on @param {object} [exit] */
const messageOf = (id, text, exit) => ({
  id: id.replace('chatcmpl-', 'msg_'),
  type: 'message',
  role: 'assistant',
  status: text === null ? 'in_progress' : 'completed',
  content: text === null ? [] : [partOf(text)],
  ...(exit ? { exit } : {}),
});

/** @param {any} call */
const callOf = ({ id, function: { name, arguments: given } }) => ({
  id: `fc_${id}`,
  type: 'function_call',
  status: 'completed',
  call_id: id,
  name,
  arguments: given,
});

/** @type {import('./shapes.js').Shape} */
export const responses = {
  read({
    input,
    instructions,
    max_output_tokens: most,
    text,
    tools,
    tool_choice: choice,
    ...more
  }) {
    const { truncation, include, reasoning, previous_response_id: previous, ...rest } = more;
    if (previous)
      throw new ExitLMError(
        'USAGE',
        'parameter previous_response_id: nothing is stored here; send what was said in input',
      );
    const messages = messagesOf(input);
    if (instructions) messages.unshift({ role: 'system', content: instructions });
    const { type, ...format } = text?.format ?? {};
    return {
      ...readRequest({
        ...rest,
        messages,
        max_tokens: most,
        tools: tools?.map(nested),
        tool_choice: nested(choice),
        response_format: type && { type, ...(format.schema ? { json_schema: format } : {}) },
      }),
      withUsage: true,
    };
  },

  whole({ choices: [{ message, finish_reason: finish }], usage, ...head }) {
    const { content, exit, ...rest } = message;
    const calls = /** @type {any} */ (rest).tool_calls ?? [];
    const output = [
      ...(content || !calls.length ? [messageOf(head.id, content ?? '', exit)] : []),
      ...calls.map(callOf),
    ];
    return responseOf(head, output, finish, usage);
  },

  async *events(chunks) {
    let sequence = 0;
    /** @type {(type: string, fields: object) => object} */
    const event = (type, fields) => ({
      type: `response.${type}`,
      sequence_number: sequence++,
      ...fields,
    });
    /** @type {object[]} */
    const output = [];
    let said = '';
    let begun = false;
    /** @type {any} */
    let head;
    /** @type {FinishReason | null} */
    let finish = null;
    const item = () => ({ output_index: 0, item_id: messageOf(head.id, '').id });
    for await (const { choices, usage, ...rest } of chunks) {
      if (!head) {
        head = rest;
        for (const type of ['created', 'in_progress'])
          yield event(type, { response: responseOf(head, [], null) });
      }
      const [{ delta = {}, finish_reason: reason } = {}] = /** @type {any[]} */ (choices);
      finish = reason ?? finish;
      if (!begun && (delta.content || reason === 'stop' || reason === 'length')) {
        begun = true;
        yield event('output_item.added', { output_index: 0, item: messageOf(head.id, null) });
        yield event('content_part.added', { ...item(), content_index: 0, part: partOf('') });
      }
      if (delta.content) {
        said += delta.content;
        const { content, exit } = delta;
        const fields = { ...item(), content_index: 0, delta: content, logprobs: [], exit };
        yield event('output_text.delta', fields);
      }
      if (begun && output.length === 0 && (delta.tool_calls || reason)) {
        const done = messageOf(head.id, said);
        output.push(done);
        yield event('output_text.done', { ...item(), content_index: 0, text: said, logprobs: [] });
        yield event('content_part.done', { ...item(), content_index: 0, part: partOf(said) });
        yield event('output_item.done', { output_index: 0, item: done });
      }
      for (const call of delta.tool_calls?.map(callOf) ?? []) {
        const { id: item_id, name, arguments: given } = call;
        const at = { output_index: output.push(call) - 1 };
        const first = { ...call, status: 'in_progress', arguments: '' };
        yield event('output_item.added', { ...at, item: first });
        yield event('function_call_arguments.delta', { ...at, item_id, delta: given });
        yield event('function_call_arguments.done', { ...at, item_id, name, arguments: given });
        yield event('output_item.done', { ...at, item: call });
      }
      if (!usage) continue;
      const response = responseOf(head, output, finish, usage);
      yield event(response.status, { response });
    }
  },
};
