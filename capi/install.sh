#!/usr/bin/env bash
# Builds the C library for this machine and installs it, with its header and what pkg-config and CMake look for:
#
#     capi/install.sh /usr/local
#     capi/install.sh /usr/local BUILT     the libraries that were built in the folder BUILT
#
# What is installed may be moved as a whole. Linux only.
set -euo pipefail

[ $# = 1 ] || [ $# = 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2; }
# Both folders may be named from where the caller is.
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
[ $# = 1 ] || built=$(cd "$2" && pwd)
cd "$(dirname "$0")"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' ../Cargo.toml | head -n 1)
soname=${version%.*}
# What the static library needs of the system: rustc --print native-static-libs, but for gcc_s, of which there is no
# static one. A compiler that links adds that by itself, or gcc_eh in its place under -static.
native="-lpthread -ldl -lm -lc"

if [ $# = 1 ]; then
    cargo build --release --locked -p adaloss-capi
    built=$(cargo metadata --format-version 1 --no-deps --locked |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
fi

mkdir -p "$prefix"/include "$prefix"/lib/pkgconfig "$prefix"/lib/cmake/adaloss
install -m 644 include/adaloss.h "$prefix"/include/
install -m 644 "$built"/libadaloss.a "$prefix"/lib/
install -m 755 "$built"/libadaloss.so "$prefix"/lib/libadaloss.so."$version"
ln -sf libadaloss.so."$version" "$prefix"/lib/libadaloss.so."$soname"
ln -sf libadaloss.so."$soname" "$prefix"/lib/libadaloss.so

fill() { sed "s/@VERSION@/$version/; s/@SONAME@/$soname/; s/@NATIVE@/$native/" "$1" >"$2"; }
fill adaloss.pc.in "$prefix"/lib/pkgconfig/adaloss.pc
native=${native// /;}
for file in adaloss-config.cmake adaloss-config-version.cmake; do
    fill cmake/$file.in "$prefix"/lib/cmake/adaloss/$file
done
echo "adaloss $version is in $prefix"
