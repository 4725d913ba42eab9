//! What the check has to find: a check that finds none of these proves nothing.

use crate::entries;

entries! {
    "planted::index" => fn(&[f32], usize) -> f32 = |values, i| values[i];
    "planted::slice" => fn(&[f32], usize) -> &[f32] = |values, end| &values[..end];
    "planted::divide" => fn(u32, u32) -> u32 = |count, by| count / by;
    "planted::expect" => fn(Option<f32>) -> f32 = |value| value.expect("a value");
    "planted::copy" => fn(&mut [f32], &[f32]) = |to, from| to.copy_from_slice(from);
    "planted::assert" => fn(u32) = |count| assert!(count > 0);
}
