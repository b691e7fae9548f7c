//! How the programs are linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A relocation takes a word or a bit of one then, not 24 bytes: all of them are read at each start and stay in memory,
    // a megabyte and a half of the daemon's. The C library has to be glibc 2.36 (Debian 12) or newer.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
