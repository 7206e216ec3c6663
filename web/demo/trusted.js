// Under require-trusted-types-for 'script' a worker and a service worker are made of addresses that a
// policy has seen: the page's own. A script of its own, since the service worker is registered before
// modules run.
self.trustedTypes?.createPolicy('default', {
  createScriptURL(address) {
    if (new URL(address, document.baseURI).origin === location.origin) return address;
    throw new TypeError(`${address}: the page runs its own scripts alone`);
  },
});
