// Writes docs/api/ from the declarations (web/types), a page an entry of the package:
//
//   npm run build && npm run docs
//
// tests/js/docs.test.mjs says when the pages are behind.
import fs from 'node:fs';
import { Converter, ReflectionKind } from 'typedoc';

const { exports } = JSON.parse(
  fs.readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);

/** A class of exitlm/edge has what it inherits on the page of `exitlm`. */
function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const edge = project.children.find(({ name }) => name === 'edge');
    for (const one of edge.getChildrenByKind(ReflectionKind.Class)) {
      for (const member of [...one.children]) {
        if (
          member.inheritedFrom ||
          member.signatures?.some((s) => s.inheritedFrom) ||
          member.getSignature?.inheritedFrom
        )
          project.removeReflection(member);
      }
    }
    // ExitLM's base is nobody's to import: what comes from it is its own.
    for (const one of project.getReflectionsByKind(ReflectionKind.Class)) {
      if (one.name !== 'ExitLM') continue;
      delete one.extendedTypes;
      delete one.typeHierarchy;
      one.traverse((member) => {
        for (const each of [member, ...(member.signatures ?? []), member.getSignature]) {
          delete each?.inheritedFrom;
          delete each?.overwrites;
        }
      });
    }
  });
}

/** @type {import('typedoc').TypeDocOptions & import('typedoc-plugin-markdown').PluginOptions} */
export default {
  intentionallyNotExported: ['Connect', 'Context', 'CachedModel'],
  plugin: ['typedoc-plugin-markdown', load],
  entryPoints: Object.values(exports).flatMap((one) => (one.types ? [`../${one.types}`] : [])),
  tsconfig: 'tsconfig.json',
  out: 'api',
  name: 'API',
  readme: 'none',
  sort: ['source-order'],
  disableSources: true,
  excludeExternals: true,
  excludeInternal: true,
  excludePrivate: true,
  excludeProtected: true,
  githubPages: false,
  includeVersion: false,
  outputFileStrategy: 'modules',
  entryFileName: 'README',
  pageTitleTemplates: { module: ({ name }) => (name === 'index' ? 'exitlm' : `exitlm/${name}`) },
  hideBreadcrumbs: true,
  hidePageHeader: true,
  hideGroupHeadings: true,
  useCodeBlocks: true,
  expandObjects: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  classPropertiesFormat: 'table',
  typeAliasPropertiesFormat: 'table',
  tableColumnSettings: {
    hideSources: true,
    hideModifiers: true,
    hideInherited: true,
    hideOverrides: true,
  },
};
