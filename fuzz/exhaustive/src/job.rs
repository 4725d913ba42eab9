//! The list of everything that is checked.

use adaloss_core::{
    format::{Encoding, Rounding},
    scale::Scale,
};
use adaloss_oracle::Reference;

use crate::{Subject, Tally, narrow, widen};

/// The f32 magnitudes of a block: block `b` of a job "from f32" begins at the bits `b * BLOCK`.
///
/// What is kept of a block stays below the size from which `malloc` asks the system.
pub const BLOCK: u32 = 1 << 10;

/// One question, cut into blocks.
pub struct Job<'a> {
    name: String,
    blocks: u64,
    check: Box<dyn Fn(u64) -> Tally + Sync + 'a>,
}

impl<'a> Job<'a> {
    fn new(name: String, blocks: u64, check: impl Fn(u64) -> Tally + Sync + 'a) -> Self {
        Self { name, blocks, check: Box::new(check) }
    }

    /// Returns what the job is called, in words.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of blocks.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Checks one block.
    pub fn check(&self, block: u64) -> Tally {
        (self.check)(block)
    }
}

/// APFloat's rounding to every encoding, which every job needs.
pub struct References([Reference; Encoding::ALL.len()]);

impl References {
    /// Decodes the numbers of every encoding.
    pub fn new() -> Self {
        Self(Encoding::ALL.map(Reference::new))
    }
}

impl Default for References {
    fn default() -> Self {
        Self::new()
    }
}

const ROUNDINGS: [(Rounding, &str); 3] = [
    (Rounding::NearestEven, "nearest even"),
    (Rounding::TowardZero, "toward zero"),
    (Rounding::Stochastic, "stochastic"),
];

/// Returns the encodings all of whose patterns are looked at: those of 8 and 16 bits.
fn small() -> impl Iterator<Item = Encoding> {
    Encoding::ALL.into_iter().filter(|encoding| encoding.bits() < 32)
}

/// The greatest difference of two legal scales.
const MAX_SHIFT: i32 = Scale::MAX.log2() - Scale::MIN.log2();

/// Lists the jobs.
pub fn jobs<'a, S: Subject>(subject: &'a S, references: &'a References) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for reference in &references.0 {
        for rounding in ROUNDINGS {
            jobs.push(from_f32(subject, reference, rounding));
        }
    }
    jobs.extend(references.0.iter().map(|reference| from_small_f32(subject, reference)));
    jobs.extend(small().map(|encoding| rescaled(subject, references, encoding)));
    for encoding in small() {
        let name = encoding.name();
        let check = move |_| widen::widened(subject, encoding);
        jobs.push(Job::new(format!("{name} widened"), 1, check));
        let check =
            move |block| widen::unscaled(subject, encoding, Scale::saturating(block as i32 - 126));
        jobs.push(Job::new(format!("{name} unscaled from every scale"), 253, check));
        let check = move |block| widen::shifted(subject, encoding, block as i32 - MAX_SHIFT);
        let blocks = 2 * MAX_SHIFT as u64 + 1;
        jobs.push(Job::new(format!("{name} shifted by every shift"), blocks, check));
    }
    jobs
}

/// Every f32, narrowed without a shift.
fn from_f32<'a, S: Subject>(
    subject: &'a S,
    reference: &'a Reference,
    (rounding, rounding_name): (Rounding, &str),
) -> Job<'a> {
    let name = format!("{} {rounding_name} from f32", reference.encoding().name());
    Job::new(name, (1 << 31) / u64::from(BLOCK), move |block| {
        narrow::check(subject, reference, (rounding, 0), block, &magnitudes(block))
    })
}

/// Every f32 below 2^-119, subnormals above all, narrowed with the greatest shift at which f32
/// subnormals round to zero whatever they are, and with the one after it.
///
/// Vector code normalises subnormals from there on and not before.
fn from_small_f32<'a, S: Subject>(subject: &'a S, reference: &'a Reference) -> Job<'a> {
    const MAGNITUDES: u64 = 8 << 23;
    let encoding = reference.encoding();
    // All are below 2^-126, and a product below half the smallest number rounds to zero.
    let last = encoding.min_subnormal_log2() - 1 + 126;
    let name = format!("{} from small f32 at 2^{last} and 2^{}", encoding.name(), last + 1);
    Job::new(name, MAGNITUDES / u64::from(BLOCK), move |block| {
        let deterministic = [Rounding::NearestEven, Rounding::TowardZero];
        let ways = deterministic.into_iter().flat_map(|r| [(r, last), (r, last + 1)]);
        ways.map(|way| narrow::check(subject, reference, way, block, &magnitudes(block)))
            .fold(Tally::default(), Tally::merge)
    })
}

fn magnitudes(block: u64) -> Vec<f32> {
    let first = block as u32 * BLOCK;
    (first..first + BLOCK).map(f32::from_bits).collect()
}

/// Every number of an encoding, narrowed into every encoding with every shift.
fn rescaled<'a, S: Subject>(
    subject: &'a S,
    references: &'a References,
    encoding: Encoding,
) -> Job<'a> {
    let all = widen::patterns(encoding).end / 2;
    let length = all.min(BLOCK);
    let parts = u64::from(all / length);
    let shifts = 2 * MAX_SHIFT as u64 + 1;
    let name = format!("{} into every encoding by every shift", encoding.name());
    Job::new(name, parts * shifts, move |block| {
        let (part, k) = ((block / shifts) as u32, (block % shifts) as i32 - MAX_SHIFT);
        let patterns = part * length..(part + 1) * length;
        let values: Vec<f32> = patterns.map(|bits| widen::value(encoding.into(), bits)).collect();
        let mut tally = Tally::default();
        for reference in &references.0 {
            for (rounding, _) in ROUNDINGS {
                let way = (rounding, k);
                tally = tally.merge(narrow::check(subject, reference, way, block, &values));
            }
        }
        tally
    })
}
