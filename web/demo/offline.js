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
  const ours = `exitlm page ${self.location.href} `;
  const kept = () => caches.open(ours + SITE.version);
  self.addEventListener('install', (event) =>
    event.waitUntil(
      kept().then((cache) =>
        // One that cannot be had must not cost the others, and the headers that threads need.
        Promise.allSettled(
          SITE.files.map((file) =>
            cache.add(new Request(new URL(file, self.location.href), { cache: 'no-cache' })),
          ),
        ),
      ),
    ),
  );
  self.addEventListener('activate', (event) =>
    event.waitUntil(
      caches
        .keys()
        .then((names) =>
          Promise.all(
            names
              .filter((name) => name.startsWith(ours) && name !== ours + SITE.version)
              .map((name) => caches.delete(name)),
          ),
        ),
    ),
  );
  const fromHost = self.fetch;
  // What coi-serviceworker.js asks. The host comes first, so a new version is there at once.
  self.fetch = (request) =>
    fromHost(request).catch(async (error) => {
      const cache = await kept();
      const here = request.mode === 'navigate' ? new URL('./', self.location.href) : request;
      const answer = await cache.match(here, { ignoreSearch: true });
      if (!answer) throw error;
      return answer;
    });
})();
