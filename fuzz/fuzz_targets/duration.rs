#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ambassador::fuzzing::duration(data));
