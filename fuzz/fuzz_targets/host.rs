#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ambassador::fuzzing::host(data));
