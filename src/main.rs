//! `ambassador` connects containers across hosts through etcd; `src/lib.rs` is its table
//! of contents.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// Not musl's, with which it takes half as long again to start (benches/README.md).
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    ambassador::main()
}
