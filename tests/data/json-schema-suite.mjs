// Draws json-schema-suite.jsonl from JSON-Schema-Test-Suite: the drafts 7, 2019-09 and 2020-12, each
// schema once with the instances that it takes and those that it does not. Of what is optional
// there the formats that shaped replies know, and the regular expressions.
//
//   node tests/data/json-schema-suite.mjs SUITE > tests/data/json-schema-suite.jsonl
//
// SUITE is the suite's folder; Python's jsonschema carries it: pip download --no-deps --no-binary :all:
// jsonschema==4.26.0, folder json.
import fs from 'node:fs';
import path from 'node:path';

const DRAFTS = ['draft7', 'draft2019-09', 'draft2020-12'];
const OPTIONAL = [
  ...['date', 'time', 'date-time', 'uuid', 'email'].map((name) => `format/${name}`),
  'ecmascript-regex',
  'non-bmp-regex',
].map((name) => `optional/${name}.json`);

const all = new Map();
for (const draft of DRAFTS) {
  const folder = path.join(process.argv[2], 'tests', draft);
  const files = fs.readdirSync(folder).filter((name) => name.endsWith('.json'));
  for (const file of [...files, ...OPTIONAL].filter((name) =>
    fs.existsSync(path.join(folder, name)),
  ))
    for (const { schema, tests } of JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'))) {
      if (typeof schema === 'object') delete schema.$schema;
      const instances = (/** @type {boolean} */ wanted) =>
        tests.filter(({ valid }) => valid === wanted).map(({ data }) => data);
      const one = { schema, valid: instances(true), invalid: instances(false) };
      const key = JSON.stringify(one);
      const known = all.get(key);
      if (known) known.drafts.push(draft);
      else all.set(key, { file, drafts: [draft], ...one });
    }
}
for (const { file, drafts, ...one } of all.values())
  console.log(JSON.stringify({ of: `${drafts.join(' ')} ${file.replace('.json', '')}`, ...one }));
