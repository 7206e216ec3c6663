#!/usr/bin/env bash
# Installs Emscripten into folders of its own on Debian 12 or later:
#
#   install-emscripten.sh ROOT        gives ROOT/emscripten-6.0.5
#
# What it does, in order: fetches Debian's package of Emscripten and of Binaryen
# (pinned by SHA-256) from the mirror that this machine's apt uses, without
# enabling a foreign suite; unpacks them; adapts Emscripten to the LLVM of this
# release; adds its npm packages (pinned by integrity); writes a configuration
# that knows only this folder; checks that it compiles; publishes the folder by
# a rename. The system is not touched: LLVM has to be there (setup.mjs installs
# it with apt).
#
# EXITLM_DEBS=DIR keeps the downloaded packages there and looks there first.
set -euo pipefail

ROOT=$(realpath -m "${1:?the folder to install into}")
VERSION=6.0.5
PREFIX=$ROOT/emscripten-$VERSION

# name version arch sha256 pool-directory
LLVM=22
EMSCRIPTEN="emscripten 6.0.5+dfsg+~1.41.5-2 all 24e9eecd0a6e0c25896acf7dd42ae4261ae70c0669d4a42bde595afb7e4675c2 pool/main/e/emscripten"
BINARYEN="binaryen 131-2 amd64 ff5ecf17bd23a949b6358cdde62c03397d10181d6be092bb726413e9e4277081 pool/main/b/binaryen"
BINARYEN_NPM=131.0.0
# The C runtime that Debian's Binaryen needs (libc 2.38), from the stable suite
# that has it; checked by the archive's signature, since a pin would break at
# its next point release.
RUNTIME_SUITE=trixie
RUNTIME=(libc6 libstdc++6 libgcc-s1)

say() { printf '  emscripten: %s\n' "$*" >&2; }
die() { printf 'install-emscripten: %s\n' "$*" >&2; exit 1; }

mkdir -p "$ROOT"
exec 9>"$ROOT/emscripten.lock"
flock -n 9 || { say "another process is installing, waiting for it"; flock 9; }
if [ -e "$PREFIX/complete" ]; then exit 0; fi

MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1) || true
MIRROR=${MIRROR%/}
[ -n "$MIRROR" ] || die "apt names no mirror: it is configured with none, or its lists are empty (apt-get update)"
NODE=$(command -v node) || die "node is needed"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/exitlm-ems.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
DEBS=${EXITLM_DEBS:-$WORK/debs}
mkdir -p "$DEBS"
APT=(-o APT::Sandbox::User=root -o Acquire::Retries=2 -qq)

# ---- fetch ---------------------------------------------------------------------
fetch_pinned() { # name version arch sha256 pool-directory; the file is then $DEB
  DEB=$DEBS/$1_$2_$3.deb
  if echo "$4  $DEB" | sha256sum -c --status 2>/dev/null; then return 0; fi
  rm -f "$DEB"
  say "fetching ${DEB##*/}"
  if /usr/lib/apt/apt-helper "${APT[@]}" download-file "$MIRROR/$5/${DEB##*/}" "$DEB" "SHA256:$4" >&2 &&
    echo "$4  $DEB" | sha256sum -c --status; then return 0; fi
  rm -f "$DEB"
  return 1
}

fetch_runtime() { # with an apt of its own, so that the system's knows nothing of the suite
  local apt=$WORK/apt
  say "fetching ${RUNTIME[*]} of $RUNTIME_SUITE"
  mkdir -p "$apt"/{etc/apt.conf.d,state/lists/partial,cache/archives/partial,empty} "$WORK/runtime"
  : >"$apt/status"
  echo "deb [arch=amd64 check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $RUNTIME_SUITE main" >"$apt/etc/sources.list"
  cat >"$apt/apt.conf" <<END
Dir::Etc "$apt/etc";
Dir::Etc::sourcelist "$apt/etc/sources.list";
Dir::Etc::sourceparts "$apt/empty";
Dir::Etc::preferencesparts "$apt/empty";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
END
  (cd "$WORK/runtime" && export APT_CONFIG="$apt/apt.conf" &&
    apt-get "${APT[@]}" update >&2 && apt-get "${APT[@]}" download "${RUNTIME[@]}" >&2)
}

read -r -a pin <<<"$EMSCRIPTEN"
fetch_pinned "${pin[@]}" || die "${pin[0]} ${pin[1]} has left the Debian mirrors. Put an emcc of version 6.0.0 or later on the PATH, \
or the .deb, as Debian's snapshot archive keeps it, into the folder that EXITLM_DEBS names; then run the command again"
EMSCRIPTEN_DEB=$DEB
read -r -a pin <<<"$BINARYEN"
native=
if [ "$(dpkg --print-architecture)" = amd64 ] && fetch_pinned "${pin[@]}" && fetch_runtime; then
  native=1
fi

# ---- unpack ----------------------------------------------------------------------
NEW=$PREFIX.new
rm -rf "$NEW"
mkdir -p "$NEW"/{bin,share/doc,binaryen/bin} "$WORK/x"
dpkg-deb --fsys-tarfile "$EMSCRIPTEN_DEB" | tar -x -C "$WORK/x" \
  --exclude=./usr/share/emscripten/cache --exclude=./usr/share/emscripten/test --exclude='./usr/share/emscripten/ChangeLog*'
mv "$WORK/x/usr/share/emscripten" "$NEW/share/emscripten"
mv "$WORK/x/usr/share/doc/emscripten" "$NEW/share/doc/"
EMS=$NEW/share/emscripten
for tool in emcc em++ emar emranlib em-config embuilder; do
  printf '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/../share/emscripten/%s" "$@"\n' "$tool" >"$NEW/bin/$tool"
  chmod 755 "$NEW/bin/$tool"
done

if [ -n "$native" ]; then # Debian's programs, run through the newer C runtime's own loader
  mkdir -p "$NEW"/binaryen/{lib,libexec} "$WORK/b" "$WORK/rt"
  dpkg-deb -x "$DEBS/${pin[0]}_${pin[1]}_${pin[2]}.deb" "$WORK/b"
  mv "$WORK/b/usr/share/doc/binaryen" "$NEW/share/doc/"
  for deb in "$WORK"/runtime/*.deb; do dpkg-deb -x "$deb" "$WORK/rt"; done
  cp -r "$WORK"/rt/usr/share/doc/* "$NEW/share/doc/"
  for so in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libstdc++.so.6 libgcc_s.so.1; do
    cp -L "$(find "$WORK/rt" -path '*/x86_64-linux-gnu/*' -name "$so" | head -n 1)" "$NEW/binaryen/lib/"
  done
  cp -L "$(find "$WORK/b/usr/lib" -name 'libbinaryen.so*' | head -n 1)" "$NEW/binaryen/lib/"
  for tool in wasm-opt wasm-metadce wasm-emscripten-finalize wasm-dis wasm-as wasm-split wasm-merge wasm2js wasm-ctor-eval; do
    [ -e "$WORK/b/usr/bin/$tool" ] || continue
    cp "$WORK/b/usr/bin/$tool" "$NEW/binaryen/libexec/"
    cat >"$NEW/binaryen/bin/$tool" <<'END'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/..
exec "$here/lib/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$here/lib" "$here/libexec/${0##*/}" "$@"
END
    chmod 755 "$NEW/binaryen/bin/$tool"
  done
else # the same Binaryen compiled to JavaScript: the same output, slower
  say "no native Binaryen: using npm's binaryen $BINARYEN_NPM"
  echo '{"name":"binaryen-tools","version":"1.0.0","private":true}' >"$NEW/binaryen/package.json"
  (cd "$NEW/binaryen" && npm install --ignore-scripts --no-audit --no-fund --loglevel=error "binaryen@$BINARYEN_NPM" >&2)
  for tool in "$NEW"/binaryen/node_modules/binaryen/bin/wasm*; do
    chmod +x "$tool"
    ln -s "../node_modules/binaryen/bin/${tool##*/}" "$NEW/binaryen/bin/${tool##*/}"
  done
fi

# ---- adapt Debian's 6.0.5, which is packaged for LLVM 21, to LLVM 22 -------------------
python3 - "$EMS/tools" <<'END'
import sys

def edit(name, old, new):
    path = f'{sys.argv[1]}/{name}'
    text = open(path).read()
    if text.count(old) != 1:
        sys.exit(f'install-emscripten: the change to {name} does not apply')
    open(path, 'w').write(text.replace(old, new))

edit('shared.py', 'EXPECTED_LLVM_VERSION = 21\n', 'EXPECTED_LLVM_VERSION = 22\n')
# The linker of LLVM 22 puts the stack first unless told otherwise, as the option that Debian dropped does.
edit('building.py', "    cmd.append('--stack-first')\n\n",
     "    cmd.append('--stack-first')\n  else:\n    cmd.append('--no-stack-first')\n\n")
END

# ---- npm packages that Debian splits out, at upstream's versions -----------------------
cp "$(dirname "$(readlink -f "$0")")/emscripten-npm.json" "$EMS/package-lock.json"
echo '{"name":"emscripten-node-deps","version":"1.0.0","private":true,"dependencies":{"acorn":"8.17.0","acorn-import-phases":"1.0.4"}}' >"$EMS/package.json"
(cd "$EMS" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)

# ---- configuration: relative to this folder ----------------------------------------------
cat >"$EMS/.emscripten" <<END
import os
_here = os.path.dirname(globals().get('__file__') or '$PREFIX/share/emscripten/.emscripten')
_root = os.path.realpath(os.path.join(_here, '..', '..'))
LLVM_ROOT = '/usr/lib/llvm-$LLVM/bin'
LLVM_ADD_VERSION = ''
CLANG_ADD_VERSION = ''
BINARYEN_ROOT = os.path.join(_root, 'binaryen')
NODE_JS = '$NODE'
CACHE = os.path.join(_root, 'cache')
END
python3 -m compileall -q "$EMS/tools" "$EMS"/*.py >/dev/null || true

# ---- publish and try ------------------------------------------------------------------------
rm -rf "$PREFIX"
mv "$NEW" "$PREFIX"
unset EM_CONFIG EM_CACHE EM_LLVM_ROOT EM_BINARYEN_ROOT EMSDK EMCC_CFLAGS
cd "$WORK"
cat >try.c <<'END'
#include <wasm_simd128.h>
__attribute__((export_name("seven"))) int seven(int x) { return wasm_i32x4_extract_lane(wasm_i32x4_splat(x), 2) + 3; }
END
say "compiling a first file (builds a few system libraries)"
"$PREFIX/bin/emcc" -O3 -msimd128 try.c -o try.wasm -sSTANDALONE_WASM --no-entry -sDEFAULT_TO_CXX=0 \
  2> >(tee log | sed -un 's#.*generating system library: .*/\(lib[^ ]*\.a\)\.\.\..*#  emscripten: building \1#p' >&2) || { cat log >&2; die "the compiler does not work"; }
"$NODE" -e 'WebAssembly.instantiate(require("fs").readFileSync("try.wasm"), {}).then((m) => process.exit(m.instance.exports.seven(4) === 7 ? 0 : 1))' ||
  die "the compiled file gives a wrong answer"
touch "$PREFIX/complete"
say "ready: $PREFIX/bin/emcc ($(du -sh "$PREFIX" | cut -f1))"
