#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| appm_fuzz::targets::import_crontab(data));
