// Tools: the shape of calls is always right, whatever the model is; what a template is told; the
// command line; the examples of docs/tools.md.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { createTemplate } from '../../web/src/engine/template.js';
import { CallReader, formOf } from '../../web/src/engine/tools.js';
import { bad, built, chat, hasReal, objects, scratch } from './support/cli.mjs';
import { examplesOf } from './support/examples.mjs';
import { loadRoomy, roomyBytes } from './support/tiny-model.mjs';

const short = { type: 'string', maxLength: 6 };
const tools = [
  {
    name: 'get_weather',
    description: 'The weather of a city',
    parameters: {
      type: 'object',
      properties: { city: short, days: { type: 'integer', minimum: 1, maximum: 9 } },
      required: ['city'],
    },
  },
  {
    name: 'get_time',
    parameters: {
      $defs: { z: { enum: ['UTC', 'CET'] } },
      type: 'object',
      properties: { zone: { $ref: '#/$defs/z' } },
      required: ['zone'],
    },
  },
  { name: 'now' },
];
const messages = [{ role: 'user', content: 'What is the weather in Oslo?' }];
const ajv = new Ajv2020({ strict: false });
const validators = Object.fromEntries(
  tools.map(({ name, parameters = { const: {} } }) => [name, ajv.compile(parameters)]),
);

/** @type {import('../../web/src/index.js').ExitLM} */
let lm;
before(async () => {
  lm = await loadRoomy();
});
after(() => lm.dispose());
const ask = (/** @type {object} */ options) =>
  lm.chat(messages, { tools, maxTokens: 200, ...options }).result;

test('required: calls from the first token on, with arguments of their schemas', async () => {
  const names = new Set();
  let several = 0;
  for (let seed = 1; seed <= 24; seed++) {
    const {
      text,
      toolCalls = [],
      reason,
    } = await ask({ toolChoice: 'required', temperature: 8, mode: 'full', seed });
    assert.equal(text, '');
    if (reason === 'tool') assert.ok(toolCalls.length > 0);
    else assert.equal(reason, 'length');
    several += toolCalls.length > 1 ? 1 : 0;
    assert.equal(new Set(toolCalls.map(({ id }) => id)).size, toolCalls.length);
    for (const { id, name, arguments: given } of toolCalls) {
      assert.match(id, /^call_\w{10,}$/);
      assert.ok(validators[name](given), `${name} ${JSON.stringify(given)}`);
      names.add(name);
    }
  }
  assert.ok(names.size > 1, `${[...names]}`);
  assert.ok(several > 0);
});

test('one tool by its name, once; one call at most; none', async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const toolChoice = seed % 2 ? 'get_time' : 'get_weather';
    const named = await ask({ toolChoice, temperature: 1.5, seed, mode: 'full' });
    assert.deepEqual(
      [named.reason, named.toolCalls?.map(({ name }) => name)],
      ['tool', [toolChoice]],
    );
    assert.ok(validators[toolChoice](named.toolCalls?.[0].arguments));
    const one = await ask({
      toolChoice: 'required',
      parallelToolCalls: false,
      temperature: 1.5,
      seed,
      mode: 'full',
    });
    assert.ok((one.toolCalls?.length ?? 0) <= 1);
  }
  const none = await ask({ toolChoice: 'none', maxTokens: 8 });
  assert.equal(none.toolCalls, undefined);
  assert.equal(
    none.text,
    (await lm.chat(messages, { maxTokens: 8 }).result).text,
    'the model is not told of them',
  );
});

test('auto leaves a text as it is; the same tokens in full and lossless', async () => {
  for (const toolChoice of ['auto', 'required'])
    for (const temperature of [0, 0.9]) {
      const [full, lossless] = await Promise.all(
        ['full', 'lossless'].map((mode) =>
          ask({ toolChoice, mode, temperature, seed: 5, maxTokens: 80 }),
        ),
      );
      const said = ({ text, reason, toolCalls }) => ({
        text,
        reason,
        calls: toolCalls.map(({ name, arguments: given }) => ({ name, given })),
      });
      assert.deepEqual(said(lossless), said(full));
      if (toolChoice === 'auto') assert.ok(full.text.length > 0);
    }
});

test('tokens: those of a call have no text, and say what they say of it', async () => {
  const reply = lm.chat(messages, {
    tools,
    toolChoice: 'required',
    temperature: 1,
    seed: 3,
    mode: 'full',
    maxTokens: 200,
  });
  let call = '';
  let forced = 0;
  for await (const token of reply) {
    assert.equal(token.text, '');
    call += token.call;
    forced += token.forced ? 1 : 0;
  }
  const { toolCalls = [], forced: counted } = await reply.result;
  assert.equal(forced, counted);
  assert.ok(call.startsWith('<tool_call>\n{"name": "'));
  const [{ name, arguments: given }] = toolCalls;
  assert.ok(
    call.includes(
      `{"name": "${name}", "arguments": ${JSON.stringify(given, null, 1)
        .replace(/,\n\s*/g, ', ')
        .replace(/\n\s*/g, '')}}\n</tool_call>`,
    ),
  );
});

test('answers go back, and a conversation with calls goes on', async () => {
  const { toolCalls = [] } = await ask({ toolChoice: 'get_time', seed: 1 });
  const talk = [
    ...messages,
    { role: 'assistant', content: '', toolCalls },
    { role: 'tool', toolCallId: toolCalls[0].id, content: '{"time": "10:30"}' },
  ];
  const before_ = await lm.countTokens(talk, { tools });
  const { usage, reason } = await lm.chat(talk, { tools, maxTokens: 5 }).result;
  assert.equal(usage.promptTokens, before_);
  assert.ok(before_ > (await lm.countTokens(talk)) + 50, 'the tools are counted');
  assert.equal(reason, 'length');
});

test('what is wrong is named before anything runs', async () => {
  const withParameters = (/** @type {object} */ parameters) => ({
    tools: [{ name: 'f', parameters }],
  });
  /** @type {[object, RegExp][]} */
  const wrong = [
    [
      withParameters({ type: 'object', properties: { a: { not: {} } } }),
      /tools: f: #\/properties\/a\/not: this keyword is not supported/,
    ],
    [withParameters({ type: 'object', patternProperties: {} }), /tools: f: #\/patternProperties/],
    [withParameters({ type: 'string' }), /tools: f: #\/type/],
    [{ tools: [{ name: 'a b' }] }, /tools: number 1: its name/],
    [{ tools: [{ name: 'f' }, { name: 'f' }] }, /tools: f is there twice/],
    [{ tools: [] }, /option tools: a list/],
    [{ tools: 'f' }, /option tools: a list/],
    [{ toolChoice: 'get_wether' }, /toolChoice: "get_wether" is none of the tools/],
    [{ toolChoice: 7 }, /option toolChoice/],
    [{ tools: undefined, toolChoice: 'required' }, /there are no tools/],
    [{ json: true }, /only one shape/],
    [{ parallelToolCalls: 'no' }, /option parallelToolCalls/],
  ];
  for (const [options, message] of wrong)
    await assert.rejects(
      ask(options),
      { name: 'ExitLMError', code: 'USAGE', message },
      `${message}`,
    );
  await assert.rejects(lm.complete('x', /** @type {any} */ ({ tools })).result, {
    code: 'USAGE',
    message: /complete\(\) has none/,
  });
  const calls = [{ role: 'assistant', content: '', toolCalls: [{}] }];
  await assert.rejects(lm.chat(/** @type {any} */ (calls)).result, {
    code: 'USAGE',
    message: /messages\[0\]\.toolCalls/,
  });
});

/** How a reader divides a text that comes in pieces. */
function read(/** @type {'hermes' | 'llama3'} */ form, /** @type {string[]} */ pieces) {
  const reader = new CallReader(form);
  const out = [];
  for (const text of pieces) out.push(...reader.push(/** @type {any} */ ({ text })));
  out.push(...reader.end());
  assert.equal(out.length, pieces.length, 'no token is lost');
  return { text: out.map((t) => t.text).join(''), call: out.map((t) => t.call ?? '').join('') };
}

test('a reply is divided, however it is cut', () => {
  const call = '<tool_call>\n{"name": "f", "arguments": {"a": "</tool_call>"}}\n</tool_call>';
  for (const [whole, text] of [
    [call, ''],
    [`Let me see.\n${call}\n${call}`, 'Let me see.'],
    ['1 < 2, <tool, <tool_cal\n<', '1 < 2, <tool, <tool_cal\n<'],
    [`<<tool_call>\n${call.slice(12)}`, '<'],
  ]) {
    for (let size = 1; size <= whole.length; size++) {
      const pieces = whole.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
      assert.deepEqual(read('hermes', pieces), { text, call: whole.slice(text.length) }, whole);
    }
    const { text: said, toolCalls } = new CallReader('hermes').read(whole);
    assert.equal(said, text);
    for (const { name, arguments: given } of toolCalls)
      assert.deepEqual([name, given], ['f', { a: '</tool_call>' }]);
  }
  const json = '{"name": "f", "parameters": {"a": 1}}';
  assert.deepEqual(read('llama3', [...json]), { text: '', call: json });
  assert.deepEqual(read('llama3', ['No ', '{}']), { text: 'No {}', call: '' });
  assert.deepEqual(
    new CallReader('llama3')
      .read(json)
      .toolCalls.map(({ name, arguments: given }) => [name, given]),
    [['f', { a: 1 }]],
  );
  assert.deepEqual(new CallReader('llama3').read(json.slice(0, -2)).toolCalls, []);
});

// The parts about tools of Qwen 2.5's and Llama 3.1's templates.
const hermes = `{%- if tools %}{{ '# Tools' }}{%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{%- endfor %}{{ '\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}{{ message.content }}{%- for call in message.tool_calls %}{{ '\\n<tool_call>\\n{"name": "' }}{{ call.function.name }}{{ '", "arguments": ' }}{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>\\n' }}{%- endfor %}
{%- elif message.role == 'tool' %}{{ '<tool_response>' + message.content + '</tool_response>' }}
{%- else %}{{ message.role + ': ' + message.content + '\\n' }}{%- endif %}{%- endfor %}`;
const llama3 = `{%- for message in messages %}<|start_header_id|>{{ message.role }}:
{%- if 'tool_calls' in message %}
{%- if message.tool_calls | length > 1 %}{{ raise_exception('This model only supports single tool-calls at once!') }}{%- endif %}
{{- '{"name": "' + message.tool_calls[0].function.name + '", "parameters": ' }}{{ message.tool_calls[0].function.arguments | tojson }}}
{%- else %}{{ message.content }}{%- endif %}{%- endfor %}{%- if tools %}{%- endif %}`;
const plain = `{%- for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{%- endfor %}`;

test('what a template is told, in its own form or in words', async () => {
  assert.equal(formOf(hermes), 'hermes');
  assert.equal(formOf(plain), null);
  assert.equal(formOf(`${hermes}<function=`), null);
  assert.equal(formOf('{% if tools %}<|start_header_id|>{"parameters": 1}'), 'llama3');
  const rendered = (/** @type {string} */ source, specials = /** @type {string[]} */ ([])) =>
    createTemplate({
      source,
      bosToken: '',
      eosToken: '',
      addBos: false,
      specialsIn: (said) => specials.filter((s) => said.includes(s)),
    });
  const talk = [
    { role: 'user', content: 'Hi' },
    {
      role: 'assistant',
      content: '',
      toolCalls: [{ id: 'c1', name: 'f', arguments: { a: ['x <END>', 1] } }],
    },
    { role: 'tool', toolCallId: 'c1', content: 'one' },
    { role: 'tool', toolCallId: 'c2', content: 'two' },
  ];
  const told = [
    {
      type: 'function',
      function: { name: 'f', description: 'does <END>', parameters: { type: 'object' } },
    },
  ];
  const inJson =
    '{"type": "function", "function": {"name": "f", "description": "does <END>", "parameters": {"type": "object"}}}';
  const own = await rendered(hermes, ['<END>'])(talk, told);
  assert.equal(
    own.text,
    `# Tools\n${inJson}\nuser: Hi\n\n<tool_call>\n{"name": "f", "arguments": {"a": ["x <END>", 1]}}\n</tool_call>\n<tool_response>one</tool_response><tool_response>two</tool_response>`,
  );
  assert.equal(own.plain.length, 10, 'what a tool or an argument says is text, not a token');
  const [user, { toolCalls = [] }, ...answers] = talk;
  const twice = [...toolCalls, { id: 'c2', name: 'g', arguments: {} }];
  const split = await rendered(llama3)(
    [user, { role: 'assistant', content: '', toolCalls: twice }, ...answers],
    told,
  );
  assert.equal(
    split.text.replaceAll('<|start_header_id|>', '\n'),
    '\nuser:Hi\nassistant:{"name": "f", "parameters": {"a": ["x <END>", 1]}}\nassistant:{"name": "g", "parameters": {}}\ntool:one\ntool:two',
  );
  const { text } = await rendered(plain)(talk, told);
  assert.match(
    text,
    /^system: # Tools\n\nYou may call one or more functions[^]*<tools>\n\{"type"[^]*<\/tools>/,
  );
  assert.ok(text.includes(inJson));
  assert.ok(
    text.endsWith(
      'user: Hi\nassistant: <tool_call>\n{"name": "f", "arguments": {"a": ["x <END>", 1]}}\n</tool_call>\nuser: <tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>\n',
    ),
  );
  const system = await rendered(plain)([{ role: 'system', content: 'Be brief.' }, ...talk], told);
  assert.match(system.text, /^system: Be brief\.\n\n# Tools\n/);
});

test('the command line: the same prompt and calls', { skip: !built }, async () => {
  const model = scratch('roomy.gguf', roomyBytes);
  const file = scratch('tools.json', JSON.stringify(tools));
  const args = ['-p', messages[0].content, '--mode', 'full', '--max-tokens', '200'];
  const { done, start } = chat(model, ...args, '--tools', file, '--tool-choice', 'get_time');
  const own = await ask({ toolChoice: 'get_time', mode: 'full' });
  assert.equal(start.prompt_tokens, own.usage.promptTokens);
  assert.deepEqual([done.reason, done.text], ['tool', '']);
  assert.deepEqual(
    done.tool_calls.map(({ id, ...call }) => call),
    own.toolCalls?.map(({ id, ...call }) => call),
  );
  assert.match(done.tool_calls[0].id, /^call_/);
  const openai = scratch(
    'openai.json',
    JSON.stringify(tools.map((tool) => ({ type: 'function', function: tool }))),
  );
  assert.deepEqual(
    chat(model, ...args, '--tools', openai, '--tool-choice', 'get_time').done.tool_calls,
    done.tool_calls,
  );
  assert.deepEqual(chat(model, ...args, '--tools', file, '--max-tokens', '4').done.tool_calls, []);
  const wrong = scratch(
    'wrong.json',
    '[{"name": "f", "parameters": {"type": "object", "not": {}}}]',
  );
  bad(2, /chat: tools: f: #\/not: this keyword is not supported/, [
    'chat',
    model,
    '-p',
    'x',
    '--tools',
    wrong,
  ]);
  bad(2, /toolChoice: "g" is none of the tools/, [
    'chat',
    model,
    '-p',
    'x',
    '--tools',
    file,
    '--tool-choice',
    'g',
  ]);
  bad(2, /are shapes; give one/, ['chat', model, '-p', 'x', '--tools', file, '--pattern', 'a']);
  bad(2, /--tools needs the chat template/, ['chat', model, '-p', 'x', '--tools', file, '--raw']);
  assert.ok(
    objects(['chat', model, '-p', 'x', '--max-tokens', '3']).at(-1).tool_calls === undefined,
  );
});

test('docs/tools.md: its examples run as they stand', { skip: !hasReal }, () => {
  const [said] = examplesOf('docs/tools.md');
  assert.match(said, /get_weather/);
});
