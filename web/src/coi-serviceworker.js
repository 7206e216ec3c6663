// Optional. Threads need a page that is cross-origin isolated: two headers, which some hosts cannot
// be told to send. This file adds them. Copy it beside the page (a service worker acts on its own
// folder and those below) and load it before anything else:
//
//   <script src="coi-serviceworker.js"></script>
//
// As a script it registers itself and, at the first visit, loads the page once more; as a service
// worker it adds the headers to what passes through. Where the host sends the headers, or isolation
// is not to be had, it does nothing. Everything works without it too, in one thread. `?off` at its
// address removes it.
// @ts-nocheck (a page's script and a service worker in one)
(() => {
  const HEADERS = {
    'Cross-Origin-Embedder-Policy': 'credentialless',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'cross-origin',
  };

  if (typeof window === 'undefined') {
    self.addEventListener('install', () => self.skipWaiting());
    self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
    self.addEventListener('fetch', (event) => {
      const { request } = event;
      if (request.cache === 'only-if-cached' && request.mode !== 'same-origin') return;
      // Only what the page's own origin sends has to carry the headers; ranges of models from
      // elsewhere are not touched.
      if (new URL(request.url).origin !== self.location.origin) return;
      event.respondWith(
        fetch(request).then((response) => {
          if (response.status === 0 || response.type === 'opaqueredirect') return response;
          const headers = new Headers(response.headers);
          for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
          const body = [101, 204, 205, 304].includes(response.status) ? null : response.body;
          return new Response(body, {
            status: response.status,
            statusText: response.statusText,
            headers,
          });
        }),
      );
    });
    return;
  }

  const script = document.currentScript?.src;
  if (!script || !('serviceWorker' in navigator) || !window.isSecureContext) return;
  const MARK = 'exitlm.isolating'; // one reload and no more
  const store = (() => {
    try {
      return window.sessionStorage;
    } catch {
      return null;
    }
  })();
  if (new URL(script).searchParams.has('off')) {
    navigator.serviceWorker
      .getRegistrations()
      .then((all) =>
        all
          .filter((r) => r.active?.scriptURL === script.split('?')[0])
          .forEach((r) => r.unregister()),
      );
    return;
  }
  if (window.crossOriginIsolated) return void store?.removeItem(MARK);
  const reload = () => {
    if (!store || store.getItem(MARK)) return; // it has not helped
    store.setItem(MARK, '1');
    window.location.reload();
  };
  navigator.serviceWorker
    .register(script)
    .then(() => navigator.serviceWorker.ready)
    .then(
      () => {
        if (navigator.serviceWorker.controller) reload();
        else navigator.serviceWorker.addEventListener('controllerchange', reload, { once: true });
      },
      (error) => console.warn(`exitlm: the page stays in one thread (${error.message})`),
    );
})();
