//! `ambassador` connects containers across hosts through etcd; `src/lib.rs` is its table
//! of contents.

use std::process::ExitCode;

fn main() -> ExitCode {
    ambassador::main()
}
