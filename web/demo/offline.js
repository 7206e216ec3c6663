// The page without a network. `npm run site` puts this before coi-serviceworker.js, into one file,
// for a folder has one service worker; before both stands SITE: the page's files, and a version that
// changes with them. As a page's script it registers that file; as a service worker it keeps the
// page's files and answers with them where the host does not. The model is kept by the package.
/* global SITE */
(() => {
  if (typeof window !== 'undefined') {
    navigator.serviceWorker?.register(document.currentScript.src).catch(() => {});
    return;
  }
  const here = self.location.href;
  const ours = `exitlm page ${here} `;
  const open = () => caches.open(ours + SITE.version);

  async function keep() {
    const cache = await open();
    const kept = new Set((await cache.keys()).map(({ url }) => url));
    const wanted = SITE.files
      .map((file) => new URL(file, here).href)
      .filter((url) => !kept.has(url));
    // One that the host does not serve costs the others nothing.
    await Promise.allSettled(
      wanted.map((url) => cache.add(new Request(url, { cache: 'no-cache' }))),
    );
    const old = (await caches.keys()).filter(
      (name) => name.startsWith(ours) && name !== ours + SITE.version,
    );
    await Promise.all(old.map((name) => caches.delete(name)));
  }

  // Not while it is installed: what threads need must not wait for a slow line.
  let keeping;
  self.addEventListener('fetch', (event) => event.waitUntil((keeping ??= keep())));

  const fromHost = self.fetch;
  // What coi-serviceworker.js asks. The host comes first, so a new version is there at once.
  self.fetch = (request) =>
    fromHost(request).catch(async (error) => {
      const asked = request.mode === 'navigate' ? new URL('./', here) : request;
      const answer = await (await open()).match(asked, { ignoreSearch: true });
      if (!answer) throw error;
      return answer;
    });
})();
