// Questions whose answers are for programs: JSON of a schema, and the call of a tool. What their shape
// leaves no choice about is not computed.

/**
 * @typedef {{ name: string, schema?: object, tools?: import('../src/link/types.js').Tool[],
 *   toolChoice?: string, parallelToolCalls?: boolean }} Shape
 *
 * @typedef {{ label?: string, text: string, shape?: Shape }} Suggestion
 */

const person = {
  type: 'object',
  properties: {
    full_name: { type: 'string', maxLength: 30 },
    age_in_years: { type: 'integer', minimum: 0, maximum: 120 },
    city_of_residence: { type: 'string', maxLength: 30 },
    is_employed: { type: 'boolean' },
  },
  required: ['full_name', 'age_in_years', 'city_of_residence', 'is_employed'],
};

const weather = {
  name: 'get_weather',
  description: 'The weather of a city, now or on one of the next days',
  parameters: {
    type: 'object',
    properties: {
      city: { type: 'string', maxLength: 30 },
      unit: { enum: ['celsius', 'fahrenheit'] },
    },
    required: ['city', 'unit'],
  },
};

/**
 * Answers that come to an end: greedily a model this small often repeats itself without one.
 * `docs/questions.md` has the figures, `tests/page/demo-real.test.mjs` looks.
 * @type {Suggestion[]}
 */
export const SUGGESTIONS = [
  { text: 'Why is the sky blue?' },
  { text: 'How do plants make their food?' },
  {
    label: 'Extract as JSON',
    text: 'Anna Berg is 31 years old, lives in Oslo and works as a nurse. Extract her data as JSON.',
    shape: { name: 'JSON of a schema', schema: person },
  },
  {
    label: 'Call a tool',
    text: 'What is the weather in Oslo, in celsius?',
    shape: { name: 'A call of get_weather', tools: [weather], toolChoice: 'get_weather' },
  },
];
