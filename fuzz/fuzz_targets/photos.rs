#![cfg_attr(fuzzing, no_main)]

adaloss_fuzz::program!(adaloss_fuzz_files::photos);
