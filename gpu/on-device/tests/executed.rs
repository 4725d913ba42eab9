//! What the shipped text of each entry executes, which is committed: no kernel grows unnoticed.
//!
//! ```sh
//! ADALOSS_BLESS=1 cargo test -p adaloss-on-device --test executed    # writes the table anew
//! ```
//!
//! An entry is called with two sizes on one block, by the host's own code, and executed by the interpreter.  What
//! the second costs more is divided by what it has more: instructions of a thread and sectors for an element of a
//! tensor, or instructions of a warp and sectors for 32 terms of its sums.  What is left of the first is fixed: instructions
//! of the block's warps.  Bank conflicts and divergences are those of the second size.

#![cfg(target_os = "linux")]

use std::{collections::BTreeMap, env, fs, num::NonZero, path::Path};

use adaloss_driver::{Executed, Simulated};
use adaloss_gpu::Cuda;
use adaloss_kernels::entries::COUNT;
use adaloss_on_device::entries::{self, Sizes};

/// By how much a count may be greater than what is committed.
const MOST_GROWTH: f64 = 1.03;

/// Chunks of eight elements for every thread, 8 and 16 times, of which none overflow; a tile of sums of 128 and of 384
/// terms.
const SIZES: [Sizes; 2] = [
    Sizes { elements: 1 << 14, to_log2: 0, product: [128, 128, 128] },
    Sizes { elements: 1 << 15, to_log2: 0, product: [128, 384, 128] },
];

const HEADER: &str = "entry,per,instructions,sectors,fixed_instructions,bank_conflicts,divergences";

/// Returns what every entry executes, for both sizes.
fn executed(driver: &Simulated, device: &mut Cuda) -> BTreeMap<String, [Executed; 2]> {
    let mut all = BTreeMap::<_, [Executed; 2]>::new();
    for (nth, sizes) in SIZES.into_iter().enumerate() {
        let run = entries::run(device, sizes, &mut |name, work| {
            // What the operations of other rows have launched it for.
            driver.take_executed(name);
            let found = work()?;
            assert!(found.is_null(), "{name}: {found}");
            let executed = driver.take_executed(name).expect("it was launched");
            all.entry(name.to_owned()).or_default()[nth] = executed;
            Ok(())
        });
        run.expect("every entry runs");
    }
    all
}

/// Terms of all sums of the first product.
const OF_TILES: f64 = (128 * 128 * 128) as f64;

/// Features of all pairs of a query and a key that it sees, of each sequence of attention, of which there are one and two.
const OF_ATTENTION: f64 = (2 * 32 * (64 * 65 / 2)) as f64;

/// Terms of all sums of the first convolution, in three directions.
const OF_FILTERS: f64 = (3 * 512 * 32 * 96) as f64;

/// Returns a row of the table, and the numbers that must not grow.
fn row(name: &str, [first, second]: [Executed; 2]) -> (String, [f64; 5]) {
    let of_scalers = ["advance", "describe", "close", "judge", "conclude"];
    let of_sums = ["add_sums", "moments_of_parts", "sums_of_parts"];
    // What there is of it in the first size, how much more in the second, and how many threads share an instruction.
    let (per, base, more, threads) = match name.strip_prefix("adaloss_").unwrap_or(name) {
        name if of_scalers.contains(&name) || of_sums.contains(&name) => {
            ("call", 0.0, f64::INFINITY, 1.0)
        }
        // Of the left operand of the product.
        name if name.starts_with("factors") => ("element", 16384.0, 32768.0, 32.0),
        name if name.starts_with("multiply") => ("term", OF_TILES, 2.0 * OF_TILES, 32.0),
        name if name.starts_with("attend") => ("term", OF_ATTENTION, OF_ATTENTION, 32.0),
        // Three directions over 512 or twice as many pixels, 32 filters, and 96 terms of each.
        name if name.starts_with("convolve") => ("term", OF_FILTERS, OF_FILTERS, 32.0),
        // Of half as many sums.
        name if name.contains("_slim_") => ("32 terms of a warp", 16.0, 32.0, 1.0),
        name if name.starts_with("matmul") || name.starts_with("implicit") => {
            ("32 terms of a warp", 32.0, 64.0, 1.0)
        }
        _ => ("element", 16384.0, 16384.0, 32.0),
    };
    // Of calls it is 0, and not -0.
    let per_one = |of: fn(&Executed) -> u64| (of(&second) as f64 - of(&first) as f64) / more + 0.0;
    let (instructions, sectors) = (per_one(|of| of.instructions), per_one(|of| of.sectors));
    let fixed = (first.instructions as f64 - base * instructions) / first.launches as f64;
    let numbers = [
        threads * instructions,
        sectors,
        // Of a last round of blocks that has few results, the first size may have less than its share.
        fixed.round().max(0.0),
        second.bank_conflicts as f64,
        second.divergences as f64,
    ];
    let [instructions, sectors, fixed, conflicts, divergences] = numbers;
    let text =
        format!("{name},{per},{instructions:.2},{sectors:.4},{fixed},{conflicts},{divergences}");
    (text, numbers)
}

#[test]
fn no_kernel_executes_more_than_the_table_says() {
    let driver = Simulated::open().expect("Cargo built the simulated driver");
    driver.keep_order();
    for (ordinal, architecture) in [(3, "sm_90a"), (4, "sm_80")] {
        let mut device = Cuda::new(ordinal).expect("a device that executes text");
        device.limit_blocks(NonZero::new(1));
        let rows: Vec<_> = executed(&driver, &mut device)
            .into_iter()
            .map(|(name, counts)| row(&name, counts))
            .collect();
        assert_eq!(rows.len(), COUNT);
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../ptx/{architecture}.executed.csv"));
        let text: String = rows.iter().map(|(line, _)| format!("{line}\n")).collect();
        if env::var_os("ADALOSS_BLESS").is_some() {
            fs::write(&path, format!("{HEADER}\n{text}")).expect("the table is written");
            continue;
        }
        let committed = fs::read_to_string(&path).expect("the table is committed");
        let committed: Vec<_> = committed.lines().skip(1).collect();
        assert_eq!(committed.len(), rows.len(), "{}: one row for each entry", path.display());
        for (was, (line, numbers)) in committed.iter().zip(&rows) {
            let columns =
                was.split(',').skip(2).map(|number| number.parse::<f64>().expect("a number"));
            for (was, now) in columns.zip(numbers) {
                // A number as small as the last digit may be another one.
                assert!(
                    *now <= was * MOST_GROWTH + 0.01,
                    "{architecture}: more than was committed: {now} and not {was}\n{HEADER}\n{line}"
                );
            }
        }
    }
}
