# Sourced by the Makefile's recipes and by .ci/run: where builds go, and the prebuilt RocksDB if there is one.
# Without the prebuilt library everything builds from the Rust registry alone, only slower.
kijabi_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/kijabi/target}"
kijabi_prebuilt="$kijabi_root/../shared/prebuilt/librocksdb-11.8.1-lz4-x86_64-linux-gnu.a.xz"
kijabi_rocksdb="$HOME/.cache/kijabi/rocksdb-11.8.1-lz4"
if [ "$(uname -m)" = x86_64 ] && [ -z "${KIJABI_NO_PREBUILT:-}" ]; then
    if [ ! -s "$kijabi_rocksdb/librocksdb.a" ] && [ -r "$kijabi_prebuilt" ]; then
        mkdir -p "$kijabi_rocksdb"
        xz -dkc "$kijabi_prebuilt" >"$kijabi_rocksdb/librocksdb.a.part"
        mv "$kijabi_rocksdb/librocksdb.a.part" "$kijabi_rocksdb/librocksdb.a"
    fi
    if [ -s "$kijabi_rocksdb/librocksdb.a" ]; then
        export ROCKSDB_LIB_DIR="$kijabi_rocksdb" ROCKSDB_STATIC=1
    fi
fi
unset kijabi_root kijabi_prebuilt kijabi_rocksdb
